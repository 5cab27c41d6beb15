import Blocks
import ReadPlanning
import Testing

private let mebibyte = 1 << 20

@Suite("Chunks that the kernel reads by itself")
struct PassthroughTests {
  /// A planner over a cache of 64 MiB, with chunks of 24 MiB that are wholly there and open.
  private func planner(chunkCount: Int) -> FetchPlanner {
    var planner = FetchPlanner(maxConnections: 4, cacheBoundInBytes: 64 * mebibyte)
    _ = planner.cacheIsKnown()
    for index in 0..<chunkCount { load(&planner, index, isWhole: true) }
    return planner
  }

  private func load(_ planner: inout FetchPlanner, _ index: Int, isWhole: Bool) {
    let size = 24 * mebibyte
    var present = BlockSet(blockCount: BlockGrid(sizeInBytes: size).blockCount)
    present.insert(0..<present.blockCount - (isWhole ? 0 : 1))
    planner.load(
      ChunkID(index: index), sizeInBytes: size, entry: EntryID(number: index),
      overheadInBytes: 4096, present: present, isVersionKnown: true, opening: 0..<mebibyte)
    _ = planner.open(
      ChunkID(index: index), handle: HandleID(number: UInt64(index)),
      wait: WaitID(number: UInt64(index)))
  }

  private func pin(_ chunk: ChunkID, _ planner: inout FetchPlanner) -> Bool {
    planner.pinWhole(chunk)
  }

  private let first = ChunkID(index: 0)
  private let second = ChunkID(index: 1)

  @Test("A chunk that lacks a block is not pinned: the kernel would read zeros")
  func incomplete() {
    var planner = planner(chunkCount: 0)
    load(&planner, 0, isWhole: false)
    #expect(!pin(first, &planner))
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  @Test("A chunk that is pinned twice is let go with the second unpin")
  func twice() {
    var planner = planner(chunkCount: 1)
    #expect(pin(first, &planner))
    #expect(pin(first, &planner))
    #expect(planner.ledger.pinnedInBytes == 24 * mebibyte)
    _ = planner.unpinWhole(first)
    #expect(planner.ledger.pinnedInBytes == 24 * mebibyte)
    _ = planner.unpinWhole(first)
    #expect(planner.ledger.pinnedInBytes == 0)
    _ = planner.unpinWhole(first)
    #expect(planner.wholePinCount(first) == 0)
  }

  @Test("While it is lent, a chunk with a block found damaged is not lent once more")
  func damaged() {
    var planner = planner(chunkCount: 1)
    #expect(pin(first, &planner))
    planner.discarded(first, blocks: 3..<4)
    #expect(!pin(first, &planner))
    _ = planner.unpinWhole(first)
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  @Test("No more than half of the cache is pinned in this way")
  func half() {
    var planner = planner(chunkCount: 2)
    #expect(pin(first, &planner))
    #expect(!planner.canPinWhole(second))
    #expect(!pin(second, &planner))
    #expect(planner.canPinWhole(first))
    _ = planner.unpinWhole(first)
    #expect(pin(second, &planner))
  }

  @Test("A pinned chunk stays loaded without a handle, and none of it makes room for others")
  func stays() {
    var planner = planner(chunkCount: 2)
    #expect(pin(first, &planner))
    _ = planner.close(HandleID(number: 0))
    #expect(!planner.isIdle(first))
    load(&planner, 2, isWhole: false)
    // The last segment of chunk 2 needs room that only chunk 1 can give.
    var evicted: [Segment] = []
    let (_, actions) = planner.read(
      ChunkID(index: 2), handle: HandleID(number: 2), bytes: 24 * mebibyte - 1..<24 * mebibyte,
      wait: WaitID(number: 100))
    for case .evict(let segment) in actions { evicted.append(segment) }
    #expect(!evicted.isEmpty)
    #expect(evicted.allSatisfy { $0.entry != EntryID(number: 0) })
    _ = planner.unpinWhole(first)
    #expect(planner.isIdle(first))
  }

  @Test(
    "A walk goes on although the kernel reads by itself what came ahead; now and then a chunk is not lent, to hear",
    arguments: [2 * mebibyte, 20 * mebibyte])
  func walk(size: Int) {
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 160)
    var heard: [Int] = []
    for chunk in 0..<140 {
      let before = simulation.fetched.count
      if !simulation.visit(chunk, reading: size) { heard.append(chunk) }
      if chunk > 1 {
        #expect(
          simulation.fetched[before...].allSatisfy { $0.chunk > chunk }, "\(chunk) was there")
      }
    }
    let mostInARow = (128 * mebibyte + size - 1) / size
    #expect(zip(heard, heard.dropFirst()).dropFirst().allSatisfy { $1 - $0 == mostInARow + 1 })
    #expect(heard.count == 2 + 138 / (mostInARow + 1))
    #expect(simulation.bytesFetchedTwice == 0)
    let bytesAhead = simulation.bytesFetched - 140 * size
    #expect((1...max(32 * mebibyte, 2 * size)).contains(bytesAhead))
  }

  @Test(
    "Who reads chunks through, and then the beginning of each that follows, gets no more of those than a while of it",
    arguments: [2 * mebibyte, 20 * mebibyte])
  func walkThatEnds(size: Int) {
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 400)
    // Has read a chunk through, and says nothing of those that others read.
    let other = simulation.open(390)
    for start in stride(from: 0, to: size, by: mebibyte) {
      simulation.readThrough(other, start..<start + mebibyte)
    }
    for chunk in 0..<5 { _ = simulation.visit(chunk, reading: size) }
    let before = simulation.bytesFetched
    for chunk in 5..<300 {
      _ = simulation.visit(chunk, reading: 64 << 10)
      simulation.readThrough(other, 0..<mebibyte)
    }
    // Of small chunks the first request is all of them.
    let opened = size <= PartSizing.smallChunkInBytes ? size : mebibyte
    let more = simulation.bytesFetched - before - 295 * opened
    #expect(more <= 200 * mebibyte)
  }

  @Test(
    "A walk of a program that opens each chunk twice, to look what it is and to read it, goes on",
    arguments: [2 * mebibyte, 20 * mebibyte])
  func openedTwice(size: Int) {
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 160)
    for chunk in 0..<140 {
      let before = simulation.fetched.count
      _ = simulation.visit(chunk, reading: 64 << 10)
      _ = simulation.visit(chunk, reading: size)
      if chunk > 1 {
        #expect(
          simulation.fetched[before...].allSatisfy { $0.chunk > chunk }, "\(chunk) was there")
      }
    }
    #expect(simulation.bytesFetchedTwice == 0)
  }

  @Test(
    "Who opens what is cached, one chunk after the other, brings nothing of the chunks that follow")
  func noWalk() {
    var simulation = PlannerSimulation(
      sizeInBytes: 2 * mebibyte, chunkCount: 60, cachedChunks: 0..<3)
    for chunk in 0..<3 {
      let isLent = simulation.visit(chunk, reading: 2 * mebibyte)
      #expect(isLent)
    }
    #expect(simulation.bytesFetched == 0)
  }

  @Test(
    "A chunk that was not there when it was opened is not lent until it was read: it may begin a walk"
  )
  func opening() {
    var planner = planner(chunkCount: 0)
    let grid = BlockGrid(sizeInBytes: mebibyte)
    planner.load(
      first, sizeInBytes: mebibyte, entry: EntryID(number: 1), overheadInBytes: 4096,
      present: BlockSet(blockCount: grid.blockCount), isVersionKnown: false, opening: 0..<mebibyte)
    let (reader, next) = (HandleID(number: 1), HandleID(number: 2))
    let later = HandleID(number: 3)
    let (_, actions) = planner.open(first, handle: reader, wait: WaitID(number: 1))
    _ = planner.versionIsKnown(first)
    for case .fetch(let part) in actions {
      _ = planner.arrived(part.id, count: part.bytes.count)
      _ = planner.finished(part.id)
    }
    #expect(planner.canPinWhole(first))
    #expect(!planner.mayLend(first, to: reader))
    _ = planner.open(first, handle: next, wait: WaitID(number: 2))
    #expect(!planner.mayLend(first, to: next))
    _ = planner.read(first, handle: next, bytes: 0..<mebibyte / 2, wait: WaitID(number: 3))
    _ = planner.open(first, handle: later, wait: WaitID(number: 4))
    #expect(planner.mayLend(first, to: later))
  }

  @Test("Readers whom the kernel serves take nothing from the windows of others")
  func shares() {
    let size = 100 * mebibyte
    func ahead(ofReaderBeside count: Int) -> Int {
      var simulation = PlannerSimulation(
        sizeInBytes: size, chunkCount: 60, cacheBoundInBytes: 16 << 30, cachedChunks: 10..<40)
      for chunk in 0..<count { simulation.openLent(10 + 2 * chunk) }
      let handle = simulation.open(50)
      for start in stride(from: 0, to: 8 * mebibyte, by: mebibyte) {
        simulation.readThrough(handle, start..<start + mebibyte)
      }
      simulation.deliverAll()
      return simulation.bytesFetched
    }
    #expect(ahead(ofReaderBeside: 10) == ahead(ofReaderBeside: 0))
  }
}
