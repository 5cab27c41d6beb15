import CLinux
import Glibc
import SystemPackage

/// Owns a file descriptor and closes it.
struct OwnedDescriptor: ~Copyable {
  let raw: Int32

  init(raw: Int32) { self.raw = raw }

  init(
    opening name: String, in directory: Int32, flags: Int32, path: String
  ) throws(BlockCacheError) {
    let descriptor = openat(directory, name, flags | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw .system(operation: "open", path: path, Errno(rawValue: errno))
    }
    raw = descriptor
  }

  deinit { close(raw) }

  /// Whether this is a regular file that no other name leads to; see `stat.isPlainFile`.
  var isPlainFile: Bool {
    var info = stat()
    return fstat(raw, &info) == 0 && info.isPlainFile
  }

  /// Writes a few bytes at the file's beginning.
  func write(_ bytes: [UInt8]) throws(Errno) {
    let count = pwrite(raw, bytes, bytes.count, 0)
    // Only a failed call sets errno.
    guard count >= 0 else { throw Errno(rawValue: errno) }
    guard count == bytes.count else { throw .noSpace }
  }

  /// The names in this directory.
  ///
  /// - Parameter path: the directory's path, for messages.
  /// - Throws: an error when not all of them can be read: a directory that cannot be listed is not
  ///   empty.
  func listNames(path: String) throws(BlockCacheError) -> [String] {
    // fdopendir takes the descriptor over, so it gets one of its own.
    let descriptor = openat(raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0, let stream = fdopendir(descriptor) else {
      let code = Errno(rawValue: errno)
      if descriptor >= 0 { close(descriptor) }
      throw .system(operation: "list", path: path, code)
    }
    defer { closedir(stream) }
    var names: [String] = []
    while true {
      errno = 0
      guard let item = readdir(stream) else {
        guard errno == 0 else {
          throw .system(operation: "list", path: path, Errno(rawValue: errno))
        }
        return names
      }
      let name = String(cString: inventoryfs_entry_name(item))
      if name != ".", name != ".." { names.append(name) }
    }
  }
}

extension stat {
  /// Whether this is a regular file with at most one name. What is written into a file with a
  /// second name (hard link), such as a backup's, changes that too.
  var isPlainFile: Bool { isRegularFile && st_nlink <= 1 }

  var isRegularFile: Bool { st_mode & S_IFMT == S_IFREG }
}

/// Tells a directory from others that its path may name later: its file system's device and its
/// inode.
struct FolderIdentity: Sendable, Equatable {
  private let device: dev_t
  private let inode: ino_t

  /// Nil where the directory cannot be inspected, with the reason in errno.
  init?(_ folder: borrowing OwnedDescriptor) {
    var info = stat()
    guard fstat(folder.raw, &info) == 0 else { return nil }
    (device, inode) = (info.st_dev, info.st_ino)
  }
}
