/// How many quick retries all requests together may make: a bucket of tokens that answers fill and
/// retries empty.
///
/// A single part's back-off does not keep thousands of parts from making a storm together when a
/// store falters. Each retry costs a token and each request that succeeds earns a tenth, so that in
/// the long run retries are at most a tenth of what succeeds; the bucket's size lets a short
/// disturbance of all connections pass unnoticed. Without a token a retry is slow, not refused
/// (`RetryPolicy`): a reader that waits gets its bytes late rather than an error.
public struct RetryBudget: Sendable {
  public static let tokensPerSuccess = 0.1
  /// The usual capacity, which allows three attempts for each of 32 connections.
  public static let usualCapacity = 100.0

  public let capacity: Double
  public private(set) var tokens: Double

  public init(capacity: Double = usualCapacity) {
    self.capacity = capacity
    tokens = capacity
  }

  /// A request had a good answer.
  public mutating func noteSuccess() { tokens = min(capacity, tokens + Self.tokensPerSuccess) }

  /// Whether a quick retry may be made; takes its token.
  public mutating func take() -> Bool {
    guard tokens >= 1 else { return false }
    tokens -= 1
    return true
  }
}
