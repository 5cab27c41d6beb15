// Chunks that the kernel reads by itself. It would take a hole for zeros, so such a chunk is whole,
// and none of it may leave while the kernel has it.

extension FetchPlanner {
  /// Pins all of a chunk, until as many calls of `unpinWhole(_:)`.
  ///
  /// - Returns: false unless every block is present, and for a chunk that would bring what is
  ///   pinned in this way to more than half of the cache: what is fetched needs room too.
  public mutating func pinWhole(_ id: ChunkID) -> Bool {
    guard canPinWhole(id), let chunk = chunks[id] else { return false }
    chunks[id]?.wholePinCount += 1
    guard chunk.wholePinCount == 0 else { return true }
    wholePinnedInBytes += chunk.sizeOnDiskInBytes
    ledger.pin(0..<chunk.grid.segmentCount, of: chunk.entry)
    return true
  }

  public mutating func unpinWhole(_ id: ChunkID) -> [Action] {
    guard let chunk = chunks[id], chunk.wholePinCount > 0 else { return [] }
    chunks[id]?.wholePinCount -= 1
    guard chunk.wholePinCount == 1 else { return [] }
    wholePinnedInBytes -= chunk.sizeOnDiskInBytes
    ledger.unpin(0..<chunk.grid.segmentCount, of: chunk.entry)
    return isStarved ? fill() : []
  }

  /// The kernel serves the reader by itself from now on: nothing more is heard of it, and it needs
  /// no window. Whoever came on a walk is believed to read the chunk through, so that the next ones
  /// go on coming.
  public mutating func chunkIsLent(_ id: ChunkID, to reader: HandleID) -> [Action] {
    guard let size = chunks[id]?.grid.sizeInBytes, let handle = handles[reader], !handle.isLent
    else { return [] }
    handles[reader]?.isLent = true
    lentHandleCount += 1
    guard handle.readAhead.isOfWalk else { return [] }
    walk.lent(size)
    let window = windowLimit()
    handles[reader]?.readAhead.note(
      0..<size, maximumWindowInBytes: window, sizeInBytes: size)
    return expectFollowers(of: id, reader) + fill()
  }

  /// Whether `pinWhole(_:)` would succeed.
  public func canPinWhole(_ id: ChunkID) -> Bool {
    guard let chunk = chunks[id], chunk.isVersionKnown, chunk.grid.blockCount > 0,
      !chunk.isMemoryOnly
    else { return false }
    // Also where it is pinned already: a block of it may have been found damaged since.
    return chunk.present.isFull
      && (chunk.wholePinCount > 0
        || wholePinnedInBytes + chunk.sizeOnDiskInBytes <= ledger.boundInBytes / 2)
  }

  /// How many calls of `pinWhole(_:)` have not been undone.
  public func wholePinCount(_ id: ChunkID) -> Int { chunks[id]?.wholePinCount ?? 0 }
}
