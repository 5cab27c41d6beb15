/// The timeout for a response's first byte, after which the request is given up and sent again.
///
/// A store answers nearly all requests within some tens of milliseconds and loses one now and then:
/// to a sick host, or a connection that is dead without saying so. To send such a request again on
/// another connection is the cheapest cure. A response is late after eight times the median of the
/// last responses' times, and at least a second. If the store has become slow as a whole,
/// more requests will not help it: each attempt is given twice the time of the last, up to
/// `longest`, which also applies while too few responses are known.
///
/// (A second request beside the first would win the straggler's remaining time, but costs a
/// connection, and one of two answers has to be thrown away: not worth it for what happens this
/// seldom.)
struct FirstBytePatience {
  private static let shortest: Duration = .seconds(1)

  let longest: Duration
  /// Times from a request to the first byte of its response.
  private var delays = RunningMedian<Duration>()

  init(longest: Duration) { self.longest = longest }

  /// Records the time from a request to the beginning of its response.
  mutating func note(_ delay: Duration) { delays.note(delay) }

  /// - Parameter attempt: the attempt's number; the first is 1.
  func timeout(attempt: Int) -> Duration {
    guard let usual = delays.value else { return longest }
    return min(longest, max(Self.shortest, usual * 8) * (1 << min(max(attempt, 1) - 1, 10)))
  }
}
