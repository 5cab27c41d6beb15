public import Blocks
import DequeModule

/// Decides what is fetched, when, for whom, and what must leave the cache for it.
///
/// The planner is a value: it is told what happened (a read arrived, bytes came in, a hole was
/// punched) and answers with actions, which the caller carries out *after* it has let go of the
/// lock that guards the planner. It never touches a socket, a file or a clock, so every decision
/// can be tested as a sequence of values.
///
/// **What wants bytes.** A read whose bytes are not all here becomes a *wait*; a sequential reader
/// has a *window* ahead of it. Neither is a queue of requests: whenever a connection is free,
/// `fill` asks what is wanted most (waits first, oldest first; then the reader whose window has the
/// least lead) and cuts the next part from the gap. A plan that no longer holds (the reader has
/// moved on, or closed) therefore leaves nothing behind to be cancelled.
///
/// **What is never done twice.** A block is present, or in exactly one part that is under way, or
/// wanted. Parts start only on blocks that are neither present nor in a part, so no byte is asked
/// for twice however many readers want it.
///
/// **One version.** Until a chunk's ETag is known one request at a time goes out for it; all later
/// ones carry If-Match. That first request is sent by the first `open`, which is answered when its
/// head has been checked.
public struct FetchPlanner: Sendable {
  public struct Part: Sendable, Equatable {
    public let id: PartID
    public let chunk: ChunkID
    public let entry: EntryID
    /// The bytes to ask for; starts and ends at block boundaries, or at the chunk's end.
    public let bytes: Range<Int>
    /// Its bytes are kept in memory and not in the cache's files.
    public let isInMemory: Bool
  }

  public enum Action: Sendable, Equatable {
    /// Send the request. A part that was tried before goes on after the bytes it has.
    case fetch(Part)
    /// Nobody wants the rest of it: end the transfer.
    case cancel(PartID)
    /// The bytes are here, and pinned until `finishedReading`.
    case answer(WaitID)
    /// The chunk's version is known: the open may be answered.
    case opened(WaitID)
    /// What the wait needed could not be had.
    case fail(WaitID)
    /// Punch the segment's hole, then report `evicted`.
    case evict(Segment)
    /// A reader is about to come to this chunk: `load` it, or report `cannotPrepare`.
    case prepare(ChunkID)
    /// Decode the Parquet footer in these bytes, which are pinned, and report `footerIsDecoded`.
    case decodeFooter(ChunkID, Range<Int>)
    /// Drop the block from memory, before the planner is told anything else.
    case drop(ChunkID, block: Int)
    /// `load` the chunk, compare it with the manifest's MD5 (`beginVerification`), and report
    /// `verificationEnded`.
    case verify(ChunkID)
    /// Report `verificationIsDue` in a moment.
    case verifyLater
    /// The chunk is too large for the cache, or its disk fails, so that it cannot be compared
    /// before its last byte is given out, which it now is: warn.
    case cannotVerify(ChunkID, isTooLarge: Bool)
  }

  public enum ReadDecision: Sendable, Equatable {
    /// All bytes are present, and pinned until `finishedReading`.
    case present
    case wait
  }

  // Constants
  public let sizing: PartSizing
  let catalog: ChunkCatalog
  let maximumWindowInBytes: Int

  /// A second of a 1 GB/s network: more ahead of one reader would be fetched for nothing when it
  /// stops.
  private static let largestWindowInBytes = 128 << 20

  // Mutable state
  public internal(set) var ledger: CacheLedger
  var chunks: [ChunkID: Chunk] = [:]
  var chunkOfEntry: [EntryID: ChunkID] = [:]
  var handles: [HandleID: Handle] = [:]
  var lentHandleCount = 0
  var waits: [WaitID: Wait] = [:]
  /// Oldest first. Ids of waits that have been answered stay until they reach the front.
  var demand: Deque<WaitID> = []
  var chunkOfPart: [PartID: ChunkID] = [:]
  /// Parts whose delay after a failure is over.
  var readyParts: [PartID] = []
  var runningCount = 0
  /// Parts that the store refused for a time that it named: until that is over nothing is asked
  /// for.
  var partsToldToWait: Set<PartID> = []
  /// How many parts may run at once: fewer than `sizing.maxConnections` after the store has asked
  /// for fewer.
  package internal(set) var concurrency: ConcurrencyLevel
  var nextPart: UInt64 = 1
  /// Space was wanted and could not be had: worth another look when something is unpinned.
  var isStarved = false
  var walk = ChunkWalk()
  var columns: ColumnReadAhead
  /// What the chunks' layouts take of memory.
  var layoutsInBytes = 0
  /// The chunk of which a query has begun most, so that the next one's columns are to be fetched.
  var nextChunkIsWantedBy: ChunkID?
  var expected: [ChunkID: Expectation] = [:]
  /// The nearest first.
  var expectedOrder: [ChunkID] = []
  /// Chunks that were expected, are not any more, and were never opened.
  var released: [ChunkID] = []
  /// Until the cache has been scanned nobody knows how full it is, and nothing is written.
  public internal(set) var isCacheKnown = false
  /// What chunks that are pinned whole take on disk.
  var wholePinnedInBytes = 0
  /// The cache cannot be written, and reads are served through memory.
  public internal(set) var isCachingPaused = false
  /// Blocks that memory is set aside for, the oldest first.
  var memory: [BlockKey] = []
  var verification: Verification

  /// - Parameters:
  ///   - maxConnections: the most requests at once, over all chunks.
  ///   - cacheBoundInBytes: what the cache may take on disk.
  ///   - verificationMode: when complete chunks are compared with the manifest's MD5.
  public init(
    maxConnections: Int, cacheBoundInBytes: Int, catalog: ChunkCatalog = .empty,
    verificationMode: VerificationMode = .off
  ) {
    self.catalog = catalog
    verification = Verification(mode: verificationMode)
    sizing = PartSizing(maxConnections: maxConnections, cacheBoundInBytes: cacheBoundInBytes)
    concurrency = ConcurrencyLevel(maximum: maxConnections)
    maximumWindowInBytes = min(
      Self.largestWindowInBytes, Self.shareOfWindows(inBytes: cacheBoundInBytes))
    columns = ColumnReadAhead(
      budgetInBytes: min(ColumnReadAhead.usualBudgetInBytes, cacheBoundInBytes / 4))
    ledger = CacheLedger(boundInBytes: cacheBoundInBytes)
  }

  /// The largest chunk that can be opened: its indexes take 1/64 of the cache at most (the files of
  /// 32 chunks linger), and each of the bitmaps of its blocks 128 KiB of memory. Those of S3 have
  /// some 200 MB.
  public static func largestChunkInBytes(cacheBoundInBytes: Int) -> Int {
    let perByte = BlockGrid.blockSizeInBytes / 8
    return min(64 << 30 / perByte, cacheBoundInBytes / 64) * perByte
  }

  // MARK: The cache

  /// Segments that an earlier run left, most recently used entry first.
  public mutating func adopt(
    _ entry: EntryID, overheadInBytes: Int, segments: [(index: Int, allocatedInBytes: Int)]
  ) {
    guard !ledger.contains(entry) else { return }
    ledger.add(entry, overheadInBytes: overheadInBytes)
    for segment in segments {
      ledger.adopt(
        .init(entry: entry, index: segment.index), allocatedInBytes: segment.allocatedInBytes)
    }
  }

  /// All that earlier runs left has been adopted: space may be given out.
  public mutating func cacheIsKnown() -> [Action] {
    isCacheKnown = true
    return ledger.evict(toFit: 0).map { leave($0) } + fill()
  }

  /// The hole is punched.
  ///
  /// - Returns: whether the entry is empty and unused, so that its files can be removed, and what
  ///   to do next.
  public mutating func evicted(_ segment: Segment) -> (isEntryIdle: Bool, [Action]) {
    let isEmpty = ledger.evicted(segment)
    let chunk = chunkOfEntry[segment.entry]
    if let chunk { chunks[chunk]?.leavingSegments.remove(segment.index) }
    return (isEmpty && chunk == nil, fill())
  }

  /// The files of an idle entry are gone.
  public mutating func removed(_ entry: EntryID) -> [Action] {
    ledger.remove(entry)
    return isStarved ? fill() : []
  }

  /// The segment leaves the cache: from now on its blocks are absent, and its space is free once
  /// `evicted` is told.
  mutating func leave(_ segment: Segment) -> Action {
    if let id = chunkOfEntry[segment.entry], let grid = chunks[id]?.grid {
      let blocks = grid.blocks(ofSegment: segment.index)
      chunks[id]?.present.remove(blocks)
      chunks[id]?.allocated.remove(blocks)
      chunks[id]?.leavingSegments.insert(segment.index)
      chunks[id]?.verification.isDisturbed = true
    }
    return .evict(segment)
  }

  // MARK: Chunks and handles

  public func isOpen(_ chunk: ChunkID) -> Bool { chunks[chunk] != nil }

  /// Makes a chunk known, before its first handle.
  ///
  /// - Parameters:
  ///   - present: the blocks that the cache holds; those on their way out are left aside.
  ///   - isVersionKnown: whether the cache names the ETag that these blocks belong to.
  ///   - opening: the bytes that the first request asks for when the version is not known.
  ///   - isVerifiable: whether the manifest has an MD5.
  ///   - isVerified: whether these blocks were found to have it.
  public mutating func load(
    _ id: ChunkID, sizeInBytes: Int, entry: EntryID, overheadInBytes: Int, present: BlockSet,
    isVersionKnown: Bool, opening: Range<Int>, isMemoryOnly: Bool = false,
    isVerifiable: Bool = false, isVerified: Bool = false
  ) {
    precondition(chunks[id] == nil)
    let grid = BlockGrid(sizeInBytes: sizeInBytes)
    var chunk = Chunk(
      grid: grid, entry: entry, opening: grid.bytes(of: grid.blocks(covering: opening)),
      present: present, allocated: present, isVersionKnown: isVersionKnown,
      isParquet: catalog.isParquet, inMemory: BlockSet(blockCount: grid.blockCount),
      isMemoryOnly: isMemoryOnly,
      verification: initialVerification(id, isVerifiable: isVerifiable, isVerified: isVerified))
    if ledger.contains(entry) {
      for index in 0..<grid.segmentCount {
        let segment = Segment(entry: entry, index: index)
        if !ledger.isStored(segment) { chunk.present.remove(grid.blocks(ofSegment: index)) }
        if ledger.isLeaving(segment) { chunk.leavingSegments.insert(index) }
      }
    } else {
      // Not scanned yet, or new: what is here counts from now on.
      adopt(
        entry, overheadInBytes: overheadInBytes, segments: grid.segments(holding: present))
    }
    chunk.allocated = chunk.present
    chunks[id] = chunk
    chunkOfEntry[entry] = id
    noteCompletion(id)
  }

  /// A reader opens the chunk. `.wait` when its version is not known yet.
  public mutating func open(
    _ id: ChunkID, handle: HandleID, wait: WaitID
  ) -> (ReadDecision, [Action]) {
    guard let chunk = chunks[id] else { return (.present, []) }
    let abandoned = noteWalk(to: id)
    let inherited = expected.removeValue(forKey: id)?.inheritedBytesRead ?? 0
    expectedOrder.removeAll { $0 == id }
    let isWaiting = !chunk.isVersionKnown && chunk.grid.blockCount > 0
    let readAhead = ReadAhead(inheritedBytesRead: inherited)
    // A program may open a chunk to look what it is, and once more to read it.
    let isToBeHeard =
      isWaiting || !walk.isBelieved && (readAhead.isOfWalk || walk.listens(to: id))
    if isToBeHeard { walk.listen(to: id) }
    handles[handle] = Handle(
      chunk: id, readAhead: readAhead,
      columns: chunk.isParquet
        ? columns.makeReader(
          fileSizeInBytes: chunk.grid.sizeInBytes, isFooterRead: chunk.isFooterRead) : nil,
      isToBeHeard: isToBeHeard)
    chunks[id]?.handles.insert(handle)
    guard isWaiting else { return (.present, abandoned) }
    enqueue(Wait(id: wait, chunk: id, handle: handle, bytes: 0..<0))
    return (.wait, abandoned + fill())
  }

  /// The first answer's head named the version, and has been checked.
  public mutating func versionIsKnown(_ id: ChunkID) -> [Action] {
    guard let chunk = chunks[id], !chunk.isVersionKnown else { return [] }
    chunks[id]?.isVersionKnown = true
    var actions: [Action] = []
    for wait in chunk.waits where waits[wait]?.isOpen == true {
      forget(wait)
      actions.append(.opened(wait))
    }
    return actions + fill()
  }

  /// The reader is gone, its waits with it. With the chunk's last reader, parts that have more than
  /// a segment to go are cancelled, and those that have brought nothing yet, as of a store that
  /// hangs; a shorter rest is worth more than the connection that cancelling would cost.
  public mutating func close(_ handle: HandleID) -> [Action] {
    guard let closed = handles.removeValue(forKey: handle) else { return [] }
    if let reader = closed.columns { columns.noteClosed(reader) }
    if closed.isLent { lentHandleCount -= 1 }
    chunks[closed.chunk]?.handles.remove(handle)
    guard let chunk = chunks[closed.chunk] else { return [] }
    for wait in chunk.waits where waits[wait]?.handle == handle { forget(wait) }
    guard chunk.handles.isEmpty else { return fill() }
    if nextChunkIsWantedBy == closed.chunk { nextChunkIsWantedBy = nil }
    chunks[closed.chunk]?.isBeingFilled = false
    chunks[closed.chunk]?.wishes = []
    chunks[closed.chunk]?.scatteredMissCount = 0
    return abandonTransfers(of: closed.chunk) + fill()
  }

  /// Ends the transfers of a chunk that nobody has open.
  mutating func abandonTransfers(of id: ChunkID) -> [Action] {
    var actions: [Action] = []
    for transfer in chunks[id]?.transfers ?? [] {
      if transfer.state != .running {
        _ = end(transfer.part.id)
      } else if transfer.arrived == transfer.part.bytes.lowerBound
        || transfer.part.bytes.upperBound - transfer.arrived > BlockGrid.segmentSizeInBytes
      {
        actions.append(.cancel(transfer.part.id))
      }
    }
    return actions
  }

  /// Whether the part has not ended yet; between two attempts it has not.
  public func isUnderWay(_ part: PartID) -> Bool { chunkOfPart[part] != nil }

  /// Whether no reader has the chunk open.
  public func isUnused(_ id: ChunkID) -> Bool { chunks[id].map { $0.handles.isEmpty } ?? false }

  /// How much of a chunk the cache holds, in bytes of the chunk.
  public func cachedBytes(of id: ChunkID, entry: EntryID?, sizeInBytes: Int) -> Int {
    let grid = BlockGrid(sizeInBytes: sizeInBytes)
    if let chunk = chunks[id] {
      return chunk.present.presentRuns(in: 0..<grid.blockCount)
        .reduce(0) { $0 + grid.bytes(of: $1).count }
    }
    guard let entry else { return 0 }
    let stored = (0..<grid.segmentCount).reduce(0) {
      $0 + ledger.storedBytes(of: .init(entry: entry, index: $1))
    }
    // The last block is rounded up on disk.
    return min(stored, sizeInBytes)
  }

  /// Whether nothing holds the chunk any more.
  public func isIdle(_ id: ChunkID) -> Bool {
    guard let chunk = chunks[id] else { return false }
    return chunk.handles.isEmpty && chunk.transfers.isEmpty && chunk.waits.isEmpty
      && expected[id] == nil && chunk.wholePinCount == 0 && verification.running != id
      && verification.held != id && !chunk.isFooterBeingDecoded
  }

  /// Has another look at what is wanted: a chunk that was loaded may be one that is expected.
  public mutating func resume() -> [Action] {
    expectedOrder.isEmpty && verification.queue.isEmpty ? [] : fill()
  }

  /// Forgets an idle chunk; what the cache holds of it stays in the ledger.
  ///
  /// - Returns: whether the cache holds nothing of it, so that its files can be removed.
  public mutating func unload(_ id: ChunkID) -> Bool {
    guard let chunk = chunks.removeValue(forKey: id) else { return false }
    chunkOfEntry[chunk.entry] = nil
    layoutsInBytes -= chunk.layout?.footprintInBytes ?? 0
    memory.removeAll { $0.chunk == id }
    rememberVerification(id, chunk.verification)
    return ledger.isEmpty(chunk.entry)
  }

  // MARK: Reads

  /// A reader asks for `bytes`, which lie inside the chunk and are not empty.
  public mutating func read(
    _ id: ChunkID, handle: HandleID, bytes: Range<Int>, wait: WaitID
  ) -> (ReadDecision, [Action]) {
    guard let chunk = chunks[id], !hasFailed(id) else { return (.wait, [.fail(wait)]) }
    chunks[id]?.verification.readCount += 1
    let window = windowLimit()
    let columnActions = noteColumns(id, handle, bytes)
    let columnReader = handles[handle]?.columns
    let end = chunk.layout.flatMap { layout in
      columnReader.flatMap { columns.endOfUse(of: $0, at: bytes, in: layout) }
    }
    handles[handle]?.readAhead.note(
      bytes, maximumWindowInBytes: window, sizeInBytes: chunk.grid.sizeInBytes,
      hasContents: columnReader?.hasReadFooter ?? false, endOfUse: end)
    noteReadingThrough(id, handle)
    let preparations = expectFollowers(of: id, handle) + columnActions
    if bytes.upperBound == chunk.grid.sizeInBytes { chunks[id]?.isTableOfContentsRead = true }
    if isAvailable(bytes, in: chunk) {
      pin(bytes, of: chunk)
      return (.present, preparations + (wantsMore(handle) ? fill() : []))
    }
    if handles[handle]?.readAhead.current == nil { noteScatteredMiss(id) }
    enqueue(Wait(id: wait, chunk: id, handle: handle, bytes: bytes))
    return (.wait, preparations + fill())
  }

  /// Ends the use of bytes that `read` or `.answer` pinned.
  public mutating func finishedReading(_ id: ChunkID, bytes: Range<Int>) -> [Action] {
    guard let chunk = chunks[id] else { return [] }
    ledger.unpin(
      chunk.grid.segments(covering: chunk.grid.blocks(covering: bytes)), of: chunk.entry)
    let dropped = dropIdleBlocks()
    return isStarved ? dropped + fill() : dropped
  }

  /// Nobody waits any more (the reader was interrupted). Nil when it has been answered already.
  public mutating func cancel(_ wait: WaitID) -> [Action]? {
    guard waits[wait] != nil else { return nil }
    forget(wait)
    // Another may have waited behind it, for a hold or for room in memory.
    return fill()
  }

  /// Blocks whose stored bytes turned out to be wrong: they are fetched again, over the old ones.
  public mutating func discarded(_ id: ChunkID, blocks: Range<Int>) {
    chunks[id]?.present.remove(blocks)
    chunks[id]?.damaged.formUnion(blocks)
    chunks[id]?.verification.isDisturbed = true
  }

  func isAvailable(_ bytes: Range<Int>, in chunk: Chunk) -> Bool {
    guard !isWithheld(bytes, in: chunk) else { return false }
    let blocks = chunk.grid.blocks(covering: bytes)
    var next = blocks.lowerBound
    while let absent = chunk.present.firstAbsent(in: next..<blocks.upperBound) {
      if chunk.inMemory.contains(absent) {
        next = absent + 1
        continue
      }
      // Not whole yet: do the bytes asked for lie in what a part has brought so far?
      let needed = chunk.grid.bytes(of: absent..<absent + 1).clamped(to: bytes)
      guard let transfer = chunk.transfers.first(where: { $0.part.bytes.overlaps(needed) }),
        transfer.arrived >= needed.upperBound, !chunk.damaged.contains(absent)
      else { return false }
      next = absent + 1
    }
    return true
  }

  mutating func pin(_ bytes: Range<Int>, of chunk: Chunk) {
    ledger.pin(
      chunk.grid.segments(covering: chunk.grid.blocks(covering: bytes)), of: chunk.entry)
  }

  /// Every reader that is fetching ahead gets an even share of what the cache can hold ahead.
  func windowLimit() -> Int {
    min(maximumWindowInBytes, shareOfWindows) / readerCount
  }

  /// Chunks that are open, each as often as it is.
  public var openHandleCount: Int { handles.count }

  /// Among how many readers what is fetched ahead is shared, at least one: those that the kernel
  /// serves need nothing.
  var readerCount: Int { max(1, handles.count - lentHandleCount) }

  /// What may be fetched ahead, all together, of what the cache has room for.
  var shareOfWindows: Int {
    let held = verification.held.flatMap { chunks[$0]?.sizeOnDiskInBytes } ?? 0
    return Self.shareOfWindows(
      inBytes: max(
        0,
        ledger.boundInBytes - wholePinnedInBytes - (verification.pinned?.bytes ?? 0) - held))
  }

  /// Read-ahead spares what lies in windows, so that no block leaves between its arrival and its
  /// reader's. The rest of the cache is for what is being read, and for who reads elsewhere.
  private static func shareOfWindows(inBytes bound: Int) -> Int { bound * 3 / 4 }

  private func wantsMore(_ handle: HandleID) -> Bool {
    chunkOfPart.count < mostPartsAhead
      && (nextGap(aheadOf: handle) != nil || !expectedOrder.isEmpty || nextColumns() != nil)
  }

  private mutating func enqueue(_ wait: Wait) {
    waits[wait.id] = wait
    chunks[wait.chunk]?.waits.append(wait.id)
    demand.append(wait.id)
  }

  mutating func forget(_ id: WaitID) {
    guard let wait = waits.removeValue(forKey: id) else { return }
    chunks[wait.chunk]?.waits.removeAll { $0 == id }
  }
}
