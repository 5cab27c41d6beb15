// Fetching what readers have not come to yet, beyond the windows of their own: the next chunks of a walk, and the rest
// of a chunk that is read all over.

extension FetchPlanner {
  /// How many chunks ahead of a reader are fetched, where they are small.
  static let expectedChunkCount = 16

  /// Scattered reads of a chunk each cost a round trip. When so many have that the rest of the chunk would have come
  /// meanwhile (30 ms at 1 GB/s is 30 MB), it is believed that as many are to come, and the chunk is fetched whole.
  static let bytesPerScatteredMiss = 32 << 20
  static let fewestScatteredMisses = 4

  // MARK: The next chunks

  /// A chunk is opened: is it the one that was expected?
  mutating func noteWalk(to id: ChunkID) -> [Action] {
    let wasWalking = walk.order != nil
    walk.opened(id, in: catalog)
    guard wasWalking, walk.order == nil else { return [] }
    // The pattern is broken: what was expected is let go.
    return expectedOrder.flatMap { forgetExpectation($0) }
  }

  /// As a reader's window reaches the end of its chunk, what is left of it covers the next chunks' beginnings.
  mutating func expectFollowers(of id: ChunkID, _ handle: HandleID) -> [Action] {
    guard let order = walk.order, let stream = handles[handle]?.readAhead.current,
      let size = chunks[id]?.grid.sizeInBytes, stream.target >= size
    else { return [] }
    var budget = stream.windowInBytes - (size - stream.frontier)
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
      let known = expected[next]
      if known == nil {
        expectedOrder.append(next)
        if chunks[next] == nil { actions.append(.prepare(next)) }
      }
      expected[next] = Expectation(
        targetInBytes: max(known?.targetInBytes ?? 0, target), inheritedBytesRead: stream.bytesRead)
    }
    return actions
  }

  /// A query that has read its first columns, or a second footer, comes to the next chunks' footers soon: one small
  /// request each.
  mutating func expectFooters(after id: ChunkID, _ handle: HandleID) -> [Action] {
    guard catalog.isParquet, handles[handle]?.columns?.isWholeFile != true else { return [] }
    var actions: [Action] = []
    var follower = id
    for _ in 0..<Self.expectedChunkCount {
      guard let next = catalog.successor(of: follower, in: walk.order ?? .name) else { break }
      follower = next
      guard chunks[next] == nil, expected[next] == nil else { continue }
      expectedOrder.append(next)
      expected[next] = Expectation(targetInBytes: 0, inheritedBytesRead: 0)
      actions.append(.prepare(next))
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
    released.append(id)
    return abandonTransfers(of: id)
  }

  func nextExpected() -> Gap? {
    for id in expectedOrder {
      guard let target = expected[id]?.targetInBytes, let chunk = chunks[id] else { continue }
      let window = chunk.grid.blocks(covering: target > 0 ? 0..<target : chunk.opening)
      guard let run = chunk.missingAhead(in: window) else { continue }
      let offset = chunk.grid.bytes(of: run).lowerBound
      // The first answer tells the version; until then one request is all there may be.
      if !chunk.isVersionKnown, !chunk.transfers.isEmpty { continue }
      let end =
        chunk.isVersionKnown
        ? sizing.partEnd(startingAt: offset, forWindow: target)
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
    let enough = max(Self.fewestScatteredMisses, size / Self.bytesPerScatteredMiss)
    // Who has read a table of contents knows what it wants, and it is not all.
    guard chunk.scatteredMissCount + 1 >= enough, !chunk.isTableOfContentsRead,
      size <= maximumWindowInBytes / max(1, handles.count)
    else { return }
    chunks[id]?.isBeingFilled = true
  }

  func nextFilling() -> Gap? {
    for (id, chunk) in chunks where chunk.isBeingFilled {
      guard let run = chunk.missingAhead(in: 0..<chunk.grid.blockCount) else { continue }
      let offset = chunk.grid.bytes(of: run).lowerBound
      let end = sizing.partEnd(startingAt: offset, forWindow: chunk.grid.sizeInBytes)
      let blocks = run.clamped(to: chunk.grid.blocks(covering: offset..<end))
      return Gap(chunk: id, blocks: blocks, needed: 0..<0)
    }
    return nil
  }
}
