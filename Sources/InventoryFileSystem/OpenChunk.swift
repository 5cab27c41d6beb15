import BlockCache
import Blocks
import ObjectStore
import ReadPlanning

/// A chunk that readers have open, or had a moment ago.
final class OpenChunk: Sendable {
  let id: ChunkID
  let location: S3Location
  let entry: CacheEntry
  var grid: BlockGrid { entry.grid }

  init(id: ChunkID, location: S3Location, entry: CacheEntry) {
    self.id = id
    self.location = location
    self.entry = entry
  }
}
