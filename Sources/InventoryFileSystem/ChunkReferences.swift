import BlockCache
import InventoryManifest
import ObjectStore
import ReadPlanning

/// A chunk, where it is, and which version of it the cache should hold.
struct ChunkReference: Sendable {
  let id: ChunkID
  let location: S3Location
  let identity: CacheIdentity
  /// What the first request asks for.
  let opening: Range<Int>
  /// Where the store has been asked already.
  let eTag: String?
  let md5: MD5Digest?
}

/// Where the chunks of an inventory are in a store.
struct ChunkReferences: Sendable {
  let bucket: String
  let inventory: Inventory
  /// Names the store (`ObjectStore.identity`).
  let store: String
  /// Larger ones cannot be opened (`FetchPlanner.largestChunkInBytes`).
  let largestChunkInBytes: Int
  /// Of chunks whose object the manifest has listed before: how often. Each has an entry of the
  /// cache to itself, because the planner keeps the books of one chunk for each entry.
  private let repetitions: [Int: Int]

  init(bucket: String, inventory: Inventory, store: String, largestChunkInBytes: Int) {
    self.bucket = bucket
    self.inventory = inventory
    self.store = store
    self.largestChunkInBytes = largestChunkInBytes
    var uses: [String: Int] = [:]
    var repetitions: [Int: Int] = [:]
    for (index, chunk) in inventory.chunks.enumerated() {
      if let before = uses[chunk.key] { repetitions[index] = before }
      uses[chunk.key, default: 0] += 1
    }
    self.repetitions = repetitions
  }

  func location(of chunk: Inventory.Chunk) -> S3Location {
    S3Location(bucket: bucket, key: chunk.key)
  }

  /// Nil for a chunk that cannot be opened, and when neither manifest nor store has said which
  /// version it is.
  func reference(to id: ChunkID, eTag: String?) -> ChunkReference? {
    guard inventory.chunks.indices.contains(id.index) else { return nil }
    let chunk = inventory.chunks[id.index]
    guard chunk.failure == nil, chunk.sizeInBytes <= largestChunkInBytes,
      let named = chunk.md5.map({ "md5 \($0)" }) ?? eTag.map({ "etag \($0)" })
    else { return nil }
    let version = repetitions[id.index].map { "\(named), repetition \($0)" } ?? named
    return ChunkReference(
      id: id, location: location(of: chunk),
      identity: CacheIdentity(
        endpoint: store, bucket: bucket, key: chunk.key, sizeInBytes: chunk.sizeInBytes,
        version: version),
      opening: inventory.openingRange(ofChunkWithSize: chunk.sizeInBytes), eTag: eTag,
      md5: chunk.md5)
  }
}
