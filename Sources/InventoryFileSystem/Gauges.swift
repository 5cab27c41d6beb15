import ObjectStore

/// A number that tells what a mount of an inventory in S3 is doing, or has done, as an extended
/// attribute of the mountpoint, whose name is the raw value.
///
/// A moment after the last reader has gone, all that counts what is under way is 0.
enum Gauge: String, CaseIterable {
  // Under way
  /// Files of chunks that are open, each as often as it was opened. The kernel tells of a close a
  /// moment later.
  case openFiles = "user.inventoryfs.open_files"
  /// Opens and reads that wait for bytes, and attributes that wait until it is known what the cache
  /// holds. Not who waits for the facts of an object whose chunk has no MD5: that is in
  /// `requestsInFlight`.
  case waiting = "user.inventoryfs.waiting"
  /// Ranges that are being fetched, or will be tried again.
  case parts = "user.inventoryfs.parts_in_flight"
  /// Requests to the store that are not answered to the end.
  case requestsInFlight = "user.inventoryfs.requests_in_flight"
  /// Bytes of the cache that cannot be evicted now.
  case pinnedBytes = "user.inventoryfs.pinned_bytes"

  // So far
  case requests = "user.inventoryfs.requests"
  /// Of the answers' bodies, of refusals and failures too.
  case receivedBytes = "user.inventoryfs.received_bytes"
  /// Cached blocks that were not what had been stored.
  case damagedBlocks = "user.inventoryfs.damaged_blocks"

  // The cache on disk
  /// What it takes, with what is about to be written and what is on its way out. Who asks before it
  /// is known what earlier mounts left there waits.
  case cacheBytes = "user.inventoryfs.cache_bytes"
  /// What it may take: less than was configured while the disk has no room for that.
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
    case .cacheSize: state.withLock { $0.planner.ledger.boundInBytes }
    }
  }
}
