import Locks
import ObjectStore
import Posix

/// One request to the store with all its attempts, which ends once and within a timeout: a HEAD, or
/// a GET of a small object.
final class RetriedRequest<Value: Sendable>: Sendable {
  typealias Answer = Result<Value, StoreError>
  /// Makes one attempt, and reports its end with how many bytes of the body it received.
  typealias Attempt =
    @Sendable (_ number: Int, _ end: @escaping @Sendable (Answer, _ received: Int) -> Void)
    -> StoreTransfer

  private struct State {
    var transfer: StoreTransfer?
    var attempts = 0
    /// The most bytes that an attempt received.
    var furthest = 0
    var deadline: Duration
    /// The deadline while the store is unreachable.
    let unreachableDeadline: Duration
    var lastError: StoreError?
    var registration: UInt64?
    var isOver = false
  }

  private let location: S3Location
  private let retries: StoreRetries
  private let timeout: Duration
  private let attempt: Attempt
  private let completion: @Sendable (Answer) -> Void
  private let state: Lock<State>

  /// - Parameters:
  ///   - timeout: attempts are begun for this long, counted again when one receives more bytes than
  ///     those before.
  ///   - unreachableTimeout: the same while the store is unreachable (`isUnreachable`), counted
  ///     once.
  ///   - endsThen: whether the attempt that is under way at that time ends too. Otherwise it
  ///     continues as long as bytes arrive.
  ///   - completion: called once, on any thread, and must not block for long.
  init(
    _ location: S3Location, _ retries: StoreRetries, timeout: Duration,
    unreachableTimeout: Duration? = nil, endsThen: Bool, attempt: @escaping Attempt,
    completion: @escaping @Sendable (Answer) -> Void
  ) {
    self.location = location
    self.retries = retries
    self.timeout = timeout
    self.attempt = attempt
    self.completion = completion
    let now = retries.clock.now
    state = Lock(
      State(deadline: now + timeout, unreachableDeadline: now + (unreachableTimeout ?? timeout)))
    let registration = retries.remember { [weak self] in self?.cancel() }
    let isOver = state.withLock { state in
      state.registration = registration
      return state.isOver
    }
    guard !isOver else {
      retries.forget(registration)
      return
    }
    send()
    guard endsThen else { return }
    retries.clock.schedule(after: timeout, on: retries.timeouts) { [weak self] in self?.expire() }
  }

  /// Cancels the request: its result is `.cancelled`, unless there was one already.
  func cancel() { finish(.failure(StoreError(.cancelled, object: location))) }

  private func send() {
    let number: Int? = state.withLock { state in
      guard !state.isOver else { return nil }
      state.attempts += 1
      return state.attempts
    }
    guard let number else { return }
    // The attempt under way, or the timer of the next one, keeps this object alive.
    let transfer = attempt(number) { [self] answer, received in ended(answer, received) }
    let isOver = state.withLock { state in
      // The attempt may have ended before this line, and the next one begun.
      if state.attempts == number { state.transfer = transfer }
      return state.isOver
    }
    if isOver { transfer.cancel() }
  }

  private func ended(_ answer: Answer, _ received: Int) {
    guard case .failure(let error) = answer, error.isRetryable else {
      if case .success = answer { retries.noteSuccess() }
      return finish(answer)
    }
    retries.noteFailure(error)
    let now = retries.clock.now
    let (attempts, remaining) = state.withLock { state in
      state.lastError = error
      if received > state.furthest {
        state.furthest = received
        state.deadline = now + timeout
      }
      let deadline =
        error.isUnreachable ? min(state.deadline, state.unreachableDeadline) : state.deadline
      return (state.attempts, deadline - now)
    }
    guard remaining > .zero,
      let delay = retries.delay(
        afterAttempt: attempts, isWaitedFor: true, requested: error.retryAfter),
      delay < remaining || error.retryAfter == nil
    else { return finish(answer) }
    // A random delay beyond the timeout does not end the request early: the last attempt is made
    // when the timeout has passed.
    retries.clock.schedule(after: min(delay, remaining), on: retries.queue) { [self] in send() }
  }

  private func expire() {
    let error = state.withLock { $0.lastError }
    finish(
      .failure(
        error
          ?? StoreError(
            .connection(.timeout, text: "no response within \(timeout.roundedText)"),
            object: location)
      ))
  }

  private func finish(_ answer: Answer) {
    let (isFirst, transfer, registration) = state.withLock { state in
      let isFirst = !state.isOver
      state.isOver = true
      return (isFirst, state.transfer, state.registration)
    }
    guard isFirst else { return }
    if let registration { retries.forget(registration) }
    transfer?.cancel()
    completion(answer)
  }
}

extension RetriedRequest where Value == ResponseHead {
  /// Requests an object's size and ETag by HEAD, and ends within `timeout`.
  static func head(
    _ location: S3Location, objectSizeInBytes: Int?, from store: any ChunkStore,
    _ retries: StoreRetries, timeout: Duration, completion: @escaping @Sendable (Answer) -> Void
  ) -> RetriedRequest {
    RetriedRequest(
      location, retries, timeout: timeout, endsThen: true,
      attempt: { number, end in
        store.head(location, objectSizeInBytes: objectSizeInBytes, attempt: number) { end($0, 0) }
      },
      completion: completion)
  }
}
