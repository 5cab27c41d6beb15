import CFuse3
import Glibc
import Locks

/// The messages of libfuse. It prints them to standard error; while a session is set up they are
/// collected instead, to become part of one error message.
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
    defer { fuse_set_log_func(nil) }
    let result = body()
    let detail = collected.withLock { $0 }
      .split(whereSeparator: \.isNewline).joined(separator: "; ")
    return (result, detail.isEmpty ? String(cString: strerror(errno)) : detail)
  }
}
