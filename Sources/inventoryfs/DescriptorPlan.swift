/// How many file descriptors a mount of an inventory in S3 wants, and what it does with fewer.
///
/// With fewer, there are fewer connections, and fewer chunks are kept ready for their next open, so
/// that most of the descriptors are left for the chunks that readers open.
struct DescriptorPlan: Sendable, Equatable {
  /// The descriptors of an idle mount: 18 were measured, and each network thread has 2. The rest is
  /// for name servers, certificates, credentials and the scan of the cache.
  static let baseCount = 32
  /// The fewest descriptors with which an inventory can be mounted: 18 were enough, and with 14 a
  /// library ended the process.
  static let smallestLimit = 24
  /// Each open chunk has a data file and an index.
  static let countOfChunk = 2
  /// The chunks that are open at once: those that are kept ready, those that are prefetched on a
  /// walk, and as many again that readers have open.
  static let usualChunkCount = 32 + 16 + 16

  /// How many descriptors are enough for everything.
  let wantedCount: Int
  let maxConnections: Int
  /// How many chunks that nobody has open any more are kept ready.
  let lingeringChunkCount: Int

  /// - Parameter limit: how many descriptors the process may have.
  init(limit: Int, maxConnections: Int, networkThreadCount: Int) {
    let base = Self.baseCount + 2 * networkThreadCount
    wantedCount = base + maxConnections + Self.countOfChunk * Self.usualChunkCount
    guard limit < wantedCount else {
      self.maxConnections = maxConnections
      lingeringChunkCount = 32
      return
    }
    let rest = max(0, limit - base)
    self.maxConnections = max(1, min(maxConnections, rest / 3))
    lingeringChunkCount = max(0, rest - self.maxConnections) / (2 * Self.countOfChunk)
  }
}
