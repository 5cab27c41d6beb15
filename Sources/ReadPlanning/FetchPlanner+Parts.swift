// What becomes of a part: its bytes arrive, it ends, or its request fails and is made again.

extension FetchPlanner {
  /// `count` more bytes of the part are in the cache file; every block they completed has its
  /// checksum.
  public mutating func arrived(_ id: PartID, count: Int) -> [Action] {
    guard let (chunkID, index) = find(id), var chunk = take(chunkID) else { return [] }
    let before = chunk.transfers[index].arrived
    chunk.transfers[index].arrived += count
    let transfer = chunk.transfers[index]
    let firstBlock = chunk.grid.block(at: before)
    let complete = chunk.grid.blocks(inside: transfer.part.bytes.lowerBound..<transfer.arrived)
    if complete.upperBound > firstBlock {
      let blocks = max(firstBlock, complete.lowerBound)..<complete.upperBound
      if transfer.part.isInMemory {
        chunk.inMemory.insert(blocks)
      } else {
        chunk.present.insert(blocks)
        chunk.inMemory.remove(blocks)
        chunk.damaged.subtract(blocks)
      }
      if chunk.verification.state == .ok { chunk.verification.state = .pending }
      chunk.transfers[index].attempts = 1
    }
    chunks[chunkID] = chunk
    // A wait for the beginning of a damaged block is answered by the block's end.
    let start = chunk.grid.bytes(of: firstBlock..<firstBlock + 1).lowerBound
    return answerWaits(of: chunkID, touching: start..<transfer.arrived)
  }

  /// The part has all its bytes.
  public mutating func finished(_ id: PartID) -> [Action] {
    concurrency.noteSuccess()
    guard let (chunk, _) = end(id) else { return fill() }
    return askForFooter(chunk) + fill()
  }

  public struct Pause: Sendable, Equatable {
    /// How many attempts in a row have failed since the part last got a block further.
    public let attempts: Int
    /// Whether a reader waits for bytes that the part has not brought.
    public let isWaitedFor: Bool
    public let actions: [Action]
  }

  /// The part's request failed and may be worth another attempt, which `retry(_:)` will start. Nil
  /// when nobody has the chunk open and nobody is expected to: then it is not.
  ///
  /// - Parameters:
  ///   - isThrottled: the store asks for fewer requests.
  ///   - isToldToWait: it named a time (Retry-After), which is its own and not this part's: until
  ///     `retry(_:)` no request is made at all.
  public mutating func paused(
    _ id: PartID, isThrottled: Bool = false, isToldToWait: Bool = false
  ) -> Pause? {
    guard let (chunkID, index) = find(id), let chunk = chunks[chunkID] else { return nil }
    let transfer = chunk.transfers[index]
    if isThrottled { concurrency.noteThrottled(sentIn: transfer.epoch) }
    guard !chunk.handles.isEmpty || expected[chunkID] != nil else { return nil }
    if transfer.state == .running { runningCount -= 1 }
    chunks[chunkID]?.transfers[index].state = .pausing
    if isToldToWait { partsToldToWait.insert(id) }
    let isWaitedFor = chunk.waits.contains { isHit($0, in: chunk, by: transfer) }
    return Pause(attempts: transfer.attempts, isWaitedFor: isWaitedFor, actions: fill())
  }

  /// Whether the wait is for bytes that the part has yet to bring.
  private func isHit(_ wait: WaitID, in chunk: Chunk, by transfer: Transfer) -> Bool {
    guard let waiting = waits[wait] else { return false }
    return waiting.isOpen
      ? !chunk.isVersionKnown
      : waiting.bytes.overlaps(transfer.arrived..<transfer.part.bytes.upperBound)
        || isWithheld(waiting.bytes, in: chunk)
  }

  /// The delay is over: the part goes on as soon as a connection is free.
  public mutating func retry(_ id: PartID) -> [Action] {
    guard let (chunk, index) = find(id), chunks[chunk]?.transfers[index].state == .pausing else {
      return []
    }
    chunks[chunk]?.transfers[index].state = .ready
    partsToldToWait.remove(id)
    readyParts.append(id)
    return fill()
  }

  /// The part is given up: who waits for its missing bytes fails, and nobody fetches ahead in this
  /// chunk until the next read.
  public mutating func failed(_ id: PartID) -> [Action] {
    guard let (chunkID, transfer) = end(id) else { return [] }
    var actions: [Action] = []
    if let chunk = chunks[chunkID] {
      for wait in chunk.waits where isHit(wait, in: chunk, by: transfer) {
        forget(wait)
        actions.append(.fail(wait))
      }
      pauseFetchingAhead(of: chunkID)
    }
    return actions + fill()
  }

  /// Nobody fetches ahead in this chunk until the next read.
  mutating func pauseFetchingAhead(of id: ChunkID) {
    for handle in chunks[id]?.handles ?? [] { handles[handle]?.readAhead.pause() }
    chunks[id]?.isBeingFilled = false
    chunks[id]?.wishes = []
    forgetExpectation(id)
  }

  /// The part was cancelled, as asked; unless somebody wants its bytes by now, in which case they
  /// are fetched anew.
  public mutating func cancelled(_ id: PartID) -> [Action] {
    _ = end(id)
    return fill()
  }

  mutating func answerWaits(of id: ChunkID, touching bytes: Range<Int>) -> [Action] {
    guard let chunk = chunks[id] else { return [] }
    var actions: [Action] = []
    for wait in chunk.waits {
      guard let waiting = waits[wait], waiting.bytes.overlaps(bytes),
        isAvailable(waiting.bytes, in: chunk)
      else { continue }
      forget(wait)
      pin(waiting.bytes, of: chunk)
      actions.append(.answer(wait))
    }
    return actions
  }

  /// Takes the part off the books. Blocks it never touched give their space back; one it left half
  /// written keeps it, because a reader may be copying from that half: it goes when its segment
  /// does, or is written over.
  ///
  /// - Parameter keepsSpace: the untouched ones keep theirs too.
  @discardableResult
  mutating func end(_ id: PartID, keepsSpace: Bool = false) -> (ChunkID, Transfer)? {
    guard let (chunkID, index) = find(id), var chunk = take(chunkID) else { return nil }
    let transfer = chunk.transfers.remove(at: index)
    chunkOfPart[id] = nil
    partsToldToWait.remove(id)
    if transfer.state == .running { runningCount -= 1 }
    let untouched = chunk.grid.blocks(inside: transfer.arrived..<transfer.part.bytes.upperBound)
    if transfer.arrived < transfer.part.bytes.upperBound, !transfer.part.isInMemory, !keepsSpace {
      // What was on the books before, half written or damaged, is on disk still.
      for block in untouched where !transfer.held.contains(where: { $0.contains(block) }) {
        chunk.allocated.remove(block..<block + 1)
        ledger.giveBack(
          .init(entry: chunk.entry, index: chunk.grid.segment(ofBlock: block)),
          bytes: chunk.grid.allocatedBytes(of: block..<block + 1))
      }
    }
    let segments = chunk.grid.segments(covering: chunk.grid.blocks(covering: transfer.part.bytes))
    hold(segments, of: chunkID, chunk)
    ledger.unpin(segments, of: chunk.entry)
    chunks[chunkID] = chunk
    noteCompletion(chunkID)
    return (chunkID, transfer)
  }

  func find(_ id: PartID) -> (ChunkID, Int)? {
    guard let chunk = chunkOfPart[id],
      let index = chunks[chunk]?.transfers.firstIndex(where: { $0.part.id == id })
    else { return nil }
    return (chunk, index)
  }

  /// Moves the chunk out of the dictionary so that changing it copies no bitmap; the caller puts it
  /// back.
  private mutating func take(_ id: ChunkID) -> Chunk? { chunks.removeValue(forKey: id) }
}
