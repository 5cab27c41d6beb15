import Blocks

// Reading while the cache's disk cannot be written: it is full, it fails, or its directory is gone.
//
// What a reader waits for, and nothing else, is then fetched into memory, read from there, and
// dropped. Blocks in memory are no part of the ledger's books. Their number is bounded; a block may
// be dropped while nobody has its segment pinned, first those that no read waits for, then those of
// reads that came after the one that needs the room. So the oldest may take all others' room, and
// nobody takes the oldest's: one of them always gets on.

extension FetchPlanner {
  /// The most blocks in memory, over all chunks: 4 MiB, of which the largest read needs 17 blocks.
  public static let mostBlocksInMemory = 64

  struct BlockKey: Sendable, Hashable {
    let chunk: ChunkID
    let block: Int
  }

  // MARK: What the caller tells

  /// The part's bytes could not be written to the cache, which is not written to until
  /// `cachingResumed()`. Who waits for them goes on waiting.
  ///
  /// - Parameter part: nil when something else could not be written.
  public mutating func cachingFailed(_ part: PartID? = nil) -> [Action] {
    isCachingPaused = true
    // What the failed write has left on disk is not known: all that was reserved for it stays on
    // the books.
    if let part { _ = end(part, keepsSpace: true) }
    return fill()
  }

  /// The cache can be written again.
  public mutating func cachingResumed() -> [Action] {
    isCachingPaused = false
    verifyAgain()
    return fill()
  }

  /// How much room the file system of the cache has at this moment, beside what is to be left free;
  /// negative when that much is not free. The cache's bound follows it, up to what was configured.
  public mutating func noteRoom(inBytes room: Int) -> [Action] {
    let unwritten = chunks.values.reduce(0) { sum, chunk in
      chunk.transfers.reduce(sum) {
        $1.part.isInMemory ? $0 : $0 + $1.part.bytes.upperBound - $1.arrived
      }
    }
    ledger.curtail(toBytes: ledger.usedInBytes - unwritten + room)
    guard isCacheKnown else { return [] }
    if !ledger.isCurtailed, !isCachingPaused { verifyAgain() }
    let leaving = ledger.evict(toFit: 0).map { leave($0) }
    return isStarved ? leaving + fill() : leaving
  }

  /// Whether the disk has so little room that caching is not worth it.
  public var isShortOfRoom: Bool {
    ledger.isCurtailed && ledger.boundInBytes < Self.smallestUsefulBoundInBytes
  }

  private static let smallestUsefulBoundInBytes = 8 << 20

  /// Stored blocks could not be read. They are fetched again, over the old ones; the second time,
  /// the chunk's files are not used any more, and it is read through memory until it is unloaded.
  ///
  /// - Returns: whether it has come to that, so that the files are to be removed.
  public mutating func unreadable(_ id: ChunkID, blocks: Range<Int>) -> Bool {
    discarded(id, blocks: blocks)
    guard var chunk = chunks[id] else { return false }
    chunk.readErrorCount += 1
    if chunk.readErrorCount > 1 {
      chunk.isMemoryOnly = true
      chunk.present = BlockSet(blockCount: chunk.grid.blockCount)
    }
    chunks[id] = chunk
    return chunk.isMemoryOnly
  }

  /// Whether the chunk's files are not used.
  public func isMemoryOnly(_ id: ChunkID) -> Bool { chunks[id]?.isMemoryOnly ?? false }

  // MARK: Parts

  /// Starts a part of what a read cannot do without. False when there is no room in memory now.
  mutating func startInMemory(_ gap: Gap, _ actions: inout [Action]) -> Bool {
    guard let chunk = chunks[gap.chunk], !gap.needed.isEmpty else { return false }
    if gap.wanted.count > Self.mostBlocksInMemory {
      // No kernel asks for so much at once; it could never be answered.
      for wait in chunk.waits
      where waits[wait].map({ chunk.grid.blocks(covering: $0.bytes) }) == gap.wanted {
        forget(wait)
        actions.append(.fail(wait))
      }
      return true
    }
    // Where the answer's head is what is needed, one block brings it.
    let needed =
      chunk.isVersionKnown
      ? gap.needed : gap.needed.lowerBound..<gap.needed.lowerBound + 1
    let wanted = needed.prefix(Self.mostBlocksInMemory)
    makeRoom(for: wanted.count, of: gap, &actions)
    let blocks = wanted.prefix(Self.mostBlocksInMemory - memory.count)
    guard !blocks.isEmpty else {
      isStarved = true
      return false
    }
    for block in blocks {
      let key = BlockKey(chunk: gap.chunk, block: block)
      if !memory.contains(key) { memory.append(key) }
    }
    begin(gap.chunk, blocks.startIndex..<blocks.endIndex, isInMemory: true, &actions)
    return true
  }

  /// The oldest first: those that nobody waits for, then those of reads that came after the one
  /// that `gap` is for.
  private mutating func makeRoom(for count: Int, of gap: Gap, _ actions: inout [Action]) {
    let needed = memory.count + count - Self.mostBlocksInMemory
    guard needed > 0 else { return }
    var kept: [ChunkID: [Range<Int>]] = [:]
    for id in demand {
      guard let wait = waits[id], let chunk = chunks[wait.chunk],
        !isWithheld(wait.bytes, in: chunk)
      else { continue }
      let blocks = chunk.grid.blocks(covering: wait.bytes)
      kept[wait.chunk, default: []].append(blocks)
      if wait.chunk == gap.chunk, blocks == gap.wanted { break }
    }
    let idle = memory.filter { key in
      isIdle(key) && kept[key.chunk]?.contains { $0.contains(key.block) } != true
    }
    let byWorth = idle.filter { !isWaitedFor($0) } + idle.filter { isWaitedFor($0) }
    drop(byWorth.prefix(needed), &actions)
  }

  /// Drops what was in memory because the disk failed, once it does not and nobody needs it there.
  mutating func dropIdleBlocks() -> [Action] {
    guard !isCachingPaused, !memory.isEmpty else { return [] }
    var actions: [Action] = []
    let idle = memory.filter { !isMemoryOnly($0.chunk) && isIdle($0) && !isWaitedFor($0) }
    drop(idle[...], &actions)
    return actions
  }

  private mutating func drop(_ keys: ArraySlice<BlockKey>, _ actions: inout [Action]) {
    guard !keys.isEmpty else { return }
    let gone = Set(keys)
    memory.removeAll { gone.contains($0) }
    for key in keys {
      chunks[key.chunk]?.inMemory.remove(key.block..<key.block + 1)
      actions.append(.drop(key.chunk, block: key.block))
    }
  }

  private func isIdle(_ key: BlockKey) -> Bool {
    guard let chunk = chunks[key.chunk] else { return true }
    return !ledger.isPinned(
      .init(entry: chunk.entry, index: chunk.grid.segment(ofBlock: key.block)))
  }

  private func isWaitedFor(_ key: BlockKey) -> Bool {
    guard let chunk = chunks[key.chunk] else { return false }
    return chunk.waits.contains {
      waits[$0].map { chunk.grid.blocks(covering: $0.bytes).contains(key.block) } ?? false
    }
  }
}
