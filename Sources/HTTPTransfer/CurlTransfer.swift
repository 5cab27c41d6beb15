import Locks
import Posix

/// One HTTP request and its response. Its closures are called on the engine's thread, except that
/// `onEnd` is called on the submitting thread when the engine has stopped.
package final class CurlTransfer: @unchecked Sendable {
  package enum Ending: Sendable {
    case done
    /// The transfer failed; `text` is the HTTP client's explanation.
    case failed(ConnectionProblem, text: String)
    case cancelled
  }

  let url: String
  let headers: [String]
  let isHead: Bool
  /// How often this request has been sent, this time included; the first attempt is 1.
  let attempt: Int
  /// Takes one header line, without its line end; an empty line ends the head. Returning false ends
  /// the transfer.
  let onHeader: (UnsafeRawBufferPointer) -> Bool
  /// Called when the request is about to be sent.
  let onBegin: () -> Void
  /// Takes bytes of the body, which are valid during the call. Returning false ends the transfer.
  private let onBody: (UnsafeRawBufferPointer) -> Bool
  private let onEnd: (Ending) -> Void

  // Used by the engine's thread alone, which makes the class safe to hand about: everything above
  // is constant.

  /// The handle that runs the transfer; nil unless it is running.
  var handle: CurlHandle?
  var collector: BodyCollector?
  /// Whether the receiver has refused further bytes.
  private(set) var isRefused = false
  /// When the request was handed to libcurl, which sends it at once: requests wait for a connection
  /// in the engine's own queue.
  var began: SuspendingClock.Instant?
  /// Why no socket could be opened for the transfer.
  var shortage: DescriptorShortage?
  var firstByte: SuspendingClock.Instant?
  /// Bytes received of the body.
  var receivedInBytes = 0
  /// When the speed was last measured, and how many bytes had been received by then.
  private var look: (at: SuspendingClock.Instant, receivedInBytes: Int)?

  package init(
    url: String, headers: [String], isHead: Bool, attempt: Int = 1,
    onBegin: @escaping @Sendable () -> Void = {},
    onHeader: @escaping @Sendable (UnsafeRawBufferPointer) -> Bool,
    onBody: @escaping @Sendable (UnsafeRawBufferPointer) -> Bool,
    onEnd: @escaping @Sendable (Ending) -> Void
  ) {
    self.url = url
    self.headers = headers
    self.isHead = isHead
    self.attempt = attempt
    self.onBegin = onBegin
    self.onHeader = onHeader
    self.onBody = onBody
    self.onEnd = onEnd
  }

  /// Why this transfer should be ended and its remaining bytes requested again; nil to let it run.
  func lateness(
    at now: SuspendingClock.Instant, _ experience: CurlEngine.Experience
  ) -> String? {
    guard let began else { return nil }
    guard let firstByte else {
      let limit = experience.patience.withLock { $0.timeout(attempt: attempt) }
      return now - began > limit ? "no response within \(limit.roundedText)" : nil
    }
    let last = look ?? (firstByte, 0)
    let time = now - last.at
    guard time >= UsualSpeed.window else { return nil }
    look = (now, receivedInBytes)
    let count = receivedInBytes - last.receivedInBytes
    let isStraggler = experience.usualSpeed.withLock {
      $0.isStraggler(count, in: time, attempt: attempt)
    }
    return isStraggler
      ? "received only \(count) bytes within \(time.roundedText), far below the usual rate" : nil
  }

  /// How long the transfer has taken since the request was sent; zero before that.
  package var elapsed: Duration { began.map { SuspendingClock.now - $0 } ?? .zero }

  func deliver(_ body: UnsafeRawBufferPointer) { if !isRefused { isRefused = !onBody(body) } }

  func end(_ ending: Ending) { onEnd(ending) }
}
