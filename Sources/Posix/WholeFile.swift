import Glibc

/// Reading a file whole, with a limit on its size and on each wait: special files have no size, a
/// pipe may have no writer, and the server of a file system may not respond.
public enum WholeFile {
  public enum Failure: Error, Equatable {
    /// A system call failed, with this errno.
    case system(Int32)
    case tooLarge
    /// No byte came within the time limit: a pipe has no writer, or a file system does not respond.
    case silent
    /// A regular file was expected, and this is a pipe, a device or a socket.
    case notRegular
  }

  /// How long a file may take to be opened, and for each of its next bytes to come.
  public static let usualTimeLimit = Duration.seconds(5)
  private static let largestPieceInBytes = 1 << 20

  /// Reads a file from its beginning to its end.
  ///
  /// A pipe is read to its end, too, such as that of the shell's `<(command)`.
  ///
  /// - Parameters:
  ///   - limitInBytes: more than that is a failure, and at most 1 MiB more is read.
  ///   - mustBeRegular: whether anything but a regular file is refused, without reading it.
  ///   - timeLimit: the longest wait for the opening and for each piece; nil for a file of the
  ///     kernel, which always responds.
  public static func read(
    _ path: String, limitInBytes: Int, mustBeRegular: Bool = false,
    timeLimit: Duration? = usualTimeLimit
  ) throws(Failure) -> [UInt8] {
    let file = try within(timeLimit) { OpenFile.open(path, mustBeRegular: mustBeRegular) }
    guard file.sizeInBytes <= limitInBytes else { throw .tooLarge }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(file.sizeInBytes)
    let pieceSize = file.sizeInBytes == 0 ? 64 << 10 : file.sizeInBytes + 1
    while true {
      let piece = try within(timeLimit) {
        file.piece(sizeInBytes: min(pieceSize, largestPieceInBytes), timeLimit: timeLimit)
      }
      if piece.isEmpty { return bytes }
      bytes += piece
      guard bytes.count <= limitInBytes else { throw .tooLarge }
    }
  }

  /// Whether a path leads to a pipe, which gives its bytes only once. The path must respond.
  public static func isPipe(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFIFO
  }

  private static func within<Value: Sendable>(
    _ timeLimit: Duration?, _ ask: @escaping @Sendable () -> Result<Value, Failure>
  ) throws(Failure) -> Value {
    guard let timeLimit else { return try ask().get() }
    // A pipe reports its own silence just before.
    let limit = timeLimit.inMilliseconds + 500
    return try (answer(withinMilliseconds: limit, ask) ?? .failure(.silent)).get()
  }

  /// A file that is closed once nobody uses it: a thread that a file system keeps waiting may use
  /// it for longer than the reader.
  private final class OpenFile: Sendable {
    private let descriptor: Int32
    let sizeInBytes: Int
    private let isRegular: Bool

    private init(_ descriptor: Int32, _ info: stat) {
      self.descriptor = descriptor
      isRegular = info.st_mode & S_IFMT == S_IFREG
      sizeInBytes = isRegular ? Int(info.st_size) : 0
    }

    deinit { close(descriptor) }

    static func open(_ path: String, mustBeRegular: Bool) -> Result<OpenFile, Failure> {
      // Without O_NONBLOCK a pipe would be waited for until it has a writer.
      let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
      guard descriptor >= 0 else { return .failure(.system(errno)) }
      var info = stat()
      guard fstat(descriptor, &info) == 0 else {
        let code = errno
        close(descriptor)
        return .failure(.system(code))
      }
      let file = OpenFile(descriptor, info)
      // Reading a directory fails with a better reason.
      guard !mustBeRegular || file.isRegular || info.st_mode & S_IFMT == S_IFDIR else {
        return .failure(.notRegular)
      }
      return .success(file)
    }

    /// The next bytes; none at the end.
    func piece(sizeInBytes: Int, timeLimit: Duration?) -> Result<[UInt8], Failure> {
      var piece = [UInt8](repeating: 0, count: sizeInBytes)
      while true {
        if !isRegular {
          var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
          let found = poll(&wait, 1, timeLimit.map { Int32($0.inMilliseconds) } ?? -1)
          if found == 0 { return .failure(.silent) }
        }
        let count = Glibc.read(descriptor, &piece, piece.count)
        if count < 0, errno == EINTR || errno == EAGAIN { continue }
        guard count >= 0 else { return .failure(.system(errno)) }
        piece.removeLast(piece.count - count)
        return .success(piece)
      }
    }
  }
}
