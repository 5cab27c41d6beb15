import Blocks
import ReadPlanning
import Testing

/// Plays store, disk and readers around a planner, as values: parts deliver in pieces, holes are
/// punched when it gets round to it, and every byte that is asked for, stored and handed out is
/// written down.
struct PlannerSimulation {
  let sizeInBytes: Int
  /// What every chunk's footer says, where the chunks are Parquet.
  private let layout: ParquetLayout?
  /// Those that are wholly cached before.
  private let cachedChunks: Range<Int>
  private(set) var planner: FetchPlanner
  private(set) var fetched: [(chunk: Int, bytes: Range<Int>)] = []
  private(set) var answered: Set<WaitID> = []
  private(set) var failed: Set<WaitID> = []
  private(set) var cancelled: Set<PartID> = []
  private(set) var mostAtOnce = 0
  /// Parts that the store is delivering, and the next byte of each.
  private(set) var running: [PartID: (part: FetchPlanner.Part, next: Int)] = [:]
  private var progress: [PartID: Int] = [:]
  private var toEvict: [Segment] = []
  private var nextNumber: UInt64 = 1
  private var chunkOfHandle: [HandleID: ChunkID] = [:]

  init(
    sizeInBytes: Int, chunkCount: Int = 1, maxConnections: Int = 32,
    cacheBoundInBytes: Int = 1 << 30, layout: ParquetLayout? = nil,
    cachedChunks: Range<Int> = 0..<0
  ) {
    self.sizeInBytes = sizeInBytes
    self.layout = layout
    self.cachedChunks = cachedChunks
    planner = FetchPlanner(
      maxConnections: maxConnections, cacheBoundInBytes: cacheBoundInBytes,
      catalog: ChunkCatalog(
        names: (0..<chunkCount).map { String(1000 + $0) },
        sizesInBytes: Array(repeating: sizeInBytes, count: chunkCount), isParquet: layout != nil))
    perform(planner.cacheIsKnown())
  }

  private mutating func load(_ chunk: Int, isVersionKnown: Bool) {
    var present = BlockSet(blockCount: BlockGrid(sizeInBytes: sizeInBytes).blockCount)
    if cachedChunks.contains(chunk) { present.insert(0..<present.blockCount) }
    planner.load(
      ChunkID(index: chunk), sizeInBytes: sizeInBytes, entry: EntryID(number: chunk),
      overheadInBytes: 4096, present: present,
      isVersionKnown: isVersionKnown || cachedChunks.contains(chunk), opening: opening)
  }

  /// A Parquet chunk's footer, another's beginning, a small one whole.
  private var opening: Range<Int> {
    if sizeInBytes <= PartSizing.smallChunkInBytes { return 0..<sizeInBytes }
    return layout == nil ? 0..<1 << 20 : sizeInBytes - (128 << 10)..<sizeInBytes
  }

  mutating func open(_ chunk: Int = 0) -> HandleID {
    let handle = HandleID(number: number())
    chunkOfHandle[handle] = ChunkID(index: chunk)
    if !planner.isOpen(ChunkID(index: chunk)) { load(chunk, isVersionKnown: true) }
    let (_, actions) = planner.open(
      ChunkID(index: chunk), handle: handle, wait: WaitID(number: number()))
    perform(actions)
    return handle
  }

  /// Opens a chunk, and lends it to the kernel if that may be.
  @discardableResult
  mutating func openLent(_ chunk: Int) -> (HandleID, isLent: Bool) {
    let (id, handle) = (ChunkID(index: chunk), open(chunk))
    guard planner.mayLend(id, to: handle), planner.pinWhole(id) else { return (handle, false) }
    perform(planner.chunkIsLent(id, to: handle))
    return (handle, true)
  }

  /// A reader opens the chunk, reads so much from its beginning, and closes it; by itself, unheard
  /// of, where the chunk is lent to the kernel.
  ///
  /// - Returns: whether it was lent.
  mutating func visit(_ chunk: Int, reading count: Int) -> Bool {
    let (handle, isLent) = openLent(chunk)
    if !isLent {
      for start in stride(from: 0, to: count, by: 1 << 20) {
        readThrough(handle, start..<min(count, start + 1 << 20))
      }
    }
    deliverAll()
    if isLent { perform(planner.unpinWhole(ChunkID(index: chunk))) }
    close(handle)
    return isLent
  }

  /// Nil when the bytes were present; they are unpinned at once then.
  mutating func read(_ handle: HandleID, _ bytes: Range<Int>) -> WaitID? {
    guard let chunk = chunkOfHandle[handle] else { return nil }
    let wait = WaitID(number: number())
    let (decision, actions) = planner.read(
      chunk, handle: handle, bytes: bytes, wait: wait)
    perform(actions)
    guard decision == .present else { return wait }
    perform(planner.finishedReading(chunk, bytes: bytes))
    return nil
  }

  /// Reads and lets the store deliver until the bytes are there.
  mutating func readThrough(_ handle: HandleID, _ bytes: Range<Int>) {
    guard let chunk = chunkOfHandle[handle], let wait = read(handle, bytes) else { return }
    var steps = 0
    while !answered.contains(wait), !failed.contains(wait), steps < 100_000 {
      deliverRound(pieceInBytes: 64 << 10)
      steps += 1
    }
    #expect(answered.contains(wait), "the read of \(bytes) was never answered")
    perform(planner.finishedReading(chunk, bytes: bytes))
  }

  mutating func close(_ handle: HandleID) { perform(planner.close(handle)) }

  /// A chunk that has lingered long enough.
  mutating func unload(_ chunk: Int) {
    #expect(planner.isIdle(ChunkID(index: chunk)))
    _ = planner.unload(ChunkID(index: chunk))
  }

  /// One piece for every part under way, in the order in which they were started.
  mutating func deliverRound(pieceInBytes: Int) {
    punch()
    for id in running.keys.sorted(by: { $0.number < $1.number }) { deliver(id, pieceInBytes) }
  }

  mutating func deliver(_ id: PartID, _ pieceInBytes: Int) {
    guard let (part, next) = running[id] else { return }
    let count = min(pieceInBytes, part.bytes.upperBound - next)
    running[id]?.next += count
    progress[id] = next + count
    // The answer's head comes before its first byte.
    perform(planner.versionIsKnown(part.chunk))
    perform(planner.arrived(id, count: count))
    if next + count == part.bytes.upperBound {
      running[id] = nil
      perform(planner.finished(id))
    }
  }

  mutating func deliverAll() {
    while !running.isEmpty || !toEvict.isEmpty { deliverRound(pieceInBytes: 256 << 10) }
  }

  /// The request fails: to be tried again at once, or given up.
  mutating func fail(_ id: PartID, forGood: Bool) {
    guard running.removeValue(forKey: id) != nil else { return }
    if forGood {
      perform(planner.failed(id))
    } else {
      perform(planner.paused(id)?.actions ?? [])
      perform(planner.retry(id))
    }
  }

  mutating func punch() {
    while !toEvict.isEmpty {
      let segment = toEvict.removeFirst()
      let (isIdle, actions) = planner.evicted(segment)
      perform(actions)
      if isIdle { perform(planner.removed(segment.entry)) }
    }
  }

  /// Bytes that were asked for more than once.
  var bytesFetchedTwice: Int {
    var total = 0
    for chunk in Set(fetched.map(\.chunk)) {
      var end = 0
      for range in fetched.filter({ $0.chunk == chunk }).map(\.bytes)
        .sorted(by: { $0.lowerBound < $1.lowerBound })
      {
        total += max(0, min(end, range.upperBound) - range.lowerBound)
        end = max(end, range.upperBound)
      }
    }
    return total
  }

  var bytesFetched: Int { fetched.reduce(0) { $0 + $1.bytes.count } }

  private mutating func number() -> UInt64 {
    nextNumber += 1
    return nextNumber
  }

  private mutating func perform(_ actions: [FetchPlanner.Action]) {
    for action in actions {
      switch action {
      case .fetch(let part):
        let start = progress[part.id] ?? part.bytes.lowerBound
        fetched.append((part.chunk.index, start..<part.bytes.upperBound))
        running[part.id] = (part, start)
        mostAtOnce = max(mostAtOnce, running.count)
      case .cancel(let id):
        cancelled.insert(id)
        running[id] = nil
        perform(planner.cancelled(id))
      case .answer(let wait), .opened(let wait): answered.insert(wait)
      case .fail(let wait): failed.insert(wait)
      case .evict(let segment): toEvict.append(segment)
      case .prepare(let chunk):
        load(chunk.index, isVersionKnown: false)
        perform(planner.resume())
      case .drop: break
      case .decodeFooter(let chunk, let tail):
        let decoding = layout.map { ParquetLayout.Decoding.layout($0) } ?? .notParquet
        perform(planner.footerIsDecoded(chunk, tail: tail, decoding))
      case .verify, .verifyLater, .cannotVerify: Issue.record("verification is off")
      }
    }
    #expect(planner.ledger.usedInBytes <= planner.ledger.boundInBytes)
  }
}
