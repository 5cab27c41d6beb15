import BlockCache
import InventoryManifest
import ObjectStore
import ReadPlanning

/// A chunk, its location, and the version of it that the cache should hold.
struct ChunkReference: Sendable {
  let id: ChunkID
  let location: S3Location
  let identity: CacheIdentity
  /// The bytes that the first request fetches.
  let opening: Range<Int>
  /// The ETag; nil if the store has not been asked for it yet.
  let eTag: String?
  let md5: MD5Digest?
}

/// The locations of an inventory's chunks in a store.
struct ChunkReferences: Sendable {
  let bucket: String
  let inventory: Inventory
  /// The store's name (`ObjectStore.identity`).
  let store: String
  /// The size of the largest chunk that can be opened (`FetchPlanner.largestChunkInBytes`).
  let largestChunkInBytes: Int
  /// For each chunk whose object the manifest has listed before, how often it has. Each such chunk
  /// has its own entry in the cache, because the planner accounts for one chunk per entry.
  private let repetitions: [Int: Int]

  init(bucket: String, inventory: Inventory, store: String, largestChunkInBytes: Int) {
    self.bucket = bucket
    self.inventory = inventory
    self.store = store
    self.largestChunkInBytes = largestChunkInBytes
    var uses: [String: Int] = [:]
    var repetitions: [Int: Int] = [:]
    for index in inventory.chunks.indices where inventory.chunks.mayRepeat(index) {
      let key = inventory.chunks[index].key
      if let before = uses[key] { repetitions[index] = before }
      uses[key, default: 0] += 1
    }
    self.repetitions = repetitions
  }

  func location(of chunk: Inventory.Chunk) -> S3Location {
    S3Location(bucket: bucket, key: inventory.keyPrefix.applied(to: chunk.key))
  }

  /// The reference of a chunk; nil if the chunk cannot be opened, or its version is known neither
  /// from the manifest nor from the store.
  func reference(to id: ChunkID, eTag: String?) -> ChunkReference? {
    guard inventory.chunks.indices.contains(id.index) else { return nil }
    let chunk = inventory.chunks[id.index]
    guard chunk.failure == nil, chunk.sizeInBytes <= largestChunkInBytes,
      let named = chunk.md5.map({ "md5 \($0)" }) ?? eTag.map({ "etag \($0)" })
    else { return nil }
    let version = repetitions[id.index].map { "\(named), repetition \($0)" } ?? named
    let location = location(of: chunk)
    return ChunkReference(
      id: id, location: location,
      identity: CacheIdentity(
        endpoint: store, bucket: bucket, key: location.key, sizeInBytes: chunk.sizeInBytes,
        version: version),
      opening: inventory.openingRange(ofChunkWithSize: chunk.sizeInBytes), eTag: eTag,
      md5: chunk.md5)
  }
}
