/// How long an answer's first byte is waited for before the request is given up and sent again.
///
/// A store answers nearly all requests within some tens of milliseconds and loses one now and then: to a sick host, or
/// a connection that is dead without saying so. To send such a request again on another connection is the cheapest
/// cure. What is late is measured by what is usual: eight times the median of the last answers, and at least a second.
/// If the store has become slow as a whole, more requests will not help it: each attempt is given twice the time of the
/// last, up to `longest`, which also holds while too few answers are known.
///
/// (A second request beside the first would win the straggler's remaining time, but costs a connection, and one of two
/// answers has to be thrown away: not worth it for what happens this seldom.)
struct FirstBytePatience {
  private static let sampleCount = 32
  private static let fewestSamples = 8
  private static let shortest: Duration = .seconds(1)

  let longest: Duration
  private var samples: [Duration] = []
  private var oldest = 0
  /// Eight times the median; nil while too few answers are known. Asked for far more often than it changes.
  private var usualLimit: Duration?

  init(longest: Duration) { self.longest = longest }

  /// An answer began so long after its request.
  mutating func note(_ delay: Duration) {
    if samples.count < Self.sampleCount {
      samples.append(delay)
    } else {
      samples[oldest] = delay
      oldest = (oldest + 1) % Self.sampleCount
    }
    guard samples.count >= Self.fewestSamples else { return }
    usualLimit = samples.sorted()[samples.count / 2] * 8
  }

  /// - Parameter attempt: from 1.
  func timeout(attempt: Int) -> Duration {
    guard let usualLimit else { return longest }
    return min(longest, max(Self.shortest, usualLimit) * (1 << min(max(attempt, 1) - 1, 10)))
  }
}
