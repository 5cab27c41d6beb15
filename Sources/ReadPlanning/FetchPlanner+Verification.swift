import Blocks

// Comparing chunks with the manifest's MD5: which, when, and what follows.
//
// A chunk can be compared when it is all in the cache. In the background that is done when nobody
// has read it for a moment, because hashing what a reader wants would compete with that reader for
// the processor; so it costs nothing while a chunk is read, and a chunk that is never read to its
// end is never compared. One comparison runs at a time. It pins what it reads, and all of the chunk
// where that is no more than a quarter of the cache; a block of a larger one that leaves meanwhile
// ends it, and the chunk is pending again.
//
// Where the mode is strict, who wants the chunk's last byte waits for the comparison, and so for
// all of the chunk. One chunk at a time is *held* for that: what arrives of it stays until the
// comparison has ended, or two such chunks could push each other out for ever.

extension FetchPlanner {
  // MARK: What is asked about a chunk

  /// The chunk's verification state; nil for a chunk that this run does not know.
  public func verificationState(of id: ChunkID) -> VerificationState? {
    (chunks[id]?.verification ?? verification.remembered[id])?.state
  }

  /// Whether the cache, as it is configured, can have all bytes of a chunk at once.
  public func fitsCache(sizeInBytes: Int, overheadInBytes: Int) -> Bool {
    let grid = BlockGrid(sizeInBytes: sizeInBytes)
    return grid.allocatedBytes(of: 0..<grid.blockCount) + overheadInBytes
      <= ledger.configuredBoundInBytes
  }

  /// Whether the kernel may read the chunk by itself: what it reads cannot be held back.
  public func mayLend(_ id: ChunkID) -> Bool {
    verification.mode != .strict || verificationState(of: id) == .ok
  }

  /// Whether the kernel may read the chunk by itself for a reader that has just opened it.
  public func mayLend(_ id: ChunkID, to handle: HandleID) -> Bool {
    mayLend(id) && handles[handle]?.isToBeHeard == false
  }

  /// Whether pages that the kernel has of the chunk are as good as ours.
  public func mayKeepPages(of id: ChunkID) -> Bool {
    (chunks[id]?.verification ?? verification.remembered[id])?.wasWrong != true
  }

  func hasFailed(_ id: ChunkID) -> Bool { verificationState(of: id) == .failed }

  // MARK: Becoming complete

  /// What is known of a chunk that is being loaded.
  func initialVerification(
    _ id: ChunkID, isVerifiable: Bool, isVerified: Bool
  ) -> ChunkVerification {
    var known =
      verification.remembered[id]
      ?? ChunkVerification(state: isVerifiable ? .pending : .unverifiable)
    if known.state == .pending, isVerified { known.state = .ok }
    return known
  }

  mutating func noteCompletion(_ id: ChunkID) {
    guard verification.mode != .off, let chunk = chunks[id],
      chunk.verification.state == .pending, chunk.present.isFull, verification.running != id
    else { return }
    verification.queue.append(id)
  }

  mutating func rememberVerification(_ id: ChunkID, _ known: ChunkVerification) {
    var known = known
    known.forgetDiskFailure()
    verification.remembered[id] = known.isWorthRemembering ? known : nil
  }

  // MARK: Choosing

  /// Called by `fill`, so after every event that may have changed something.
  mutating func planVerification(_ actions: inout [Action]) {
    guard verification.running == nil else { return }
    if let held = verification.held, chunks[held]?.present.isFull == true {
      startVerification(held, &actions)
    } else if !verification.queue.isEmpty, !verification.isLookPlanned {
      verification.isLookPlanned = true
      actions.append(.verifyLater)
    }
  }

  /// The moment after `.verifyLater` is over.
  public mutating func verificationIsDue() -> [Action] {
    verification.isLookPlanned = false
    var actions: [Action] = []
    let quiet = verification.queue.first { isQuiet($0) }
    if verification.running == nil, let quiet {
      // Readers of other chunks want the processor too, for a while.
      if isFetching, verification.busyLookCount < Self.mostBusyLooks {
        verification.busyLookCount += 1
      } else {
        verification.busyLookCount = 0
        startVerification(quiet, &actions)
      }
    }
    for id in verification.queue {
      guard let count = chunks[id]?.verification.readCount else { continue }
      chunks[id]?.verification.readCountAtLastLook = count
    }
    planVerification(&actions)
    return actions
  }

  /// For so many looks, a second each, comparisons give way to what is being fetched.
  static let mostBusyLooks = 30

  private var isFetching: Bool { runningCount > 0 }

  private func isQuiet(_ id: ChunkID) -> Bool {
    // Who is not loaded has no readers.
    guard let chunk = chunks[id] else { return true }
    let wasRead = chunk.verification.readCount != chunk.verification.readCountAtLastLook
    return chunk.transfers.isEmpty && chunk.waits.isEmpty && (chunk.handles.isEmpty || !wasRead)
  }

  private mutating func startVerification(_ id: ChunkID, _ actions: inout [Action]) {
    verification.queue.remove(id)
    verification.running = id
    actions.append(.verify(id))
  }

  // MARK: The comparison

  /// `.verify` is being carried out, and the chunk is loaded. False when it is not complete any
  /// more: then the comparison has been interrupted.
  public mutating func beginVerification(_ id: ChunkID) -> Bool {
    guard verification.running == id, let chunk = chunks[id], chunk.present.isFull else {
      return false
    }
    chunks[id]?.verification.isDisturbed = false
    let size = chunk.sizeOnDiskInBytes
    if verification.held != id, size <= ledger.boundInBytes / 4 {
      verification.pinned = (chunk.entry, chunk.grid.segmentCount, size)
      ledger.pin(0..<chunk.grid.segmentCount, of: chunk.entry)
    }
    return true
  }

  /// Pins bytes that are about to be hashed, until `finishedReading`. False when some have left.
  public mutating func continueVerification(_ id: ChunkID, bytes: Range<Int>) -> Bool {
    guard let chunk = chunks[id], !chunk.verification.isDisturbed,
      chunk.present.containsAll(chunk.grid.blocks(covering: bytes))
    else { return false }
    pin(bytes, of: chunk)
    return true
  }

  public mutating func verificationEnded(
    _ id: ChunkID, _ outcome: VerificationOutcome
  ) -> (VerificationVerdict, [Action]) {
    if verification.running == id { verification.running = nil }
    if let pinned = verification.pinned {
      ledger.unpin(0..<pinned.segmentCount, of: pinned.entry)
      verification.pinned = nil
    }
    guard let chunk = chunks[id], chunk.verification.state == .pending else {
      return (.undecided, fill())
    }
    var actions: [Action] = []
    // Bytes that were replaced while they were hashed make a sum of neither.
    let isWhole = chunk.present.isFull && !chunk.verification.isDisturbed
    let verdict: VerificationVerdict
    switch outcome {
    case .same where isWhole:
      chunks[id]?.verification.state = .ok
      chunks[id]?.verification.mismatchCount = 0
      verdict = .ok
      answerWithheld(id, &actions)
    case .different where isWhole:
      verdict = noteMismatch(id, &actions)
    case .unreadable:
      failWaits(chunk.waits.filter { isWithheld($0) }, &actions)
      verdict = .undecided
    default:
      noteCompletion(id)
      verdict = .undecided
    }
    if chunk.handles.isEmpty, expected[id] == nil { released.append(id) }
    actions += fill()
    // Chunks that nobody has open need no look each: there may be thousands of small ones.
    let closed = verification.queue.first { isQuiet($0) && chunks[$0]?.handles.isEmpty != false }
    if verification.running == nil, !isFetching, let closed { startVerification(closed, &actions) }
    return (verdict, actions)
  }

  private mutating func noteMismatch(
    _ id: ChunkID, _ actions: inout [Action]
  ) -> VerificationVerdict {
    releaseHold()
    chunks[id]?.verification.wasWrong = true
    chunks[id]?.verification.mismatchCount += 1
    dropAll(of: id, &actions)
    guard let count = chunks[id]?.verification.mismatchCount, count > 1 else { return .fetchAgain }
    chunks[id]?.verification.state = .failed
    failWaits(chunks[id]?.waits ?? [], &actions)
    pauseFetchingAhead(of: id)
    return .failed
  }

  /// Nothing that the cache has of the chunk is given out any more. What somebody is just copying
  /// stays on disk until it is written over.
  private mutating func dropAll(of id: ChunkID, _ actions: inout [Action]) {
    guard let chunk = chunks[id] else { return }
    for index in 0..<chunk.grid.segmentCount {
      let segment = Segment(entry: chunk.entry, index: index)
      if ledger.expel(segment) {
        actions.append(leave(segment))
      } else {
        discarded(id, blocks: chunk.grid.blocks(ofSegment: index))
      }
    }
  }

  // MARK: Strict

  /// Whether bytes that may be present are not to be given out yet.
  func isWithheld(_ bytes: Range<Int>, in chunk: Chunk) -> Bool {
    verification.mode == .strict && chunk.verification.state == .pending && !bytes.isEmpty
      && bytes.upperBound == chunk.grid.sizeInBytes
  }

  private func isWithheld(_ id: WaitID) -> Bool {
    guard let wait = waits[id], let chunk = chunks[wait.chunk] else { return false }
    return isWithheld(wait.bytes, in: chunk)
  }

  /// Chooses the chunk that is made complete, that of the reader who has waited longest. Called
  /// before parts are chosen.
  mutating func chooseHold(_ actions: inout [Action]) {
    guard verification.mode == .strict else { return }
    if let held = verification.held {
      let isWanted = chunks[held]?.waits.contains { isWithheld($0) } == true
      if isWanted, chunks[held].map({ canHold($0) }) == true { return storeAll(of: held) }
      // The comparison goes on without.
      releaseHold()
    }
    for id in demand where isWithheld(id) {
      guard let chunkID = waits[id]?.chunk, let chunk = chunks[chunkID] else { continue }
      guard canHold(chunk) else {
        let isTooLarge = chunk.sizeOnDiskInBytes > ledger.configuredBoundInBytes * 3 / 8
        chunks[chunkID]?.verification.state = .unverifiable
        chunks[chunkID]?.verification.isTooLarge = isTooLarge
        chunks[chunkID]?.verification.isUncached = !isTooLarge
        actions.append(.cannotVerify(chunkID, isTooLarge: isTooLarge))
        answerWithheld(chunkID, &actions)
        continue
      }
      verification.held = chunkID
      hold(chunk.grid.segments(covering: 0..<chunk.grid.blockCount), of: chunkID, chunk)
      return storeAll(of: chunkID)
    }
  }

  /// There is room for the chunk, and some is left for other readers: beside what is lent to the
  /// kernel, which is no more than half of the cache, as long as the disk has room for all of that.
  /// A disk that fails holds nothing.
  private func canHold(_ chunk: Chunk) -> Bool {
    let size = chunk.sizeOnDiskInBytes
    return !isCachingPaused && !chunk.isMemoryOnly && size <= ledger.boundInBytes * 3 / 8
      && wholePinnedInBytes + size <= ledger.boundInBytes * 7 / 8
  }

  /// What is compared is on disk: what came into memory while that failed counts as missing, and is
  /// fetched again.
  private mutating func storeAll(of id: ChunkID) {
    guard let count = chunks[id]?.grid.blockCount else { return }
    chunks[id]?.inMemory.remove(0..<count)
  }

  /// What was given out unverified because the cache could not be written is to be compared from
  /// now on.
  mutating func verifyAgain() {
    for (id, chunk) in chunks where chunk.verification.isUncached && !chunk.isMemoryOnly {
      chunks[id]?.verification.forgetDiskFailure()
      noteCompletion(id)
    }
  }

  /// Keeps what the cache has of these segments, where the chunk is the one that is held.
  mutating func hold(_ segments: Range<Int>, of id: ChunkID, _ chunk: Chunk) {
    guard verification.held == id else { return }
    for index in segments where !verification.heldSegments.contains(index) {
      let segment = Segment(entry: chunk.entry, index: index)
      guard ledger.isStored(segment) else { continue }
      ledger.pin(segment)
      verification.heldSegments.insert(index)
    }
  }

  private mutating func releaseHold() {
    guard let held = verification.held else { return }
    if let entry = chunks[held]?.entry {
      for index in verification.heldSegments { ledger.unpin(.init(entry: entry, index: index)) }
    }
    verification.held = nil
    verification.heldSegments = []
  }

  /// The blocks to fetch for a wait, some of which may be present; nil where there is nothing to
  /// fetch for it now.
  func wantedBlocks(for wait: Wait, in chunk: Chunk) -> Range<Int>? {
    guard isWithheld(wait.bytes, in: chunk) else { return chunk.grid.blocks(covering: wait.bytes) }
    guard verification.held == wait.chunk,
      let missing = chunk.missingRun(in: 0..<chunk.grid.blockCount)
    else { return nil }
    let offset = chunk.grid.bytes(of: missing).lowerBound
    let end = sizing.partEnd(startingAt: offset, forWindow: chunk.grid.sizeInBytes)
    return missing.clamped(to: chunk.grid.blocks(covering: offset..<end))
  }

  private mutating func answerWithheld(_ id: ChunkID, _ actions: inout [Action]) {
    guard let size = chunks[id]?.grid.sizeInBytes else { return }
    actions += answerWaits(of: id, touching: 0..<size)
  }

  private mutating func failWaits(_ failing: [WaitID], _ actions: inout [Action]) {
    for wait in failing {
      forget(wait)
      actions.append(.fail(wait))
    }
  }
}
