public import BlockCache
public import Logging
public import ReadPlanning

extension InventoryFileSystem {
  /// Makes a file system whose chunks are files under a folder.
  public convenience init(
    _ inventory: Inventory, folder: String, ownership: NodeOwnership, logger: Logger
  ) {
    let chunks = LocalChunks(
      root: folder, keyPrefix: inventory.keyPrefix, bucket: inventory.destinationBucket,
      logger: logger)
    self.init(inventory: inventory, ownership: ownership, content: .folder(chunks))
  }

  /// Makes a file system whose chunks are objects in a bucket, read through a cache.
  ///
  /// - Parameters:
  ///   - cacheSizeInBytes: the space that the cache directory may take on disk.
  ///   - keptManifestInBytes: what the manifest that is kept in it takes of that.
  ///   - maxConnections: the most requests at once, over all chunks.
  ///   - readTimeout: the longest time that an open or a read waits for the store.
  ///   - verificationMode: when complete chunks are compared with the manifest's MD5.
  ///   - quietTime: how long a chunk must not have been read before it is compared in the
  ///     background.
  ///   - lingeringChunkCount: how many chunks that nobody has open any more keep their files open,
  ///     so that the next open of one is fast.
  ///   - clock: the time by which all waits and pauses are counted.
  public convenience init(
    _ inventory: Inventory, bucket: String, ownership: NodeOwnership, store: any ChunkStore,
    cache: BlockCache, cacheSizeInBytes: Int, keptManifestInBytes: Int = 0, maxConnections: Int,
    readTimeout: Duration = .seconds(60), verificationMode: VerificationMode,
    quietTime: Duration = .seconds(1), lingeringChunkCount: Int = 32,
    clock: any FileSystemClock = SystemClock(),
    logger: Logger
  ) {
    let bound = BlockCache.boundForBlocks(
      cacheSizeInBytes: cacheSizeInBytes - keptManifestInBytes)
    let planner = FetchPlanner(
      maxConnections: maxConnections, cacheBoundInBytes: bound,
      catalog: ChunkCatalog(
        byName: inventory.chunks.orderByName(),
        sizesInBytes: inventory.chunks.indices.map { inventory.chunks.sizeInBytes($0) },
        isParquet: inventory.format == .parquet),
      verificationMode: verificationMode)
    let references = ChunkReferences(
      bucket: bucket, inventory: inventory, store: store.identity,
      largestChunkInBytes: FetchPlanner.largestChunkInBytes(cacheBoundInBytes: bound))
    let coordinator = FetchCoordinator(
      store: store, cache: cache, cacheReserveInBytes: cacheSizeInBytes - bound, planner: planner,
      references: references, readTimeout: readTimeout, verificationMode: verificationMode,
      quietTime: quietTime, lingeringChunkCount: lingeringChunkCount, clock: clock, logger: logger)
    coordinator.noteLargeChunks(cacheSizeInBytes: cacheSizeInBytes)
    let chunks = StoreChunks(references, store: store, coordinator: coordinator, logger: logger)
    self.init(inventory: inventory, ownership: ownership, content: .store(chunks))
  }
}
