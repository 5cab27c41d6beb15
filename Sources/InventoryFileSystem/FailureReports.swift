import Logging
import ObjectStore
import Posix
import ReadPlanning

/// Which failed reads and opens the log has an error for: one for each chunk and cause.
///
/// The kernel makes several requests of one read of a program, and requests a failed page once
/// more. What fails of the same chunk for the same cause within `burst` belongs to the first error.
/// Later failures are counted, and a line in each `window` sums them up.
struct FailureReports {
  struct Key: Hashable {
    let chunk: ChunkID
    /// The cause without what differs between two requests, such as the store's request ID.
    let cause: String
  }

  enum Verdict: Equatable {
    /// The failure is to be logged.
    case new
    /// The failure belongs to the last one that was logged.
    case same
    /// The failure is counted. A summary is due after this time, if it is given.
    case counted(summaryAfter: Duration?)
  }

  static let burst = Duration.seconds(5)
  static let window = Duration.seconds(60)

  private struct Entry {
    var loggedAt: Duration
    var count = 0
    var lastText = ""
  }

  private var entries: [Key: Entry] = [:]

  /// Takes a failure.
  ///
  /// - Parameter text: the line about it, without its level.
  mutating func note(_ key: Key, _ text: String, at now: Duration) -> Verdict {
    entries = entries.filter { $0.value.count > 0 || now - $0.value.loggedAt < Self.window }
    guard var entry = entries[key] else {
      entries[key] = Entry(loggedAt: now)
      return .new
    }
    guard now - entry.loggedAt >= Self.burst else { return .same }
    entry.count += 1
    entry.lastText = text
    entries[key] = entry
    return .counted(
      summaryAfter: entry.count == 1 ? entry.loggedAt + Self.window - now : nil)
  }

  /// The line that sums up the failures counted since the last line about them; nil if there were
  /// none.
  mutating func takeSummary(of key: Key, at now: Duration) -> String? {
    guard let entry = entries[key], entry.count > 0 else { return nil }
    entries[key] = Entry(loggedAt: now)
    let time = (now - entry.loggedAt).roundedText
    return entry.count == 1
      ? entry.lastText
      : "\(entry.lastText) (\(entry.count) such failures of this chunk within \(time))"
  }
}

extension FetchCoordinator.State {
  /// Logs that a read or an open has failed, unless the log has that already.
  ///
  /// - Parameter text: what failed, why, and what to do next, without the chunk.
  mutating func reportFailure(
    _ text: String, cause: String, of id: ChunkID, _ location: S3Location,
    at level: Logger.Level = .error
  ) {
    let line = "\(location): \(text)"
    let key = FailureReports.Key(chunk: id, cause: cause)
    switch failures.note(key, line, at: clock.now) {
    case .new: log(level, line)
    case .same: log(.debug, line)
    case .counted(let delay):
      log(.debug, line)
      if let delay { work.append(.summarize(key, after: delay)) }
    }
  }
}

extension FetchCoordinator {
  /// Logs that an open has failed before the chunk was loaded.
  func report(
    _ failure: FetchFailure, of id: ChunkID, _ location: S3Location, doing what: String,
    at level: Logger.Level = .error
  ) {
    if failure.isRetryable { retries.noteReport() }
    perform(mayBlock: false) { state in
      state.reportFailure(
        "\(what) failed: \(failure.text)", cause: failure.cause, of: id, location, at: level)
      return []
    }
  }

  /// Logs what has failed repeatedly.
  func summarize(_ key: FailureReports.Key) {
    perform(mayBlock: false) { state in
      if let line = state.failures.takeSummary(of: key, at: clock.now) { state.log(.error, line) }
      return []
    }
  }
}
