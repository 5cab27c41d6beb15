import Blocks
import ReadPlanning
import TestSupport
import Testing

/// Reads while the cache's disk cannot be written.
@Suite("Reading through memory") struct MemoryServingTests {
  private let chunk = ChunkID(index: 0)
  private let entry = EntryID(number: 1)
  private let handle = HandleID(number: 1)
  private let block = BlockGrid.blockSizeInBytes
  private let most = FetchPlanner.mostBlocksInMemory

  private func makePlanner(
    present: Range<Int> = 0..<0, blockCount: Int = 400, bound: Int = 64 << 20
  ) -> FetchPlanner {
    var planner = FetchPlanner(maxConnections: 8, cacheBoundInBytes: bound)
    _ = planner.cacheIsKnown()
    var blocks = BlockSet(blockCount: blockCount)
    blocks.insert(present)
    planner.load(
      chunk, sizeInBytes: blockCount * block, entry: entry, overheadInBytes: 4096,
      present: blocks, isVersionKnown: true, opening: 0..<block)
    _ = planner.open(chunk, handle: handle, wait: WaitID(number: 1))
    return planner
  }

  private func parts(_ actions: [FetchPlanner.Action]) -> [FetchPlanner.Part] {
    actions.compactMap { if case .fetch(let part) = $0 { part } else { nil } }
  }

  private func dropped(_ actions: [FetchPlanner.Action]) -> [Int] {
    actions.compactMap { if case .drop(_, let block) = $0 { block } else { nil } }
  }

  @Test("A part that cannot be written is fetched into memory: what is waited for, and no more")
  func failingPart() throws {
    var planner = makePlanner()
    let wait = WaitID(number: 2)
    let bytes = 0..<2 * block
    let first = planner.read(chunk, handle: handle, bytes: bytes, wait: wait).1
    let part = try #require(parts(first).first)
    #expect(!part.isInMemory)
    let used = planner.ledger.usedInBytes
    var actions: [FetchPlanner.Action] = []
    for started in parts(first) { actions += planner.cachingFailed(started.id) }
    let memory = parts(actions)
    #expect(memory.map(\.bytes) == [bytes])
    #expect(memory.map(\.isInMemory) == [true])
    #expect(!actions.contains(.fail(wait)))
    #expect(planner.ledger.usedInBytes == used, "what a failed write has left is not known")
    let again = try #require(memory.first)
    #expect(planner.arrived(again.id, count: block + 5) == [])
    #expect(planner.arrived(again.id, count: block - 5) == [.answer(wait)])
    #expect(planner.finished(again.id) == [])
    // Another read of the same is served from memory, and nothing is fetched ahead.
    let (decision, more) = planner.read(
      chunk, handle: handle, bytes: 0..<block, wait: WaitID(number: 3))
    #expect(decision == .present)
    #expect(more == [])
    #expect(planner.cachedBytes(of: chunk, entry: entry, sizeInBytes: 400 * block) == 0)
    _ = planner.finishedReading(chunk, bytes: 0..<block)
    // Once the disk is well, what nobody reads is dropped.
    let early = planner.cachingResumed()
    #expect(dropped(early) == [], "the first read copies still")
    var late: [FetchPlanner.Action] = []
    for ahead in parts(early) { late += planner.failed(ahead.id) }
    late += planner.finishedReading(chunk, bytes: bytes)
    #expect(dropped(late) == [0, 1])
    let anew = planner.read(chunk, handle: handle, bytes: bytes, wait: WaitID(number: 4)).1
    #expect(parts(anew).first?.isInMemory == false)
  }

  @Test("Blocks in memory stay below their bound, and every read is answered", arguments: 1...20)
  func bound(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var planner = makePlanner(present: 100..<110)
    var running: [PartID: (part: FetchPlanner.Part, arrived: Int)] = [:]
    // Of parts between two attempts too.
    var progress: [PartID: Int] = [:]
    var waiting: [WaitID: Range<Int>] = [:]
    var copying: [Range<Int>] = []
    var inMemory: Set<Int> = []
    var next: UInt64 = 10
    func take(_ actions: [FetchPlanner.Action]) {
      for action in actions {
        switch action {
        case .fetch(let part):
          #expect(part.isInMemory, "seed \(seed)")
          running[part.id] = (part, progress[part.id] ?? part.bytes.lowerBound)
        case .answer(let wait):
          if let bytes = waiting.removeValue(forKey: wait) { copying.append(bytes) }
        case .drop(_, let dropped):
          inMemory.remove(dropped)
          for bytes in copying {
            #expect(
              !(bytes.lowerBound / block...(bytes.upperBound - 1) / block).contains(dropped),
              "seed \(seed): block \(dropped) is being copied")
          }
        case .fail: Issue.record("seed \(seed): a read failed")
        default: break
        }
      }
    }
    take(planner.cachingFailed())
    for step in 0..<3000 {
      switch Int.random(in: 0..<4, using: &generator) {
      case 0 where step < 2500 && waiting.count < 12:
        let first = Int.random(in: 0..<380 * block, using: &generator)
        let bytes = first..<first + Int.random(in: 1...(1 << 20), using: &generator)
        let wait = WaitID(number: next)
        next += 1
        let (decision, actions) = planner.read(chunk, handle: handle, bytes: bytes, wait: wait)
        if decision == .wait { waiting[wait] = bytes } else { copying.append(bytes) }
        take(actions)
      case 1 where !copying.isEmpty:
        let bytes = copying.remove(at: Int.random(in: copying.indices, using: &generator))
        take(planner.finishedReading(chunk, bytes: bytes))
      default:
        guard
          let id = running.keys.sorted(by: { $0.number < $1.number })
            .randomElement(using: &generator), let (part, arrived) = running[id]
        else { continue }
        if Int.random(in: 0..<30, using: &generator) == 0 {
          running[id] = nil
          progress[id] = arrived
          take(planner.paused(id)?.actions ?? [])
          take(planner.retry(id))
          continue
        }
        let count = min(
          Int.random(in: 1...200_000, using: &generator), part.bytes.upperBound - arrived)
        running[id]?.arrived += count
        inMemory.formUnion(arrived / block...(arrived + count - 1) / block)
        #expect(inMemory.count <= most, "seed \(seed)")
        take(planner.arrived(id, count: count))
        if arrived + count == part.bytes.upperBound {
          running[id] = nil
          take(planner.finished(id))
        }
      }
    }
    var rounds = 0
    while !waiting.isEmpty || !running.isEmpty, rounds < 10_000 {
      rounds += 1
      if let bytes = copying.popLast() { take(planner.finishedReading(chunk, bytes: bytes)) }
      guard let (id, (part, arrived)) = running.first else { continue }
      running[id] = nil
      inMemory.formUnion(arrived / block...(part.bytes.upperBound - 1) / block)
      take(planner.arrived(id, count: part.bytes.upperBound - arrived))
      take(planner.finished(id))
    }
    #expect(waiting.isEmpty, "seed \(seed): reads were left waiting")
    for bytes in copying { take(planner.finishedReading(chunk, bytes: bytes)) }
    take(planner.close(handle))
    take(planner.cachingResumed())
    #expect(inMemory.isEmpty, "seed \(seed)")
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  @Test("Blocks whose hole cannot be punched are read through memory meanwhile")
  func stuckEviction() throws {
    var planner = makePlanner(present: 0..<16, blockCount: 16)
    // The disk's room is gone: all that is idle leaves.
    let leaving = planner.noteRoom(inBytes: -(64 << 20))
    #expect(leaving == [.evict(.init(entry: entry, index: 0))])
    let used = planner.ledger.usedInBytes
    _ = planner.cachingFailed()
    let actions = planner.read(chunk, handle: handle, bytes: 0..<block, wait: WaitID(number: 2)).1
    #expect(parts(actions).map(\.isInMemory) == [true])
    #expect(planner.ledger.usedInBytes == used, "nothing is booked before the hole is there")
    let part = try #require(parts(actions).first)
    #expect(planner.arrived(part.id, count: block) == [.answer(WaitID(number: 2))])
    // The hole comes in the middle of the read, whose pin is its own.
    _ = planner.evicted(.init(entry: entry, index: 0))
    _ = planner.finished(part.id)
    _ = planner.finishedReading(chunk, bytes: 0..<block)
    #expect(planner.ledger.pinnedInBytes == 0)
    #expect(planner.ledger.usedInBytes == 4096)
  }

  @Test("The bound follows the disk's room, up to what was configured")
  func room() {
    var planner = makePlanner(present: 0..<160)
    let stored = planner.ledger.usedInBytes
    #expect(planner.noteRoom(inBytes: 1 << 40) == [])
    #expect(planner.ledger.boundInBytes == 64 << 20)
    #expect(!planner.isShortOfRoom)
    #expect(planner.noteRoom(inBytes: 1 << 20) == [])
    #expect(planner.ledger.boundInBytes == stored + (1 << 20))
    let leaving = planner.noteRoom(inBytes: -(2 << 20))
    #expect(leaving.count == 2)
    #expect(planner.ledger.boundInBytes == stored - (2 << 20))
    _ = planner.noteRoom(inBytes: 4096 - stored)
    #expect(planner.isShortOfRoom)
    #expect(planner.noteRoom(inBytes: 1 << 40) == [])
    #expect(planner.ledger.boundInBytes == 64 << 20)
  }

  @Test("Where the disk's room is gone a read does not wait for it")
  func noRoom() {
    var planner = makePlanner()
    _ = planner.noteRoom(inBytes: -(1 << 30))
    let actions = planner.read(chunk, handle: handle, bytes: 0..<block, wait: WaitID(number: 2)).1
    #expect(parts(actions).map(\.isInMemory) == [true])
  }

  @Test("Readers go on where the kernel has more of the cache than the disk's room allows")
  func lentBeyondTheRoom() throws {
    var planner = makePlanner(present: 0..<400)
    #expect({ planner.pinWhole(chunk) }())
    let other = ChunkID(index: 1)
    planner.load(
      other, sizeInBytes: 100 << 20, entry: EntryID(number: 2), overheadInBytes: 4096,
      present: BlockSet(blockCount: 1600), isVersionKnown: true, opening: 0..<block)
    _ = planner.open(other, handle: HandleID(number: 2), wait: WaitID(number: 2))
    _ = planner.noteRoom(inBytes: -(1 << 30))
    for index in 0..<40 {
      let bytes = index << 20..<(index + 1) << 20
      let wait = WaitID(number: UInt64(10 + index))
      let actions = planner.read(other, handle: HandleID(number: 2), bytes: bytes, wait: wait).1
      var answered = false
      for part in parts(actions) {
        #expect(part.isInMemory)
        #expect(bytes.contains(part.bytes.lowerBound) && part.bytes.upperBound <= bytes.upperBound)
        answered = planner.arrived(part.id, count: part.bytes.count).contains(.answer(wait))
        _ = planner.finished(part.id)
      }
      #expect(answered)
      _ = planner.finishedReading(other, bytes: bytes)
    }
  }

  @Test("What was on disk before a part that ended early stays on the books")
  func heldBlocks() throws {
    var planner = makePlanner(present: 0..<4, blockCount: 4)
    let used = planner.ledger.usedInBytes
    planner.discarded(chunk, blocks: 0..<4)
    let actions = planner.read(
      chunk, handle: handle, bytes: 0..<4 * block, wait: WaitID(number: 2)
    ).1
    let part = try #require(parts(actions).first)
    #expect(planner.ledger.usedInBytes == used)
    // Its first block is half written, the others still hold damaged bytes.
    _ = planner.arrived(part.id, count: 1000)
    _ = planner.failed(part.id)
    #expect(planner.ledger.usedInBytes == used)
    let again = planner.read(
      chunk, handle: handle, bytes: 0..<4 * block, wait: WaitID(number: 3)
    ).1
    let second = try #require(parts(again).first)
    _ = planner.failed(second.id)
    #expect(planner.ledger.usedInBytes == used)
  }

  @Test("The second time stored bytes cannot be read, the chunk does without its files")
  func unreadable() throws {
    var planner = makePlanner(present: 0..<4, blockCount: 4)
    let isGivenUpAtOnce = planner.unreadable(chunk, blocks: 0..<1)
    #expect(!isGivenUpAtOnce)
    let first = planner.read(chunk, handle: handle, bytes: 0..<block, wait: WaitID(number: 2)).1
    let part = try #require(parts(first).first)
    #expect(!part.isInMemory)
    #expect(planner.arrived(part.id, count: block) == [.answer(WaitID(number: 2))])
    _ = planner.finished(part.id)
    let isGivenUp = planner.unreadable(chunk, blocks: 0..<1)
    #expect(isGivenUp)
    _ = planner.finishedReading(chunk, bytes: 0..<block)
    let second = planner.read(
      chunk, handle: handle, bytes: 0..<3 * block, wait: WaitID(number: 3)
    ).1
    #expect(parts(second).map(\.isInMemory) == [true])
    #expect(parts(second).map(\.bytes) == [0..<3 * block])
    #expect(!planner.canPinWhole(chunk))
  }
}
