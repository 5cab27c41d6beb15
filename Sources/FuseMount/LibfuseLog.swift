import CFuse3
import CLinux
import Glibc
import Locks

/// The messages of libfuse and of fusermount3, which libfuse runs for ordinary users. They print
/// them to standard error; while a session is set up they are collected instead, to become part of
/// one error message.
enum LibfuseLog {
  private static let collected = Lock<String>("")

  static func collect<T>(_ body: () -> T) -> (result: T, detail: String) {
    collected.withLock { $0 = "" }
    fuse_set_log_func { _, format, arguments in
      guard let format, let arguments else { return }
      var line = [CChar](repeating: 0, count: 1024)
      vsnprintf(&line, line.count, format, arguments)
      let text = line.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
      LibfuseLog.collected.withLock { $0 += text }
    }
    let errors = ErrorCapture()
    let result = body()
    let code = errno
    let printed = errors?.end() ?? ""
    fuse_set_log_func(nil)
    let detail = (collected.withLock { $0 } + printed)
      .split(whereSeparator: \.isNewline).joined(separator: "; ")
    return (result, detail.isEmpty ? String(cString: strerror(code)) : detail)
  }
}

/// What is written to standard error, by this process and those that it starts, from the creation
/// to `end`.
private struct ErrorCapture: ~Copyable {
  private let file: Int32
  private let original: Int32

  init?() {
    let file = inventoryfs_memory_file("stderr")
    guard file >= 0 else { return nil }
    let original = inventoryfs_duplicate(STDERR_FILENO)
    guard original >= 0 else {
      close(file)
      return nil
    }
    (self.file, self.original) = (file, original)
    dup2(file, STDERR_FILENO)
  }

  deinit {
    close(file)
    close(original)
  }

  /// Gives standard error back.
  ///
  /// - Returns: the first 16 KiB of what was written.
  func end() -> String {
    dup2(original, STDERR_FILENO)
    var bytes = [UInt8](repeating: 0, count: 16 << 10)
    let count = pread(file, &bytes, bytes.count, 0)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }
}
