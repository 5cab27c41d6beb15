import Glibc
import Logging
import SystemPackage

/// Chunks that are files under a folder already: read in place, without the cache.
struct LocalChunks: Sendable {
  let root: String
  /// The bucket that the manifest names, for the extended attribute.
  let bucket: String?
  let logger: Logger

  func open(_ node: NodeID, _ chunk: Inventory.Chunk) throws(FileSystemError) -> OpenFile {
    guard let path = Self.path(ofKey: chunk.key, under: root) else {
      logger.error("chunk key '\(chunk.key)' leads out of \(root); it is not opened")
      throw .notFound
    }
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      let code = Errno(rawValue: errno)
      logger.error("\(path): \(code)")
      switch code {
      case .noSuchFileOrDirectory: throw .notFound
      case .permissionDenied: throw .accessDenied
      case .tooManyOpenFiles, .tooManyOpenFilesInSystem: throw .tooManyOpenFiles
      default: throw .inputOutput
      }
    }
    let file = OpenFile(
      node: node, content: .localFile(descriptor), sizeInBytes: chunk.sizeInBytes)
    var info = stat()
    guard fstat(descriptor, &info) == 0, Int(info.st_size) == chunk.sizeInBytes else {
      logger.error(
        "\(path): the manifest says \(chunk.sizeInBytes) bytes, the file has \(info.st_size); it is not the object that the inventory was made of"
      )
      throw .inputOutput
    }
    return file
  }

  static func read(
    _ descriptor: Int32, _ bytes: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(FileSystemError) -> Int {
    var done = 0
    while done < bytes.count {
      let count = pread(
        descriptor, buffer.baseAddress?.advanced(by: done), bytes.count - done,
        bytes.lowerBound + done)
      if count > 0 {
        done += count
      } else if count == 0 {
        return done
      } else if errno != EINTR {
        throw .inputOutput
      }
    }
    return done
  }

  /// Nil for a key that does not stay below the folder.
  static func path(ofKey key: String, under root: String) -> String? {
    let components = key.split(separator: "/", omittingEmptySubsequences: true)
    guard !components.isEmpty, !components.contains(".."), !key.utf8.contains(0) else { return nil }
    return root + "/" + components.joined(separator: "/")
  }
}
