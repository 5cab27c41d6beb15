import Dispatch
import Locks
import Logging
import ObjectStore
import Posix
import ReadPlanning

/// The retries of all requests to one store. They share one budget and one list of pending
/// requests, so that shutting down leaves no request waiting between two attempts. It also logs
/// when requests succeed again after a time in which the log had failures of them.
final class StoreRetries: Sendable {
  private struct State {
    var budget = RetryBudget()
    var generator = SystemRandomNumberGenerator()
    var pending: [UInt64: @Sendable () -> Void] = [:]
    var lastNumber: UInt64 = 0
    var isShutDown = false
    var outage: Outage?
  }

  /// A time in which no request succeeds.
  private struct Outage {
    let began: Duration
    var failureCount = 0
    /// Whether the store answered none of the requests.
    var isSilence = true
    /// Whether the log has a warning or an error about it.
    var isReported = false
  }

  /// Runs the next attempts. Work that accesses the disk, which may hang, does not run here, as it
  /// may on libdispatch's few shared threads.
  let queue = DispatchQueue(label: "retries")
  /// Ends the requests that take too long.
  let timeouts = DispatchQueue(label: "timeouts")
  let clock: any FileSystemClock
  private let policy = RetryPolicy()
  private let logger: Logger
  private let state = Lock(State())

  init(_ clock: any FileSystemClock, _ logger: Logger) {
    self.clock = clock
    self.logger = logger
  }

  /// The back-off before the next attempt; nil when no attempt is left.
  func delay(
    afterAttempt attempt: Int, isWaitedFor: Bool, requested: Duration?
  ) -> Duration? {
    state.withLock { state in
      guard !state.isShutDown else { return nil }
      return policy.delay(
        afterAttempt: attempt, isWaitedFor: isWaitedFor, requested: requested,
        budget: &state.budget, using: &state.generator)
    }
  }

  /// Records a request that succeeded.
  func noteSuccess() {
    let outage = state.withLock { state in
      state.budget.noteSuccess()
      return exchange(&state.outage, with: nil)
    }
    guard let outage, outage.isReported else { return }
    let count = "\(outage.failureCount) failed request\(outage.failureCount == 1 ? "" : "s")"
    logger.notice(
      "\(outage.isSilence ? "the store answers again" : "requests to the store succeed again"), \((clock.now - outage.began).roundedText) after the first of \(count)"
    )
  }

  /// Records an attempt that failed and may be made again.
  func noteFailure(_ error: StoreError) {
    let now = clock.now
    state.withLock { state in
      var outage = state.outage ?? Outage(began: now)
      outage.failureCount += 1
      if error.httpStatus != nil || !error.isConnectionFailure { outage.isSilence = false }
      state.outage = outage
    }
  }

  /// Records that the log has a warning or an error about the requests that fail now.
  func noteReport() { state.withLock { $0.outage?.isReported = true } }

  /// Adds a pending request.
  ///
  /// - Parameter cancel: called when shutting down, unless `forget` was called before.
  func remember(_ cancel: @escaping @Sendable () -> Void) -> UInt64 {
    let (number, isShutDown) = state.withLock { state in
      state.lastNumber += 1
      if !state.isShutDown { state.pending[state.lastNumber] = cancel }
      return (state.lastNumber, state.isShutDown)
    }
    if isShutDown { cancel() }
    return number
  }

  func forget(_ number: UInt64) { state.withLock { $0.pending[number] = nil } }

  func shutDown() {
    let pending = state.withLock { state in
      state.isShutDown = true
      return exchange(&state.pending, with: [:]).values
    }
    for cancel in pending { cancel() }
  }
}

extension StoreError {
  /// Whether the store is unreachable: the endpoint is wrong or does not speak TLS, or the store is
  /// down.
  var isUnreachable: Bool {
    switch kind {
    case .connection(.unknownHost, _), .connection(.refused, _), .connection(.handshake, _): true
    // A store for which no credentials can be obtained counts too.
    case .noCredentials: true
    case .connection(.noDescriptors, _): true
    default: false
    }
  }

  /// Whether the store's side of a connection failed.
  fileprivate var isConnectionFailure: Bool {
    switch kind {
    case .connection(.noDescriptors, _): false
    case .connection: true
    default: false
    }
  }

  /// How long the store asks to wait.
  var retryAfter: Duration? {
    guard case .throttled(let seconds?) = kind else { return nil }
    return .seconds(min(seconds, 3600))
  }
}
