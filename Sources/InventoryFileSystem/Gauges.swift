import ObjectStore

/// A number that shows what a mount of an inventory in S3 is doing, or has done, as an extended
/// attribute of the mountpoint, whose name is the raw value.
///
/// A moment after the last reader has gone, all gauges of work under way are 0.
enum Gauge: String, CaseIterable {
  // Under way
  /// Open handles of chunk files. The kernel reports a close a moment later.
  case openFiles = "user.inventoryfs.open_files"
  /// Opens and reads that wait for bytes, and attributes that wait until it is known what the cache
  /// holds. Waits for the ETag of an object whose chunk has no MD5 count in `requestsInFlight`
  /// instead.
  case waiting = "user.inventoryfs.waiting"
  /// Ranges that are being fetched, or will be retried.
  case parts = "user.inventoryfs.parts_in_flight"
  /// Requests to the store whose response is not complete.
  case requestsInFlight = "user.inventoryfs.requests_in_flight"
  /// Bytes of the cache that cannot be evicted now.
  case pinnedBytes = "user.inventoryfs.pinned_bytes"

  // So far
  case requests = "user.inventoryfs.requests"
  /// Bytes received of response bodies, including those of refusals and failures.
  case receivedBytes = "user.inventoryfs.received_bytes"
  /// Cached blocks that differed from the bytes that had been stored.
  case damagedBlocks = "user.inventoryfs.damaged_blocks"

  // The cache on disk
  /// Bytes that the cache takes on disk, including blocks about to be written and blocks being
  /// evicted. A query waits until the entries of earlier mounts are known.
  case cacheBytes = "user.inventoryfs.cache_bytes"
  /// Bytes that the cache may take: as many as the user set, or fewer while the disk has no room
  /// for those.
  case cacheSize = "user.inventoryfs.cache_size"
}

extension FetchCoordinator {
  func value(of gauge: Gauge) -> Int {
    switch gauge {
    case .openFiles: state.withLock { $0.planner.openHandleCount }
    case .waiting: state.withLock { $0.waiting.count }
    case .parts: state.withLock { $0.transfers.count }
    case .requestsInFlight: store.traffic.requestsInFlight
    case .pinnedBytes: state.withLock { $0.planner.ledger.pinnedInBytes }
    case .requests: store.traffic.requestCount
    case .receivedBytes: store.traffic.receivedBytes
    case .damagedBlocks: state.withLock { $0.damagedBlockCount }
    case .cacheBytes: state.withLock { $0.planner.ledger.usedInBytes }
    case .cacheSize: state.withLock { $0.planner.ledger.boundInBytes } + cacheReserveInBytes
    }
  }
}
