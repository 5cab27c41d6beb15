/// When, and whether, a failed request is tried again.
///
/// Full jitter (a delay drawn evenly between zero and an exponentially growing cap) spreads the retries of many
/// clients best: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
public struct RetryPolicy: Sendable {
  /// How often a request is made in all, the first time included.
  public var maxAttempts = 6
  public var firstDelay: Duration = .milliseconds(50)
  public var longestDelay: Duration = .seconds(5)

  public init() {}

  /// The delay before the next attempt, or nil when it is not worth one.
  ///
  /// - Parameters:
  ///   - attempt: how many attempts have failed so far; 1 after the first.
  ///   - requested: what the store asked for with Retry-After; honoured up to `longestDelay`.
  public func delay(
    afterAttempt attempt: Int, requested: Duration? = nil,
    using generator: inout some RandomNumberGenerator
  ) -> Duration? {
    guard attempt < maxAttempts else { return nil }
    let cap = min(longestDelay, firstDelay * (1 << min(attempt - 1, 20)))
    let drawn = cap * Double.random(in: 0...1, using: &generator)
    return min(longestDelay, max(drawn, requested ?? .zero))
  }
}
