import Blocks
import Digests

/// A digest that identifies the bytes of a whole chunk by the checksums of all its blocks.
///
/// It is written to the index when the chunk was found to have the manifest's MD5. A later run, or
/// one that has fetched evicted blocks again, then hashes a kilobyte of index for each eight
/// megabytes instead of the chunk.
public struct EntrySeal: Sendable, Equatable {
  static let sizeInBytes = 32

  let digest: [UInt8]

  /// Reads a seal; nil for zeros, which are no seal.
  init?(_ digest: [UInt8]) {
    guard digest.contains(where: { $0 != 0 }) else { return nil }
    self.digest = digest
  }
}

extension EntryFiles {
  /// The seal of the index's present entries; nil unless the index names every block.
  func makeSeal(_ grid: BlockGrid) -> EntrySeal? {
    var hash = SHA256()
    let isWhole = forEachEntry(grid) { entries, first in
      for (place, entry) in entries.enumerated()
      where IndexFormat.decodeEntry(UInt64(littleEndian: entry), block: first + place) == nil {
        return false
      }
      hash.update(UnsafeRawBufferPointer(entries))
      return true
    }
    return isWhole ? EntrySeal(hash.digest()) : nil
  }
}

extension CacheEntry {
  /// The seal of the present blocks; nil unless all are present.
  public func makeSeal() -> EntrySeal? { files?.makeSeal(grid) }

  /// Whether all blocks are present, and were found to have the manifest's MD5.
  public var isVerified: Bool {
    guard let seal = state.withLock({ $0.seal }) else { return false }
    return seal == makeSeal()
  }

  /// Records that the blocks were found to have the manifest's MD5.
  ///
  /// - Parameter seal: the seal from before they were hashed, so that no block that arrived
  ///   meanwhile is taken for one of them.
  public func record(verified seal: EntrySeal) throws(BlockCacheError) {
    let header = state.withLock { state in
      state.seal = seal
      return self.header(state)
    }
    try files?.write(header)
  }

  /// Makes all blocks absent in the index, and leaves their bytes in the file for readers that are
  /// just copying them: new bytes overwrite them.
  public func forgetAllBlocks() throws(BlockCacheError) {
    let blocks = 0..<grid.blockCount
    state.withLock { state in
      state.present.remove(blocks)
      state.unchecked.remove(blocks)
      state.seal = nil
    }
    try files?.removeEntries(blocks)
  }
}

extension BlockCache {
  /// Whether the cache has all of a chunk, with the manifest's MD5.
  public func isVerified(_ identity: CacheIdentity) -> Bool {
    if let open = find(identity).flatMap({ openEntry($0) }) { return open.isVerified }
    guard let files = try? openFiles(of: identity), let header = files.readHeader(),
      let seal = header.seal, header.identityDigest == identity.digest
    else { return false }
    return seal == files.makeSeal(BlockGrid(sizeInBytes: header.sizeInBytes))
  }
}
