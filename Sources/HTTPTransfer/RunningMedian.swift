/// The median of the last 32 measurements: a usual value that a few outliers do not change.
struct RunningMedian<Sample: Comparable & Sendable>: Sendable {
  private static var capacity: Int { 32 }
  /// The fewest samples from which a median is computed.
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
