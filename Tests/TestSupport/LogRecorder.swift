import Locks
public import Logging

/// Remembers what was logged, each message with its level before it.
public final class LogRecorder: Sendable {
  private let recorded = Lock<[String]>([])

  public init() {}

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
      recorder.recorded.withLock { $0.append("\(event.level): \(event.message)") }
    }
  }
}
