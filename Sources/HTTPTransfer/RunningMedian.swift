/// The median of the last 32 of some measurements: what is usual, whatever a few of them are.
struct RunningMedian<Sample: Comparable & Sendable>: Sendable {
  private static var capacity: Int { 32 }
  /// Fewer say little.
  private static var fewest: Int { 8 }

  private var samples: [Sample] = []
  private var oldest = 0
  /// The median; nil while fewer than eight samples are known. It is read far more often than it
  /// changes.
  private(set) var value: Sample?

  mutating func note(_ sample: Sample) {
    if samples.count < Self.capacity {
      samples.append(sample)
    } else {
      samples[oldest] = sample
      oldest = (oldest + 1) % Self.capacity
    }
    if samples.count >= Self.fewest { value = samples.sorted()[samples.count / 2] }
  }
}
