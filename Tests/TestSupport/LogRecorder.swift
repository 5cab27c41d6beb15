import Locks
public import Logging

/// Remembers what was logged, each message with its level before it.
public final class LogRecorder: Sendable {
  private let recorded = Lock<[String]>([])

  private let willRecord: @Sendable (String) -> Void

  /// - Parameter willRecord: called with each message by the thread that logs it.
  public init(_ willRecord: @escaping @Sendable (String) -> Void = { _ in }) {
    self.willRecord = willRecord
  }

  public var messages: [String] { recorded.withLock { $0 } }

  public var logger: Logger { Logger(label: "recorded") { _ in Handler(recorder: self) } }

  private struct Handler: LogHandler {
    let recorder: LogRecorder
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      recorder.willRecord("\(event.message)")
      recorder.recorded.withLock { $0.append("\(event.level): \(event.message)") }
    }
  }
}
