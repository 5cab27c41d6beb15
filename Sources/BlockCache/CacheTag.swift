import CLinux
import Glibc
import SystemPackage

/// The file `CACHEDIR.TAG`, which marks a folder as this program's, and tells backup programs to
/// skip it (https://bford.info/cachedir/).
///
/// The tag is written to a new file, which then gets the tag's name, so that no existing file is
/// ever written into. After a power loss a tag may still lack its text, or a part of it: such a tag
/// is replaced, provided that it cannot be another program's.
enum CacheTag {
  private static let name = "CACHEDIR.TAG"
  private static let newName = "CACHEDIR.TAG.new"
  private static let text = Array(
    """
    Signature: 8a477f597d28d172789f06886806bc55
    # Chunks cached by inventoryfs; safe to delete while it is not mounted.

    """.utf8)

  private enum Finding {
    case missing
    /// The whole text.
    case whole
    /// A file that a crash of this program may have left: a beginning of the text, in a regular
    /// file of ours that has no other name.
    case leftover
    case foreign
  }

  /// Marks a new folder as ours.
  ///
  /// - Throws: `BlockCacheError.unusableDirectory` where the folder has files but not our tag.
  static func write(in root: borrowing OwnedDescriptor, path: String) throws(BlockCacheError) {
    if inspect(name, in: root) == .whole { return }
    // A crash may have come between the folder and its tag.
    guard try root.listNames(path: path).allSatisfy({ $0 == name || $0 == newName }),
      inspect(name, in: root) != .foreign, inspect(newName, in: root) != .foreign
    else {
      // Another mount may just have made the folder: its tag comes before everything else.
      if inspect(name, in: root) == .whole { return }
      throw .unusableDirectory(
        path: path,
        found: "has files, but no \(name) of inventoryfs, so inventoryfs did not create it",
        remedy: "set --cache-dir to another")
    }
    do throws(Errno) {
      unlinkat(root.raw, newName, 0)
      let raw = openat(root.raw, newName, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
      guard raw >= 0 else { throw Errno(rawValue: errno) }
      let file = OwnedDescriptor(raw: raw)
      do throws(Errno) {
        try file.write(text)
        guard renameat(root.raw, newName, root.raw, name) == 0 else {
          throw Errno(rawValue: errno)
        }
      } catch {
        unlinkat(root.raw, newName, 0)
        throw error
      }
    } catch {
      // Another mount may have written the tag at the same time.
      if inspect(name, in: root) == .whole { return }
      throw CacheDirectory.unwritable(path, error)
    }
  }

  private static func inspect(_ name: String, in root: borrowing OwnedDescriptor) -> Finding {
    let raw = openat(root.raw, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard raw >= 0 else { return errno == ENOENT ? .missing : .foreign }
    let file = OwnedDescriptor(raw: raw)
    var info = stat()
    guard fstat(file.raw, &info) == 0, info.isRegularFile else { return .foreign }
    var bytes = [UInt8](repeating: 0, count: text.count + 1)
    let count = pread(file.raw, &bytes, bytes.count, 0)
    guard count >= 0 else { return .foreign }
    if bytes[..<count].elementsEqual(text) { return .whole }
    return text.starts(with: bytes[..<count]) && info.isPlainFile && info.st_uid == geteuid()
      ? .leftover : .foreign
  }
}
