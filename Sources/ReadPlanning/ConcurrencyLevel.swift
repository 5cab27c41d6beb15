/// How many requests may be under way at once: fewer once the store asks for fewer (503 SlowDown,
/// 429), and more again with its good answers.
///
/// It is halved when the store throttles, and grows by about one for each round of answers, as
/// TCP's window does (additive increase, multiplicative decrease; Chiu and Jain, 1989). One burst
/// of refusals counts once: requests that were sent before the last decrease say nothing about the
/// level since. They are told apart by the *epoch* in which they were sent, so that no clock is
/// needed. Until it is throttled for the first time, the level is the maximum.
package struct ConcurrencyLevel: Sendable {
  package let maximum: Int
  private var level: Double
  /// The number of decreases so far.
  package private(set) var epoch = 0

  package init(maximum: Int) {
    self.maximum = max(1, maximum)
    level = Double(self.maximum)
  }

  /// How many requests may be under way, from 1 to `maximum`.
  package var connections: Int { Int(level) }

  /// The store refused a request that was sent in `epoch` because there are too many.
  package mutating func noteThrottled(sentIn epoch: Int) {
    guard epoch == self.epoch else { return }
    self.epoch += 1
    level = max(1, level / 2)
  }

  /// A request was answered to its end.
  package mutating func noteSuccess() { level = min(Double(maximum), level + 1 / level) }
}
