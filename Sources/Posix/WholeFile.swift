import Glibc

/// Reading a file whole, with a limit: special files have no size, and a wrong path may lead to
/// anything.
public enum WholeFile {
  public enum Failure: Error, Equatable {
    /// A system call failed, with this errno.
    case system(Int32)
    case tooLarge
  }

  /// Reads a file from its beginning to its end.
  ///
  /// - Parameter limitInBytes: more than that is a failure, and at most 64 KiB more are read.
  public static func read(_ path: String, limitInBytes: Int) throws(Failure) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system(errno) }
    defer { close(descriptor) }
    var info = stat()
    let sizeInBytes = fstat(descriptor, &info) == 0 ? Int(info.st_size) : 0
    guard sizeInBytes <= limitInBytes else { throw .tooLarge }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(sizeInBytes)
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(descriptor, &piece, piece.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw .system(errno) }
      if count == 0 { return bytes }
      bytes += piece[..<count]
      guard bytes.count <= limitInBytes else { throw .tooLarge }
    }
  }
}
