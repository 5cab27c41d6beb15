/// How much memory a mount takes, and how that follows from its configuration.
///
///     memory = base + connections × (receive buffer + connection) + threads × largest read
///            + further network threads × (receive buffer + thread)
///
/// Nothing else grows by more than a few MiB: bodies stream to disk, parked reads hold no buffer,
/// and the kernel's page cache is not ours. The data adds the manifest's text and some 60 bytes for
/// each chunk (`Inventory.memoryInBytes`), and the ledger's 120 bytes for each MiB in the cache.
/// While the cache's disk is full or fails, reads go through memory, which takes another 4 MiB
/// (`FetchPlanner.mostBlocksInMemory`); with them the default plan of 42 MiB stays below its 64
/// MiB.
struct MemoryPlan: Sendable, Equatable {
  /// The memory of the program, its libraries (20 MiB of them file-backed, shared with other
  /// processes) and their data. The whole process was measured on x86-64: 32.2 MiB with one
  /// connection, 36.4 with 16, 40.4 with 32, 46.9 with 64.
  static let baseInBytes = 27 << 20
  /// The memory that libcurl keeps for a connection beside its receive buffer: 5 KiB were measured,
  /// some 50 with TLS.
  static let connectionInBytes = 32 << 10
  /// Each thread that answers the kernel has one buffer of the largest read.
  static let threadBufferInBytes = 1 << 20

  /// The memory of a network thread beyond the first, beside its buffer.
  static let networkThreadInBytes = 256 << 10

  static let largestReceiveBufferInBytes = 256 << 10
  static let smallestReceiveBufferInBytes = 32 << 10

  let maxConnections: Int
  let receiveBufferSizeInBytes: Int
  let threadCount: Int
  let networkThreadCount: Int

  /// The largest resident set of the daemon, beside the manifest.
  var peakInBytes: Int {
    Self.peak(maxConnections, receiveBufferSizeInBytes, threadCount, networkThreadCount)
  }

  /// Makes the most generous plan within a limit: first the receive buffers shrink, then network
  /// threads and then connections become fewer.
  ///
  /// Returns nil when the limit does not allow even one connection;
  /// `smallestLimitInBytes(threadCount:)` is the smallest limit that does.
  ///
  /// - Parameters:
  ///   - threadCount: threads that answer the kernel.
  ///   - networkThreadCount: at least 1; there are no more than connections.
  init?(
    limitInBytes: Int, maxConnections: Int, threadCount: Int, networkThreadCount: Int = 1
  ) {
    self.threadCount = threadCount
    var connections = max(1, maxConnections)
    var buffer = Self.largestReceiveBufferInBytes
    var networkThreads = max(1, min(networkThreadCount, connections))
    while Self.peak(connections, buffer, threadCount, networkThreads) > limitInBytes {
      if buffer > Self.smallestReceiveBufferInBytes {
        buffer /= 2
      } else if networkThreads > 1 {
        networkThreads -= 1
      } else if connections > 1 {
        connections -= 1
      } else {
        return nil
      }
    }
    self.maxConnections = connections
    receiveBufferSizeInBytes = buffer
    self.networkThreadCount = networkThreads
  }

  /// The smallest limit, which allows one connection, rounded up to whole MiB so that users can
  /// type it.
  static func smallestLimitInBytes(threadCount: Int) -> Int {
    let unit = 1 << 20
    return (peak(1, smallestReceiveBufferInBytes, threadCount, 1) + unit - 1) / unit * unit
  }

  private static func peak(
    _ connections: Int, _ buffer: Int, _ threadCount: Int, _ networkThreadCount: Int
  ) -> Int {
    baseInBytes + connections * (buffer + connectionInBytes) + threadCount * threadBufferInBytes
      + (networkThreadCount - 1) * (buffer + networkThreadInBytes)
  }
}
