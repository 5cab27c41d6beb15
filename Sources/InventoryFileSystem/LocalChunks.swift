import CLinux
import Glibc
import InventoryManifest
import Locks
import Logging
import PrintableText
import SystemPackage

/// Chunks that are files under a folder; they are read in place, without the cache.
final class LocalChunks: Sendable {
  let root: String
  private let keyPrefix: KeyPrefix
  /// The bucket that the manifest names, for the extended attribute.
  let bucket: String?
  private let logger: Logger
  /// The identity of each file when it was first opened, and whether it has changed since: the
  /// kernel may have pages of it.
  private let seen = Lock<[NodeID: (first: FileVersion, isSame: Bool)]>([:])

  private struct FileVersion: Equatable {
    let device: UInt
    let inode: UInt
    let changedAt: [Int]

    init(_ info: stat) {
      device = info.st_dev
      inode = info.st_ino
      changedAt = [info.st_ctim.tv_sec, info.st_ctim.tv_nsec]
    }
  }

  init(root: String, keyPrefix: KeyPrefix, bucket: String?, logger: Logger) {
    self.root = root
    self.keyPrefix = keyPrefix
    self.bucket = bucket
    self.logger = logger
  }

  func open(_ node: NodeID, _ chunk: Inventory.Chunk) throws(FileSystemError) -> OpenFile {
    let descriptor: Int32
    do throws(Errno) {
      // The open does not wait for the writer of a pipe, so that the pipe can be recognized.
      descriptor = try Self.open(
        keyPrefix.applied(to: chunk.key), under: root, O_RDONLY | O_NONBLOCK)
    } catch {
      let problem =
        error == .improperLink
        ? "its path leads out of the folder" : "the file cannot be opened (\(error))"
      logger.error("\(name(chunk)): \(problem)")
      switch error {
      case .noSuchFileOrDirectory, .improperLink: throw .notFound
      case .permissionDenied: throw .accessDenied
      case .tooManyOpenFiles, .tooManyOpenFilesInSystem: throw .tooManyOpenFiles
      default: throw .inputOutput
      }
    }
    var info = stat()
    let isKnown = fstat(descriptor, &info) == 0
    if let problem = isKnown ? Self.problem(info, chunk) : "\(Errno(rawValue: errno))" {
      Glibc.close(descriptor)
      logger.error("\(name(chunk)): \(problem)")
      throw .inputOutput
    }
    // A file that is not opened leaves no pages behind.
    return OpenFile(
      node: node, content: .localFile(descriptor), sizeInBytes: chunk.sizeInBytes,
      mayKeepPages: isSame(FileVersion(info), as: node))
  }

  /// Why a file is not the expected chunk; nil where it may be.
  private static func problem(_ info: stat, _ chunk: Inventory.Chunk) -> String? {
    guard info.st_mode & S_IFMT == S_IFREG else { return "it is not a regular file" }
    guard Int(info.st_size) == chunk.sizeInBytes else {
      return "the manifest says \(chunk.sizeInBytes) bytes, the file has \(info.st_size); "
        + "it is not the object that the inventory was made of"
    }
    return nil
  }

  private func isSame(_ version: FileVersion, as node: NodeID) -> Bool {
    seen.withLock { seen in
      let known = seen[node, default: (version, true)]
      let isSame = known.isSame && known.first == version
      seen[node] = (known.first, isSame)
      return isSame
    }
  }

  /// Fills the beginning of the buffer with `bytes`, all of which lie within the size that the file
  /// had when it was opened.
  func read(
    _ chunk: Inventory.Chunk, _ descriptor: Int32, _ bytes: Range<Int>,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(FileSystemError) {
    var done = 0
    while done < bytes.count {
      let count = pread(
        descriptor, buffer.baseAddress?.advanced(by: done), bytes.count - done,
        bytes.lowerBound + done)
      if count > 0 {
        done += count
      } else if count == 0 || errno != EINTR {
        let problem =
          count == 0
          ? "the file ends at byte \(bytes.lowerBound + done); it was cut off after it was opened"
          : "\(Errno(rawValue: errno))"
        logger.error("\(name(chunk)): \(problem)")
        throw .inputOutput
      }
    }
  }

  /// The chunk's path, for messages.
  private func name(_ chunk: Inventory.Chunk) -> String {
    printable(root + "/" + keyPrefix.applied(to: chunk.key), limit: 1024)
  }

  /// Opens the file that a key names. A file outside of the folder, because of its name or of a
  /// link, is an `improperLink`.
  private static func open(
    _ key: String, under root: String, _ flags: Int32
  ) throws(Errno) -> Int32 {
    let components = key.split(separator: "/", omittingEmptySubsequences: true)
    guard !components.isEmpty, !components.contains(".."), !key.utf8.contains(0) else {
      throw .improperLink
    }
    let folder = Glibc.open(root, inventoryfs_o_path | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw Errno(rawValue: errno) }
    defer { Glibc.close(folder) }
    let descriptor = inventoryfs_open_beneath(folder, components.joined(separator: "/"), flags)
    guard descriptor >= 0 else { throw Errno(rawValue: -descriptor) }
    return descriptor
  }

  enum Presence { case present, absent, outside }

  /// Whether the key names anything below the folder; `outside` if a link leads out of it.
  static func presence(of key: String, under root: String) -> Presence {
    do throws(Errno) {
      Glibc.close(try open(key, under: root, inventoryfs_o_path))
      return .present
    } catch {
      let isLink = error == .improperLink && !key.split(separator: "/").contains("..")
      return isLink ? .outside : .absent
    }
  }

  /// Opens a folder below the root, "" for the root itself; -1 if it cannot be opened. The caller
  /// closes it.
  static func folder(_ path: String, under root: String) -> Int32 {
    (try? open(path.isEmpty ? "." : path, under: root, inventoryfs_o_path | O_DIRECTORY)) ?? -1
  }

  /// The size of the file that a key names. Nil where the key does not name a regular file below
  /// the folder, or names one that is larger than any chunk.
  static func sizeInBytes(ofKey key: String, under root: String) -> UInt64? {
    guard let descriptor = try? open(key, under: root, inventoryfs_o_path) else { return nil }
    defer { Glibc.close(descriptor) }
    var info = stat()
    guard fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG,
      let size = UInt64(exactly: info.st_size), size <= InventoryManifest.Chunk.maximumSizeInBytes
    else { return nil }
    return size
  }
}
