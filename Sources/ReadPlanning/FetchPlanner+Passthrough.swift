// Chunks that the kernel reads by itself. It would take a hole for zeros, so such a chunk is whole, and none of it may
// leave while the kernel has it.

extension FetchPlanner {
  /// Pins all of a chunk, until as many calls of `unpinWhole(_:)`.
  ///
  /// - Returns: false unless every block is present, and for a chunk that would bring what is pinned in this way to
  ///   more than half of the cache: what is fetched needs room too.
  public mutating func pinWhole(_ id: ChunkID) -> Bool {
    guard canPinWhole(id), let chunk = chunks[id] else { return false }
    chunks[id]?.wholePinCount += 1
    guard chunk.wholePinCount == 0 else { return true }
    wholePinnedInBytes += chunk.wholeInBytes
    for segment in 0..<chunk.grid.segmentCount {
      ledger.pin(.init(entry: chunk.entry, index: segment))
    }
    return true
  }

  public mutating func unpinWhole(_ id: ChunkID) -> [Action] {
    guard let chunk = chunks[id], chunk.wholePinCount > 0 else { return [] }
    chunks[id]?.wholePinCount -= 1
    guard chunk.wholePinCount == 1 else { return [] }
    wholePinnedInBytes -= chunk.wholeInBytes
    for segment in 0..<chunk.grid.segmentCount {
      ledger.unpin(.init(entry: chunk.entry, index: segment))
    }
    return isStarved ? fill() : []
  }

  /// What the reader reads of a chunk that is lent to the kernel will not be heard of. Whoever came to it on a walk is
  /// believed to read it through, so that the walk's next chunks go on coming.
  public mutating func chunkIsLent(_ id: ChunkID, to handle: HandleID) -> [Action] {
    guard let size = chunks[id]?.grid.sizeInBytes, handles[handle]?.readAhead.isOfWalk == true
    else { return [] }
    let window = windowLimit()
    handles[handle]?.readAhead.note(
      0..<size, maximumWindowInBytes: window, sizeInBytes: size)
    return expectFollowers(of: id, handle) + fill()
  }

  /// Whether `pinWhole(_:)` would succeed.
  public func canPinWhole(_ id: ChunkID) -> Bool {
    guard let chunk = chunks[id], chunk.isVersionKnown, chunk.grid.blockCount > 0,
      !chunk.isMemoryOnly
    else { return false }
    // Also where it is pinned already: a block of it may have been found damaged since.
    return chunk.present.isFull
      && (chunk.wholePinCount > 0
        || wholePinnedInBytes + chunk.wholeInBytes <= ledger.boundInBytes / 2)
  }

  /// How many calls of `pinWhole(_:)` have not been undone.
  public func wholePinCount(_ id: ChunkID) -> Int { chunks[id]?.wholePinCount ?? 0 }
}

extension FetchPlanner.Chunk {
  fileprivate var wholeInBytes: Int { grid.allocatedBytes(of: 0..<grid.blockCount) }
}
