import CLinux
import Glibc
import Locks
import Logging
import PrintableText

/// The destination of log lines. At first it is standard error, so that problems while mounting are
/// seen, and the log file, if one was named; then the file alone, or the system's log when there is
/// no terminal to write to.
final class LogOutput: Sendable {
  enum Destination: Sendable {
    case standardError
    case standardErrorAndFile(Int32)
    /// A descriptor open for appending.
    case file(Int32)
    case systemLog
  }

  private let destination = Lock(Destination.standardError)

  func redirect(to new: Destination) { destination.withLock { $0 = new } }

  func write(_ level: Logger.Level, _ message: String) {
    // A log line stays one line without control characters, whatever a key or a path in it holds.
    let text = printable(message, limit: .max)
    destination.withLock { destination in
      switch destination {
      case .standardError:
        Self.append("inventoryfs: \(level): \(text)\n", to: STDERR_FILENO)
      case .standardErrorAndFile(let file):
        Self.append("inventoryfs: \(level): \(text)\n", to: STDERR_FILENO)
        Self.append("\(Self.timestamp()) \(level) \(text)\n", to: file)
      case .file(let file):
        Self.append("\(Self.timestamp()) \(level) \(text)\n", to: file)
      case .systemLog:
        inventoryfs_syslog(LOG_DAEMON | level.priority, "\(level): \(text)")
      }
    }
  }

  /// Appends a line by one write, so that lines of two processes in one file do not mix.
  static func append(_ line: String, to file: Int32) {
    let bytes = Array(line.utf8)
    _ = Glibc.write(file, bytes, bytes.count)
  }

  private static func timestamp() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let count = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
    let milliseconds = String(now.tv_nsec / 1_000_000 + 1000).dropFirst()
    return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      + ".\(milliseconds)Z"
  }
}

extension Logger.Level {
  fileprivate var priority: Int32 {
    switch self {
    case .trace, .debug: LOG_DEBUG
    case .info: LOG_INFO
    case .notice: LOG_NOTICE
    case .warning: LOG_WARNING
    case .error: LOG_ERR
    case .critical: LOG_CRIT
    }
  }
}

/// Connects swift-log to a `LogOutput`.
struct OutputLogHandler: LogHandler {
  let output: LogOutput
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) { output.write(event.level, "\(event.message)") }
}
