import CLinux
import DequeModule
import Dispatch
import Glibc
import Locks
import Logging
import PrintableText

/// The destination of log lines. At first it is standard error, so that problems while mounting are
/// seen, and the log file, if one was named; then the file alone, or the system's log when there is
/// no terminal to write to.
///
/// A line is written by a thread of libdispatch, so that nobody waits for a log that hangs: a pipe
/// that is not read, a disk that does not respond. Of the lines that come meanwhile a bounded
/// number is kept; the others are dropped and counted, and the log says how many are missing once
/// it takes lines again. The same is done for lines that cannot be written, because the disk is
/// full.
final class LogOutput: Sendable {
  enum Destination: Sendable {
    case standardError
    case standardErrorAndFile(Int32)
    /// A descriptor open for appending.
    case file(Int32)
    case systemLog
  }

  private struct Line {
    let destination: Destination
    let level: Logger.Level
    let text: String
    let time: timespec
  }

  private struct State {
    var destination = Destination.standardError
    /// The lines that are not written yet, the oldest first.
    var lines: Deque<Line> = []
    /// How many lines are missing behind the last one that was written or is in `lines`.
    var droppedCount = 0
    /// Whether the last line could not be written.
    var isFailing = false
    /// Whether the last line that could not be written was the report of missing lines.
    var hasReportFailed = false
    /// Whether `writeLines` runs, or is about to.
    var isWriting = false
  }

  /// How many lines are kept at most while the log hangs: some hundred KB.
  static let mostLines = 1000

  private let state = Lock(State())
  private let queue = DispatchQueue(label: "log")
  /// A descriptor of standard error of our own, because libfuse's messages are collected by putting
  /// a file in the place of standard error (`LibfuseLog`). -1 once it is not needed any more.
  private let standardError = Lock(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3))

  deinit { closeStandardError() }

  /// Sets the destination of later lines.
  func redirect(to new: Destination) {
    state.withLock { $0.destination = new }
    switch new {
    case .standardError, .standardErrorAndFile: break
    // A daemon does not keep its terminal. The lines so far are written first: the queue is serial.
    case .file, .systemLog: queue.async { [self] in closeStandardError() }
    }
  }

  private func closeStandardError() {
    standardError.withLock { descriptor in
      if descriptor >= 0 { close(descriptor) }
      descriptor = -1
    }
  }

  /// Adds a line, or drops it if the log hangs and too many lines wait; never blocks.
  func write(_ level: Logger.Level, _ message: String) {
    // A log line stays one line without control characters, whatever a key or a path in it holds.
    let text = printable(message, limit: .max)
    let mustStart = state.withLock { state in
      // Once lines are missing, all are dropped until those before are written: so there is one
      // place where lines are missing, and one line that says so.
      if state.isWriting, state.droppedCount > 0 || state.lines.count >= Self.mostLines {
        state.droppedCount += 1
        return false
      }
      state.lines.append(
        Line(destination: state.destination, level: level, text: text, time: Self.now))
      defer { state.isWriting = true }
      return !state.isWriting
    }
    if mustStart { queue.async { [self] in writeLines() } }
  }

  /// Waits until the lines so far are written.
  ///
  /// - Returns: false if that has taken longer than the limit.
  func flush(withinMilliseconds limit: Int) -> Bool {
    guard state.withLock({ $0.isWriting }) else { return true }
    let isWritten = DispatchSemaphore(value: 0)
    // The queue is serial, so this follows the lines.
    queue.async { isWritten.signal() }
    return isWritten.wait(timeout: .now() + .milliseconds(limit)) == .success
  }

  // MARK: On the queue

  private enum Step {
    case write(Line)
    /// Says that so many lines are missing.
    case report(missing: Int)
  }

  private func writeLines() {
    while let step = nextStep() {
      switch step {
      case .write(let line):
        let isWritten = write(line)
        state.withLock { state in
          state.isFailing = !isWritten
          state.hasReportFailed = false
          if !isWritten { state.droppedCount += 1 }
        }
      case .report(let count):
        let text =
          "\(count) lines are missing here: the log could not be written, or not fast enough"
        let line = state.withLock { state in
          Line(destination: state.destination, level: .warning, text: text, time: Self.now)
        }
        let isWritten = write(line)
        state.withLock { state in
          state.isFailing = !isWritten
          state.hasReportFailed = !isWritten
          if isWritten { state.droppedCount -= count }
        }
      }
    }
  }

  private func nextStep() -> Step? {
    state.withLock { state in
      let isDue = state.droppedCount > 0 && (state.isFailing || state.lines.isEmpty)
      if isDue, !state.hasReportFailed { return .report(missing: state.droppedCount) }
      if let line = state.lines.popFirst() { return .write(line) }
      state.isWriting = false
      state.hasReportFailed = false
      return nil
    }
  }

  private var standardErrorDescriptor: Int32 {
    let own = standardError.withLock { $0 }
    return own >= 0 ? own : STDERR_FILENO
  }

  private func write(_ line: Line) -> Bool {
    switch line.destination {
    case .standardError:
      return Self.append("inventoryfs: \(line.level): \(line.text)\n", to: standardErrorDescriptor)
    case .standardErrorAndFile(let file):
      Self.append("inventoryfs: \(line.level): \(line.text)\n", to: standardErrorDescriptor)
      return Self.append("\(Self.text(of: line.time)) \(line.level) \(line.text)\n", to: file)
    case .file(let file):
      return Self.append("\(Self.text(of: line.time)) \(line.level) \(line.text)\n", to: file)
    case .systemLog:
      inventoryfs_syslog(LOG_DAEMON | line.level.priority, "\(line.level): \(line.text)")
      return true
    }
  }

  /// Appends a line, mostly by one write, so that lines of two processes in one file do not mix.
  /// Waits if the file takes no bytes at the moment.
  ///
  /// - Returns: whether the whole line was written.
  @discardableResult
  static func append(_ line: String, to file: Int32) -> Bool {
    var bytes = Array(line.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      if count > 0 {
        bytes = bytes.dropFirst(count)
      } else if errno == EAGAIN {
        var item = pollfd(fd: file, events: Int16(POLLOUT), revents: 0)
        poll(&item, 1, -1)
      } else if errno != EINTR {
        return false
      }
    }
    return true
  }

  private static var now: timespec {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return now
  }

  private static func text(of time: timespec) -> String {
    var seconds = time.tv_sec
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let count = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
    let milliseconds = String(time.tv_nsec / 1_000_000 + 1000).dropFirst()
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
