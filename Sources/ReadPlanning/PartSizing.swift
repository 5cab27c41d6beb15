import Blocks

/// How a range to be fetched is cut into parts, one range GET each.
///
/// A connection to S3 gives about 90 MB/s after a first byte that takes 30 ms or more: a part under
/// 1 MiB is mostly waiting, and past 8 MiB the waiting is under a quarter and bigger parts only
/// delay the bytes a reader waits for at a part's end. Between the two, a window is cut in about
/// eight: few enough that a store is not flooded (SeaweedFS on two cores gives 28 connections two
/// thirds of what it gives 8), enough to add up their rates.
///
/// Parts end at multiples of their size, a power of two of at most 8 MiB, because objects are
/// stored in such pieces (S3's multipart uploads have parts of 8 MiB by default, SeaweedFS has
/// chunks of as much): a range that straddles two pieces makes the store open both. Measured on
/// SeaweedFS: straddling ranges take up to twice as long.
public struct PartSizing: Sendable {
  public static let smallestInBytes = 1 << 20
  public static let largestInBytes = 8 << 20
  /// A chunk of at most this size is asked for whole: the rest costs little more than the round
  /// trip it saves.
  public static let smallChunkInBytes = 4 << 20

  /// The most requests at once, over all chunks.
  public let maxConnections: Int
  /// The largest part, given the cache's bound: several must fit at once.
  public let largestPartInBytes: Int

  public init(maxConnections: Int, cacheBoundInBytes: Int) {
    self.maxConnections = max(1, maxConnections)
    largestPartInBytes = max(
      BlockGrid.segmentSizeInBytes, min(Self.largestInBytes, cacheBoundInBytes / 16))
  }

  /// How many of so many connections read-ahead may take, at least one: it leaves an eighth free,
  /// so that a reader who needs its bytes now finds a connection.
  static func connectionsAhead(of connections: Int) -> Int { max(1, connections - connections / 8) }

  /// The size of each part of a window: a power of two.
  public func partSize(forWindow windowInBytes: Int) -> Int {
    let wished = max(
      Self.smallestInBytes, windowInBytes / 8,
      windowInBytes / Self.connectionsAhead(of: maxConnections))
    var size = Self.smallestInBytes
    while size * 2 <= min(wished, largestPartInBytes) { size *= 2 }
    return size
  }

  /// Where a part that starts at `byteOffset` ends: at the next multiple of its size.
  public func partEnd(startingAt byteOffset: Int, forWindow windowInBytes: Int) -> Int {
    let size = partSize(forWindow: windowInBytes)
    return (byteOffset / size + 1) * size
  }
}
