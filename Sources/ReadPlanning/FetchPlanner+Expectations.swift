// Fetching what readers have not come to yet, beyond the windows of their own: the next chunks of a
// walk, and the rest of a chunk that is read all over.

extension FetchPlanner {
  /// How many chunks ahead of a reader are fetched, where they are small.
  static let expectedChunkCount = 16

  /// What would come during a round trip: 30 ms at 1 GB/s.
  static let bytesPerRoundTrip = 32 << 20

  /// Scattered reads of a chunk each cost a round trip. When so many have that the rest of the
  /// chunk would have come meanwhile, it is believed that as many are to come, and the chunk is
  /// fetched whole.
  static let fewestScatteredMisses = 4

  // MARK: The next chunks

  /// A chunk is opened: one that has nothing to do with the last few breaks the pattern, and what
  /// was expected is let go.
  mutating func noteWalk(to id: ChunkID) -> [Action] {
    walk.opened(id, in: catalog) ? [] : expectedOrder.flatMap { forgetExpectation($0) }
  }

  /// Expects a reader of the chunk, or more of one that is expected already.
  private mutating func expect(_ id: ChunkID, _ expectation: Expectation) -> [Action] {
    guard expected.updateValue(expectation, forKey: id) == nil else { return [] }
    expectedOrder.append(id)
    return chunks[id] == nil ? [.prepare(id)] : []
  }

  /// Half of a chunk is enough: the next one may be opened before it is closed.
  mutating func noteReadingThrough(_ id: ChunkID, _ handle: HandleID) {
    guard let size = chunks[id]?.grid.sizeInBytes,
      let bytesRead = handles[handle]?.readAhead.bytesRead
    else { return }
    if bytesRead >= size / 2 { walk.heardReadingThrough(id) }
  }

  /// As a reader's window reaches the end of its chunk, what is left of it covers the next chunks'
  /// beginnings: no more than the reader has read of this chunk and the one before, or what comes
  /// in a round trip, so that what is left unread where a walk ends is bounded by that.
  mutating func expectFollowers(of id: ChunkID, _ handle: HandleID) -> [Action] {
    guard let readAhead = handles[handle]?.readAhead, let stream = readAhead.current,
      let size = chunks[id]?.grid.sizeInBytes, stream.target >= size
    else { return [] }
    guard let order = walk.order else { return expectSecond(after: id, stream, size) }
    var budget = min(
      stream.windowInBytes - (size - stream.frontier),
      max(Self.bytesPerRoundTrip, stream.bytesRead + readAhead.inheritedBytesRead))
    var actions: [Action] = []
    var follower = id
    for _ in 0..<Self.expectedChunkCount {
      guard budget > 0, let next = catalog.successor(of: follower, in: order) else { break }
      follower = next
      let followerSize = catalog.sizesInBytes[next.index]
      defer { budget -= followerSize }
      // Another worker's.
      if let chunk = chunks[next], !chunk.handles.isEmpty { continue }
      let partSize = sizing.partSize(forWindow: stream.windowInBytes)
      let target =
        followerSize <= PartSizing.smallChunkInBytes
        ? followerSize : min(followerSize, (budget + partSize - 1) / partSize * partSize)
      actions += expect(
        next,
        Expectation(
          targetInBytes: max(expected[next]?.targetInBytes ?? 0, target),
          inheritedBytesRead: stream.bytesRead))
    }
    return actions
  }

  /// Whoever reads the first chunk by name, and no other, through to its end often begins a walk:
  /// then the second's first request is made ahead, which names its version. Whoever does not has
  /// cost a sixteenth at most.
  private mutating func expectSecond(
    after first: ChunkID, _ stream: ReadAhead.Stream, _ sizeInBytes: Int
  ) -> [Action] {
    guard walk.hasSeenOnly(first), let second = catalog.second(after: first),
      stream.bytesRead >= sizeInBytes / 2, sizeInBytes >= 16 * ReadAhead.firstRequestInBytes,
      catalog.sizesInBytes[second.index] > PartSizing.smallChunkInBytes, chunks[second] == nil
    else { return [] }
    return expect(second, Expectation(inheritedBytesRead: stream.bytesRead))
  }

  /// A query comes to the next chunks' footers soon: one small request each. Of a small chunk the
  /// first request brings all, which only a walk is worth.
  mutating func expectFooters(after id: ChunkID) -> [Action] {
    var actions: [Action] = []
    var follower = id
    for _ in 0..<Self.expectedChunkCount {
      guard let next = catalog.successor(of: follower, in: walk.order ?? .name) else { break }
      follower = next
      let isSmall = catalog.sizesInBytes[next.index] <= PartSizing.smallChunkInBytes
      guard chunks[next] == nil, expected[next] == nil, walk.order != nil || !isSmall else {
        continue
      }
      actions += expect(next, Expectation())
    }
    return actions
  }

  /// The chunk that was to be prepared cannot be.
  public mutating func cannotPrepare(_ id: ChunkID) { _ = forgetExpectation(id) }

  /// Chunks that were prepared and are not expected any more: they may be unloaded.
  public mutating func takeReleased() -> [ChunkID] {
    defer { released.removeAll() }
    return released
  }

  @discardableResult
  mutating func forgetExpectation(_ id: ChunkID) -> [Action] {
    guard expected.removeValue(forKey: id) != nil else { return [] }
    expectedOrder.removeAll { $0 == id }
    guard let chunk = chunks[id], chunk.handles.isEmpty else { return [] }
    chunks[id]?.wishes = []
    released.append(id)
    return abandonTransfers(of: id)
  }

  /// What is wanted of expected chunks: of the nearest first, as much as readers' windows leave.
  func expectedRanges() -> [ChunkID: Range<Int>] {
    guard !expected.isEmpty else { return [:] }
    let limit = windowLimit()
    var budget = handles.values.reduce(shareOfWindows) { rest, handle in
      handle.readAhead.windows(limitInBytes: limit).reduce(rest) { $0 - $1.bytes.count }
    }
    var ranges: [ChunkID: Range<Int>] = [:]
    for id in expectedOrder where budget > 0 {
      guard let chunk = chunks[id] else { continue }
      let wanted = expected[id]?.targetInBytes.map { 0..<$0 } ?? chunk.opening
      ranges[id] = wanted.lowerBound..<min(wanted.upperBound, wanted.lowerBound + budget)
      budget -= wanted.count
    }
    return ranges
  }

  func nextExpected() -> Gap? {
    let ranges = expectedRanges()
    for id in expectedOrder {
      guard let wanted = ranges[id], let chunk = chunks[id] else { continue }
      let window = chunk.grid.blocks(covering: wanted)
      guard let run = chunk.missingAhead(in: window) else { continue }
      let offset = chunk.grid.bytes(of: run).lowerBound
      // The first answer tells the version; until then one request is all there may be.
      if !chunk.isVersionKnown, !chunk.transfers.isEmpty { continue }
      let end =
        chunk.isVersionKnown
        ? sizing.partEnd(startingAt: offset, forWindow: wanted.count)
        : offset + sizing.largestPartInBytes
      let blocks = run.clamped(to: chunk.grid.blocks(covering: offset..<end))
      return Gap(chunk: id, blocks: blocks, needed: 0..<0)
    }
    return nil
  }

  // MARK: Chunks that are read all over

  mutating func noteScatteredMiss(_ id: ChunkID) {
    guard let chunk = chunks[id] else { return }
    chunks[id]?.scatteredMissCount += 1
    let size = chunk.grid.sizeInBytes
    let enough = max(Self.fewestScatteredMisses, size / Self.bytesPerRoundTrip)
    // Who has read a table of contents knows what it wants, and it is not all.
    guard chunk.scatteredMissCount + 1 >= enough, !chunk.isTableOfContentsRead,
      size <= maximumWindowInBytes / readerCount
    else { return }
    guard chunks[id]?.isBeingFilled == false else { return }
    chunks[id]?.isBeingFilled = true
    chunks[id]?.filledUpToBlock = 0
  }

  func nextFilling() -> Gap? {
    for (id, chunk) in chunks where chunk.isBeingFilled {
      let rest = chunk.filledUpToBlock..<chunk.grid.blockCount
      guard let run = chunk.missingAhead(in: rest) else { continue }
      let offset = chunk.grid.bytes(of: run).lowerBound
      let end = sizing.partEnd(startingAt: offset, forWindow: chunk.grid.sizeInBytes)
      let blocks = run.clamped(to: chunk.grid.blocks(covering: offset..<end))
      return Gap(chunk: id, blocks: blocks, needed: 0..<0, reason: .filling)
    }
    return nil
  }
}
