/// How a range to be fetched is cut into parts, one range GET each.
///
/// A connection to S3 gives about 90 MB/s after a first byte that takes 30 ms or more: a part under 1 MiB is mostly
/// waiting, and past 8 MiB the waiting is under a quarter and bigger parts only delay the bytes a reader waits for
/// at a part's end. Between the two, a window is spread over the connections there are, because the sum of their
/// rates is what a reader sees.
public struct PartSizing: Sendable {
  public static let smallestInBytes = 1 << 20
  public static let largestInBytes = 8 << 20

  /// The most requests at once, over all chunks.
  public let maxConnections: Int
  /// What read-ahead leaves free, so that a reader who needs its bytes now finds a connection.
  public let demandReserve: Int
  /// The largest part, given the cache's bound: several must fit at once.
  public let largestPartInBytes: Int

  public init(maxConnections: Int, cacheBoundInBytes: Int) {
    self.maxConnections = max(1, maxConnections)
    demandReserve = maxConnections / 8
    largestPartInBytes = max(
      BlockGrid.segmentSizeInBytes, min(Self.largestInBytes, cacheBoundInBytes / 16))
  }

  /// The size of each part of a window, in whole segments.
  public func partSize(forWindow windowInBytes: Int) -> Int {
    let segment = BlockGrid.segmentSizeInBytes
    let even = windowInBytes / max(1, maxConnections - demandReserve)
    let whole = (even + segment - 1) / segment * segment
    return min(largestPartInBytes, max(Self.smallestInBytes, whole))
  }
}
