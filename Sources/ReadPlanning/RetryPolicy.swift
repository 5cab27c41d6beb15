/// When, and whether, a failed request is tried again.
///
/// Full jitter (a delay drawn evenly between zero and an exponentially growing cap) spreads the
/// retries of many clients best: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
///
/// While somebody waits for the bytes there is no last attempt: the reader's own bound
/// (`--read-timeout`) ends the waiting, and a store that is back within it has cost time and
/// nothing else. Where nobody waits, `maxAttempts` ends it.
public struct RetryPolicy: Sendable {
  /// How often a request that nobody waits for is made in all, the first time included.
  public var maxAttempts = 6
  public var firstDelay: Duration = .milliseconds(50)
  public var longestDelay: Duration = .seconds(5)
  /// The longest that the store can have us wait by asking for it: half of the usual
  /// `--read-timeout`.
  public var longestRequestedDelay: Duration = .seconds(30)

  public init() {}

  /// The delay before the next attempt, or nil when it is not worth one.
  ///
  /// - Parameters:
  ///   - attempt: how many attempts in a row have failed without progress so far; 1 after the
  ///     first.
  ///   - isWaitedFor: whether a reader needs the bytes now.
  ///   - requested: what the store asked for with Retry-After; honoured up to
  ///     `longestRequestedDelay`.
  ///   - budget: what all retries together may still cost. Without it a retry waits for the longest
  ///     delay, so that a store that is down is asked a few times a second at most, however much is
  ///     wanted.
  public func delay(
    afterAttempt attempt: Int, isWaitedFor: Bool = false, requested: Duration? = nil,
    budget: inout RetryBudget, using generator: inout some RandomNumberGenerator
  ) -> Duration? {
    guard isWaitedFor || attempt < maxAttempts else { return nil }
    let drawn: Duration
    if budget.take() {
      let cap = min(longestDelay, firstDelay * (1 << min(max(attempt, 1) - 1, 20)))
      drawn = cap * Double.random(in: 0...1, using: &generator)
    } else {
      drawn = longestDelay * Double.random(in: 0.5...1, using: &generator)
    }
    return max(drawn, min(longestRequestedDelay, requested ?? .zero))
  }
}
