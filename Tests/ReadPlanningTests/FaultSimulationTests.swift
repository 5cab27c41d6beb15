import Blocks
import ReadPlanning
import TestSupport
import Testing

/// Everything that can happen to a planner, in random order: a store that fails, a disk that fails,
/// fills up and recovers, holes that cannot be punched, damaged blocks, comparisons that end in
/// every way, readers that give up.
///
/// Beside the planner it is written down what is really on disk and in memory. Whenever a reader
/// copies, its bytes must be there; what is on disk must be on the books; and once the disk and the
/// store are well, everyone who waits is answered.
@Suite("A planner among faults") struct FaultSimulationTests {
  @Test(
    "Bytes are there when they are given out, the bounds hold, and nobody waits for ever",
    arguments: [VerificationMode.off, .background, .strict])
  func everything(mode: VerificationMode) {
    for seed in UInt64(1)...40 {
      var simulation = FaultSimulation(seed: seed, mode: mode)
      for _ in 0..<1500 where simulation.complaints.isEmpty { simulation.step() }
      if simulation.complaints.isEmpty { simulation.settle() }
      #expect(simulation.complaints == [], "mode \(mode), seed \(seed)")
    }
  }
}

private struct FaultSimulation {
  private struct Block: Hashable {
    let chunk: Int
    let number: Int
  }

  private struct Copy {
    let chunk: Int
    let bytes: Range<Int>
  }

  private static let sizes = [(3 << 20) + 5, 200_000, 5 << 20, (2 << 20) - 1]
  private static let boundInBytes = 12 << 20
  private static let overheadInBytes = 8192
  private static let block = BlockGrid.blockSizeInBytes

  private(set) var complaints: [String] = []
  private var generator: SeededGenerator
  private let mode: VerificationMode
  private var planner: FetchPlanner
  private var nextNumber: UInt64 = 100
  private var nextEntry = 1

  // What is really there
  /// How many bytes of each block are right in the file, from the block's beginning.
  private var onDisk: [Block: Int] = [:]
  private var allocated: Set<Block> = []
  /// The blocks that the index names.
  private var indexed: Set<Block> = []
  /// Whoever reads them finds out, until they are stored anew.
  private var damaged: Set<Block> = []
  private var inMemory: [Block: Int] = [:]
  private var entries: [Int: EntryID] = [:]
  private var isDiskWell = true

  // What is going on
  private var handles: [HandleID: Int] = [:]
  private var running: [PartID: FetchPlanner.Part] = [:]
  private var arrived: [PartID: Int] = [:]
  private var pausing: [PartID] = []
  private var waiting: [WaitID: Copy] = [:]
  private var copying: [Copy] = []
  private var evicting: [(segment: Segment, chunk: Int?)] = []
  private var stuck: [(segment: Segment, chunk: Int?)] = []
  private var toVerify: [Int] = []
  private var verifying: (chunk: Int, next: Int)?
  private var looksPlanned = 0
  private var wholePins: [Int] = []

  init(seed: UInt64, mode: VerificationMode) {
    self.mode = mode
    generator = SeededGenerator(seed: seed)
    planner = FetchPlanner(
      maxConnections: 4, cacheBoundInBytes: Self.boundInBytes, verificationMode: mode)
    take(planner.cacheIsKnown())
  }

  // MARK: Random events

  mutating func step() {
    checkBooks()
    switch Int.random(in: 0..<100, using: &generator) {
    case 0..<18: read()
    case 18..<36: finishCopy()
    case 36..<70: deliver()
    case 70..<76: punch()
    case 76..<82: verify()
    case 82..<84: look()
    case 84..<86: if isDiskWell { isDiskWell = Int.random(in: 0..<3, using: &generator) > 0 }
    case 86..<90: probe()
    case 90..<91: changeRoom()
    case 91..<94: retry()
    case 94..<96: closeOne()
    case 96..<97: giveUp()
    case 97..<98: lend()
    default: takeBack()
    }
  }

  /// All is well from now on, and there are no more reads.
  mutating func settle() {
    isDiskWell = true
    for _ in 0..<20_000 {
      probe()
      punch()
      while !pausing.isEmpty { retry() }
      var deliveries = 0
      while let id = running.keys.min(by: { $0.number < $1.number }) {
        deliver(id, count: .max)
        deliveries += 1
        guard deliveries < 1000 else { return complain("fetches for ever: \(waiting), \(copying)") }
      }
      while looksPlanned > 0, Int.random(in: 0..<2, using: &generator) == 0 { look() }
      if verifying != nil || !toVerify.isEmpty { verify() }
      finishCopy(mayBeDamaged: false)
      takeBack()
      guard complaints.isEmpty else { return }
      if waiting.isEmpty, copying.isEmpty, running.isEmpty, wholePins.isEmpty, verifying == nil,
        toVerify.isEmpty
      {
        break
      }
    }
    if !waiting.isEmpty { complain("left waiting: \(waiting)") }
    while let handle = handles.keys.first { close(handle) }
    for _ in 0..<1000
    where !evicting.isEmpty || !running.isEmpty || verifying != nil || !toVerify.isEmpty {
      punch()
      if verifying != nil || !toVerify.isEmpty { verify() }
      if let id = running.keys.first { deliver(id, count: .max) }
    }
    if planner.ledger.pinnedInBytes != 0 { complain("\(planner.ledger.pinnedInBytes) B pinned") }
    for chunk in entries.keys where planner.isIdle(id(chunk)) { unload(chunk) }
    if !inMemory.isEmpty { complain("in memory: \(inMemory.keys)") }
  }

  private mutating func read() {
    let chunk = Int.random(in: Self.sizes.indices, using: &generator)
    let size = Self.sizes[chunk]
    let handle =
      handles.filter { $0.value == chunk }.keys.sorted { $0.number < $1.number }
      .randomElement(using: &generator) ?? open(chunk)
    guard waiting.count < 20 else { return }
    var start = Int.random(in: 0..<size, using: &generator)
    if Int.random(in: 0..<3, using: &generator) == 0 { start = max(0, size - 70_000) }
    let bytes =
      start..<min(size, start + Int.random(in: 1...1_100_000, using: &generator))
    read(chunk, handle, bytes)
  }

  private mutating func read(_ chunk: Int, _ handle: HandleID, _ bytes: Range<Int>) {
    let wait = WaitID(number: number())
    waiting[wait] = Copy(chunk: chunk, bytes: bytes)
    let (decision, actions) = planner.read(id(chunk), handle: handle, bytes: bytes, wait: wait)
    if decision == .present { answer(wait) }
    take(actions)
  }

  private mutating func open(_ chunk: Int) -> HandleID {
    load(chunk)
    let handle = HandleID(number: number())
    handles[handle] = chunk
    let (_, actions) = planner.open(id(chunk), handle: handle, wait: WaitID(number: number()))
    take(actions)
    return handle
  }

  private mutating func load(_ chunk: Int) {
    guard !planner.isOpen(id(chunk)) else { return }
    let entry =
      entries[chunk]
      ?? {
        nextEntry += 1
        entries[chunk] = EntryID(number: nextEntry)
        return EntryID(number: nextEntry)
      }()
    var present = BlockSet(blockCount: grid(chunk).blockCount)
    for block in indexed where block.chunk == chunk { present.insert(block.number) }
    planner.load(
      id(chunk), sizeInBytes: Self.sizes[chunk], entry: entry,
      overheadInBytes: Self.overheadInBytes, present: present, isVersionKnown: true,
      opening: 0..<Self.block, isVerifiable: mode != .off)
    take(planner.resume())
  }

  private mutating func closeOne() {
    if let handle = handles.keys.sorted(by: { $0.number < $1.number })
      .randomElement(using: &generator)
    {
      close(handle)
    }
    for chunk in entries.keys.sorted()
    where planner.isIdle(id(chunk)) && !copying.contains(where: { $0.chunk == chunk }) {
      unload(chunk)
    }
  }

  private mutating func close(_ handle: HandleID) {
    guard let chunk = handles[handle] else { return }
    // As the kernel does: a file is closed when its reads have been answered.
    guard !waiting.values.contains(where: { $0.chunk == chunk }) || !complaints.isEmpty else {
      return
    }
    handles[handle] = nil
    take(planner.close(handle))
  }

  private mutating func unload(_ chunk: Int) {
    guard let entry = entries[chunk] else { return }
    let isMemoryOnly = planner.isMemoryOnly(id(chunk))
    let isEmpty = planner.unload(id(chunk))
    inMemory = inMemory.filter { $0.key.chunk != chunk }
    guard isEmpty || isMemoryOnly else { return }
    removeFiles(chunk)
    take(planner.removed(entry))
  }

  private mutating func removeFiles(_ chunk: Int) {
    onDisk = onDisk.filter { $0.key.chunk != chunk }
    allocated = allocated.filter { $0.chunk != chunk }
    indexed = indexed.filter { $0.chunk != chunk }
    damaged = damaged.filter { $0.chunk != chunk }
    entries[chunk] = nil
  }

  private mutating func giveUp() {
    guard
      let wait = waiting.keys.sorted(by: { $0.number < $1.number })
        .randomElement(using: &generator)
    else { return }
    guard let actions = planner.cancel(wait) else { return complain("\(wait) is not known") }
    waiting[wait] = nil
    take(actions)
  }

  private mutating func lend() {
    let chunk = Int.random(in: Self.sizes.indices, using: &generator)
    guard planner.isOpen(id(chunk)), planner.mayLend(id(chunk)), planner.pinWhole(id(chunk)) else {
      return
    }
    wholePins.append(chunk)
  }

  private mutating func takeBack() {
    guard let chunk = wholePins.popLast() else { return }
    take(planner.unpinWhole(id(chunk)))
  }

  // MARK: The store

  private mutating func deliver() {
    guard
      let id = running.keys.sorted(by: { $0.number < $1.number })
        .randomElement(using: &generator)
    else { return }
    switch Int.random(in: 0..<60, using: &generator) {
    case 0:
      running[id] = nil
      take(planner.failed(id))
    case 1, 2:
      running[id] = nil
      if let pause = planner.paused(id, isToldToWait: id.number % 2 == 0) {
        pausing.append(id)
        take(pause.actions)
      } else {
        take(planner.failed(id))
      }
    default:
      deliver(id, count: Int.random(in: 1...400_000, using: &generator))
    }
  }

  private mutating func retry() {
    guard !pausing.isEmpty else { return }
    take(planner.retry(pausing.removeFirst()))
  }

  private mutating func deliver(_ id: PartID, count: Int) {
    guard let part = running[id] else { return }
    let start = arrived[id] ?? part.bytes.lowerBound
    let end = start + min(count, part.bytes.upperBound - start)
    if !part.isInMemory, !isDiskWell {
      running[id] = nil
      // Some of it may have been written.
      store(part, start..<start + (end - start) / 2)
      return take(planner.cachingFailed(id))
    }
    store(part, start..<end)
    arrived[id] = end
    take(planner.arrived(id, count: end - start))
    if end == part.bytes.upperBound, running[id] != nil {
      running[id] = nil
      take(planner.finished(id))
    }
  }

  private mutating func store(_ part: FetchPlanner.Part, _ bytes: Range<Int>) {
    guard !bytes.isEmpty else { return }
    for block in grid(part.chunk.index).blocks(covering: bytes) {
      let key = Block(chunk: part.chunk.index, number: block)
      let range = grid(part.chunk.index).bytes(of: block..<block + 1)
      let count = min(bytes.upperBound, range.upperBound) - range.lowerBound
      if part.isInMemory {
        inMemory[key] = max(inMemory[key] ?? 0, count)
      } else if entries[part.chunk.index] == part.entry {
        allocated.insert(key)
        onDisk[key] = max(onDisk[key] ?? 0, count)
        if count == range.count {
          indexed.insert(key)
          inMemory[key] = nil
          damaged.remove(key)
        }
      }
    }
    if inMemory.count > FetchPlanner.mostBlocksInMemory {
      complain("\(inMemory.count) blocks in memory")
    }
  }

  // MARK: The disk

  private mutating func punch() {
    let all = evicting
    evicting = []
    for (segment, chunk) in all { punch(segment, chunk) }
  }

  private mutating func punch(_ segment: Segment, _ chunk: Int?) {
    let blocks = chunk.map { grid($0).blocks(ofSegment: segment.index) } ?? 0..<0
    let isOurs = chunk.map { entries[$0] == segment.entry } ?? false
    // First the index, so that one that cannot be punched is not named either.
    if isOurs, let chunk {
      for block in blocks { indexed.remove(Block(chunk: chunk, number: block)) }
    }
    guard isDiskWell else {
      stuck.append((segment, chunk))
      return take(planner.cachingFailed())
    }
    if isOurs, let chunk {
      for block in blocks {
        allocated.remove(Block(chunk: chunk, number: block))
        onDisk[Block(chunk: chunk, number: block)] = nil
        damaged.remove(Block(chunk: chunk, number: block))
      }
    }
    let (isIdle, actions) = planner.evicted(segment)
    take(actions)
    if isIdle {
      if isOurs, let chunk, !planner.isOpen(id(chunk)) { removeFiles(chunk) }
      take(planner.removed(segment.entry))
    }
  }

  private mutating func probe() {
    let all = stuck
    stuck = []
    for (segment, chunk) in all { punch(segment, chunk) }
    guard stuck.isEmpty else {
      if Int.random(in: 0..<2, using: &generator) == 0 { isDiskWell = true }
      return
    }
    guard planner.isCachingPaused else { return }
    isDiskWell = true
    if planner.isShortOfRoom { take(planner.noteRoom(inBytes: 1 << 40)) }
    take(planner.cachingResumed())
  }

  private mutating func changeRoom() {
    let room =
      [-(1 << 40), -(2 << 20), 1 << 20, 4 << 20, 1 << 40]
      .randomElement(using: &generator) ?? 0
    take(planner.noteRoom(inBytes: room))
  }

  // MARK: Comparing

  private mutating func look() {
    guard looksPlanned > 0 else { return }
    looksPlanned -= 1
    take(planner.verificationIsDue())
  }

  private mutating func verify() {
    guard let (chunk, next) = verifying else {
      guard !toVerify.isEmpty else { return }
      let chunk = toVerify.removeFirst()
      load(chunk)
      if planner.beginVerification(id(chunk)) {
        verifying = (chunk, 0)
      } else {
        take(planner.verificationEnded(id(chunk), .interrupted).1)
      }
      return
    }
    let size = Self.sizes[chunk]
    guard next < size else {
      return endVerification(chunk, Int.random(in: 0..<6, using: &generator) == 0)
    }
    let bytes = next..<min(size, next + BlockGrid.segmentSizeInBytes)
    guard planner.continueVerification(id(chunk), bytes: bytes) else {
      verifying = nil
      return take(planner.verificationEnded(id(chunk), .interrupted).1)
    }
    check(Copy(chunk: chunk, bytes: bytes), for: "comparison")
    verifying = (chunk, bytes.upperBound)
    let isReadable = Int.random(in: 0..<30, using: &generator) > 0
    if !isReadable { unreadable(chunk, bytes) }
    take(planner.finishedReading(id(chunk), bytes: bytes))
    if !isReadable {
      verifying = nil
      take(planner.verificationEnded(id(chunk), .interrupted).1)
    }
  }

  private mutating func endVerification(_ chunk: Int, _ isDifferent: Bool) {
    verifying = nil
    if isDifferent { indexed = indexed.filter { $0.chunk != chunk } }
    let (verdict, actions) = planner.verificationEnded(id(chunk), isDifferent ? .different : .same)
    if isDifferent, verdict == .ok { complain("different is not ok") }
    take(actions)
  }

  private mutating func unreadable(_ chunk: Int, _ bytes: Range<Int>) {
    let blocks = grid(chunk).blocks(covering: bytes)
    _ = planner.unreadable(id(chunk), blocks: blocks)
    for block in blocks { damaged.insert(Block(chunk: chunk, number: block)) }
  }

  // MARK: Readers

  private mutating func answer(_ wait: WaitID) {
    guard let copy = waiting.removeValue(forKey: wait) else {
      return complain("\(wait) is answered, and does not wait")
    }
    check(copy, for: "answer")
    if mode == .strict, copy.bytes.upperBound == Self.sizes[copy.chunk],
      planner.verificationState(of: id(copy.chunk)) == .pending
    {
      complain("the last byte of \(copy.chunk) is given out before it was compared")
    }
    copying.append(copy)
  }

  private mutating func finishCopy(mayBeDamaged: Bool = true) {
    guard let index = copying.indices.randomElement(using: &generator) else { return }
    let copy = copying.remove(at: index)
    check(copy, for: "copy")
    let blocks = grid(copy.chunk).blocks(covering: copy.bytes)
      .map { Block(chunk: copy.chunk, number: $0) }.filter { inMemory[$0] == nil }
    let chance = mayBeDamaged ? Int.random(in: 0..<60, using: &generator) : 60
    if chance == 0, let block = blocks.first, indexed.contains(block) { damaged.insert(block) }
    let found = blocks.first { damaged.contains($0) }
    if found != nil, chance == 1 {
      unreadable(copy.chunk, copy.bytes)
    } else if let found {
      planner.discarded(id(copy.chunk), blocks: found.number..<found.number + 1)
    }
    take(planner.finishedReading(id(copy.chunk), bytes: copy.bytes))
    if found != nil, let handle = handles.first(where: { $0.value == copy.chunk })?.key {
      read(copy.chunk, handle, copy.bytes)
    }
  }

  /// Whether what is copied is there.
  private mutating func check(_ copy: Copy, for what: String) {
    for block in grid(copy.chunk).blocks(covering: copy.bytes) {
      let range = grid(copy.chunk).bytes(of: block..<block + 1)
      let needed = min(copy.bytes.upperBound, range.upperBound) - range.lowerBound
      let key = Block(chunk: copy.chunk, number: block)
      guard inMemory[key] ?? 0 < needed, onDisk[key] ?? 0 < needed else { continue }
      if damaged.contains(key) { continue }
      return complain(
        "\(what) of \(copy): block \(block) has \(inMemory[key] ?? 0) in memory, \(onDisk[key] ?? 0) on disk"
      )
    }
  }

  // MARK: Carrying out

  private mutating func take(_ actions: [FetchPlanner.Action]) {
    for action in actions {
      switch action {
      case .fetch(let part): running[part.id] = part
      case .cancel(let part):
        if running.removeValue(forKey: part) != nil { take(planner.cancelled(part)) }
      case .answer(let wait): answer(wait)
      case .opened: break
      case .fail(let wait): waiting[wait] = nil
      case .evict(let segment):
        evicting.append((segment, entries.first { $0.value == segment.entry }?.key))
      case .prepare(let chunk): planner.cannotPrepare(chunk)
      case .decodeFooter: break
      case .drop(let chunk, let block):
        inMemory[Block(chunk: chunk.index, number: block)] = nil
      case .verify(let chunk): toVerify.append(chunk.index)
      case .verifyLater: looksPlanned += 1
      case .cannotVerify: break
      }
    }
  }

  private mutating func checkBooks() {
    let used = planner.ledger.usedInBytes
    if used > Self.boundInBytes { complain("\(used) B on the books") }
    let real = allocated.reduce(0) {
      $0 + grid($1.chunk).allocatedBytes(of: $1.number..<$1.number + 1)
    }
    if real > used { complain("\(real) B on disk, \(used) on the books") }
  }

  private mutating func complain(_ what: String) {
    if complaints.count < 3 { complaints.append(what) }
  }

  private mutating func number() -> UInt64 {
    nextNumber += 1
    return nextNumber
  }

  private func id(_ chunk: Int) -> ChunkID { ChunkID(index: chunk) }
  private func grid(_ chunk: Int) -> BlockGrid { BlockGrid(sizeInBytes: Self.sizes[chunk]) }
}
