/// How fast bodies usually arrive, and so which transfer is so slow that its remaining bytes should
/// be requested again.
///
/// Now and then one connection is slow among many that are not: a sick host, a lossy path. Its part
/// would make its reader wait for minutes, where another connection has the rest in a moment. So a
/// transfer that brings less than a 32nd of what is usual is ended, and its rest asked for again.
/// The usual speed is the median of the last bodies, including those that were ended for being
/// slow: when all transfers have become slow, slow soon counts as usual. Each further attempt is
/// allowed half the speed of the last. A transfer that shares the processor or the line with many
/// others is no straggler: no transfer above 256 KiB/s counts as one.
struct UsualSpeed {
  /// The time over which a transfer's speed is measured.
  static let window: Duration = .seconds(3)

  /// Bodies smaller than this are not counted, because their time says little about the speed.
  private static let smallestBodyInBytes = 64 << 10
  private static let share = 32.0
  private static let highestLimitInBytesPerSecond = Double(256 << 10)

  /// Bytes per second of the last bodies.
  private var speeds = RunningMedian<Double>()

  /// Records that a body of this many bytes took this time.
  mutating func noteBody(_ byteCount: Int, in time: Duration) {
    if byteCount >= Self.smallestBodyInBytes { note(byteCount, in: time) }
  }

  private mutating func note(_ byteCount: Int, in time: Duration) {
    guard time > .zero else { return }
    speeds.note(Double(byteCount) / (time / .seconds(1)))
  }

  /// Whether a transfer is to be ended for being slow; it is one of the last bodies then.
  ///
  /// - Parameters:
  ///   - byteCount: bytes received within `time`.
  ///   - attempt: the attempt's number; the first is 1.
  mutating func isStraggler(_ byteCount: Int, in time: Duration, attempt: Int) -> Bool {
    guard let usual = speeds.value, time > .zero else { return false }
    let limit = min(Self.highestLimitInBytesPerSecond, usual / Self.share)
    let speed = Double(byteCount) / (time / .seconds(1))
    guard speed < limit / Double(1 << min(max(attempt, 1) - 1, 10)) else { return false }
    note(byteCount, in: time)
    return true
  }
}
