import Blocks

// Which part is fetched next. Called after every event that frees a connection, wants bytes or
// gives space back.

extension FetchPlanner {
  /// A run of blocks to fetch, and what may be left out of it when space is short.
  struct Gap {
    let chunk: ChunkID
    let blocks: Range<Int>
    /// The blocks that a wait needs; empty for read-ahead.
    let needed: Range<Int>
    /// All blocks of that wait.
    var wanted = 0..<0
    var reason = Reason.window

    enum Reason {
      case window
      case filling
      /// A wish, by its place in the chunk's wishes.
      case wish(Int)
    }
  }

  /// Starts parts until the connections are in use, nothing is wanted, or the cache has no room.
  mutating func fill() -> [Action] {
    guard isCacheKnown else { return [] }
    var actions = dropIdleBlocks()
    isStarved = false
    if partsToldToWait.isEmpty { resumeReadyParts(&actions) }
    forgetAnsweredDemand()
    chooseHold(&actions)
    while partsToldToWait.isEmpty, runningCount < mostConnections,
      let gap = nextDemand() ?? nextAhead()
    {
      guard start(gap, &actions) else { break }
    }
    planVerification(&actions)
    return actions
  }

  /// What the flag allows, or less, as long as the store asks for less.
  var mostConnections: Int { concurrency.connections }

  /// How many parts there may be when one is begun that nobody waits for. Parts between two
  /// attempts count here: a store that fails them all would else be asked for ever more.
  var mostPartsAhead: Int { PartSizing.connectionsAhead(of: mostConnections) }

  private mutating func resumeReadyParts(_ actions: inout [Action]) {
    while runningCount < mostConnections, !readyParts.isEmpty {
      guard let (chunk, index) = find(readyParts.removeFirst()),
        var transfer = chunks[chunk]?.transfers[index], transfer.state == .ready
      else { continue }
      transfer.state = .running
      transfer.attempts += 1
      transfer.epoch = concurrency.epoch
      chunks[chunk]?.transfers[index] = transfer
      runningCount += 1
      actions.append(.fetch(transfer.part))
    }
  }

  // MARK: What is wanted

  private func nextDemand() -> Gap? {
    for id in demand {
      guard let wait = waits[id], let chunk = chunks[wait.chunk] else { continue }
      if !chunk.isVersionKnown {
        guard chunk.transfers.isEmpty else { continue }
        let blocks = chunk.grid.blocks(covering: chunk.opening)
        return Gap(chunk: wait.chunk, blocks: blocks, needed: blocks)
      }
      let isInMemory = isCachingPaused || chunk.isMemoryOnly
      guard let wanted = wantedBlocks(for: wait, in: chunk),
        let needed = chunk.missingRun(in: wanted, isForMemory: isInMemory)
      else { continue }
      // Where the reader is sequential its part is as long as its other parts.
      let offset = chunk.grid.bytes(of: needed).lowerBound
      var end = wanted.upperBound
      if let stream = handles[wait.handle]?.readAhead.stream(at: offset) {
        let partEnd = min(
          stream.target, sizing.partEnd(startingAt: offset, forWindow: stream.windowInBytes))
        end = max(end, chunk.grid.blocks(covering: offset..<partEnd).upperBound)
      }
      let blocks = chunk.missingRun(in: needed.lowerBound..<end) ?? needed
      return Gap(chunk: wait.chunk, blocks: blocks, needed: needed, wanted: wanted)
    }
    return nil
  }

  /// What nobody waits for yet: columns and windows of readers, then chunks with readers all over
  /// them, then the next chunks.
  private func nextAhead() -> Gap? {
    guard chunkOfPart.count < mostPartsAhead, !isCachingPaused else { return nil }
    return nextColumns() ?? nextReadAhead() ?? nextFilling() ?? nextExpected()
      ?? nextExpectedColumns()
  }

  private func nextReadAhead() -> Gap? {
    var best: (lead: Int, gap: Gap)?
    for handle in handles.keys {
      guard let candidate = nextGap(aheadOf: handle) else { continue }
      if let best, best.lead <= candidate.lead { continue }
      best = candidate
    }
    return best?.gap
  }

  /// The next part of a reader's windows, and how far ahead of the reader it starts.
  func nextGap(aheadOf id: HandleID) -> (lead: Int, gap: Gap)? {
    guard let handle = handles[id], let chunk = chunks[handle.chunk], chunk.isVersionKnown else {
      return nil
    }
    var best: (lead: Int, gap: Gap)?
    for window in handle.readAhead.windows(limitInBytes: windowLimit()) {
      guard let run = chunk.missingAhead(in: chunk.grid.blocks(covering: window.bytes)) else {
        continue
      }
      let offset = chunk.grid.bytes(of: run).lowerBound
      let lead = offset - window.bytes.lowerBound
      if let best, best.lead <= lead { continue }
      let end = sizing.partEnd(startingAt: offset, forWindow: window.sizeInBytes)
      // A window that has moved on by less than a part waits until it has room for a whole one.
      if end > window.bytes.upperBound, window.bytes.upperBound < chunk.grid.sizeInBytes {
        continue
      }
      let blocks = run.clamped(to: chunk.grid.blocks(covering: offset..<end))
      best = (lead, Gap(chunk: handle.chunk, blocks: blocks, needed: 0..<0))
    }
    return best
  }

  private mutating func forgetAnsweredDemand() {
    while let first = demand.first, waits[first] == nil { demand.removeFirst() }
    if demand.count > 2 * waits.count + 64 {
      let waits = waits
      demand.removeAll { waits[$0] == nil }
    }
  }

  // MARK: Room for it

  /// Reserves the space and starts the part. False when there is no room now: what must leave is in
  /// `actions`.
  private mutating func start(_ gap: Gap, _ actions: inout [Action]) -> Bool {
    guard let chunk = chunks[gap.chunk] else { return false }
    if isCachingPaused || chunk.isMemoryOnly { return startInMemory(gap, &actions) }
    var blocks = gap.blocks
    var bytes = spaceNeeded(for: blocks, in: chunk)
    if !ledger.fits(bytes) {
      actions += evict(toFit: bytes, sparingWindows: gap.needed.isEmpty)
      guard ledger.leavingInBytes == 0, !gap.needed.isEmpty else {
        isStarved = true
        return false
      }
      // Nothing can leave: make do with what the reader cannot go on without.
      blocks = gap.needed
      bytes = spaceNeeded(for: blocks, in: chunk)
      guard ledger.fits(bytes) else {
        // What the disk lacks comes back by nobody's reading. For a chunk that is held there is
        // room, as soon as others have finished.
        if ledger.isCurtailed, verification.held != gap.chunk {
          return startInMemory(gap, &actions)
        }
        isStarved = true
        return false
      }
    }
    begin(gap.chunk, blocks, isInMemory: false, &actions)
    noteBegun(gap)
    return true
  }

  /// What is fetched for no reader's window is fetched once: should it leave before somebody reads
  /// it, it was not worth its place.
  private mutating func noteBegun(_ gap: Gap) {
    guard gap.needed.isEmpty, let chunk = chunks[gap.chunk] else { return }
    let end = chunk.grid.bytes(of: gap.blocks).upperBound
    switch gap.reason {
    case .window: break
    case .filling: chunks[gap.chunk]?.filledUpToBlock = gap.blocks.upperBound
    case .wish(let index):
      let rest = end..<max(end, chunk.wishes[index].upperBound)
      if chunk.missingRun(in: chunk.grid.blocks(covering: rest)) == nil {
        chunks[gap.chunk]?.wishes.remove(at: index)
      } else {
        chunks[gap.chunk]?.wishes[index] = rest
      }
    }
  }

  /// Puts a part on the books. It fits.
  mutating func begin(
    _ id: ChunkID, _ blocks: Range<Int>, isInMemory: Bool, _ actions: inout [Action]
  ) {
    guard let chunk = chunks[id] else { return }
    let part = Part(
      id: PartID(number: nextPart), chunk: id, entry: chunk.entry,
      bytes: chunk.grid.bytes(of: blocks), isInMemory: isInMemory)
    nextPart += 1
    for segment in chunk.grid.segments(covering: blocks) {
      let key = Segment(entry: chunk.entry, index: segment)
      if !isInMemory {
        let inside = chunk.grid.blocks(ofSegment: segment).clamped(to: blocks)
        ledger.reserve(key, bytes: spaceNeeded(for: inside, in: chunk))
      }
      ledger.pin(key)
    }
    if !isInMemory { chunks[id]?.allocated.insert(blocks) }
    chunks[id]?.transfers.append(
      Transfer(
        part: part, arrived: part.bytes.lowerBound, held: chunk.allocated.presentRuns(in: blocks),
        epoch: concurrency.epoch))
    chunkOfPart[part.id] = id
    runningCount += 1
    actions.append(.fetch(part))
  }

  private func spaceNeeded(for blocks: Range<Int>, in chunk: Chunk) -> Int {
    chunk.grid.allocatedBytes(of: blocks)
      - chunk.allocated.presentRuns(in: blocks).reduce(0) { $0 + chunk.grid.allocatedBytes(of: $1) }
  }

  /// Evicts a little more than is needed now, so that a full cache does not stop at every part:
  /// first what no reader is about to come to.
  ///
  /// - Parameter sparingWindows: and nothing else, so that fetching ahead never takes the place of
  ///   what was fetched ahead.
  private mutating func evict(toFit bytes: Int, sparingWindows: Bool) -> [Action] {
    let spare = min(ledger.boundInBytes / 16, PartSizing.largestInBytes)
    let ahead = segmentsAhead()
    var leaving = ledger.evict(toFit: bytes + spare) { segment in
      ahead[segment.entry]?.contains { $0.contains(segment.index) } ?? false
    }
    if !sparingWindows { leaving += ledger.evict(toFit: bytes) }
    return leaving.map { leave($0) }
  }

  /// The segments that readers are about to come to: three quarters of the cache at most.
  private func segmentsAhead() -> [EntryID: [Range<Int>]] {
    var ranges = expectedRanges().map { ($0.key, $0.value) }
    let limit = windowLimit()
    for handle in handles.values {
      for window in handle.readAhead.windows(limitInBytes: limit) {
        ranges.append((handle.chunk, window.bytesToSpare))
      }
    }
    var segments: [EntryID: [Range<Int>]] = [:]
    for (id, bytes) in ranges where !bytes.isEmpty {
      guard let chunk = chunks[id] else { continue }
      let blocks = chunk.grid.blocks(covering: bytes)
      segments[chunk.entry, default: []].append(chunk.grid.segments(covering: blocks))
    }
    return segments
  }
}
