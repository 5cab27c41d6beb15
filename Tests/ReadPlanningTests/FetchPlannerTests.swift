import TestSupport
import Testing

@testable import ReadPlanning

private let mebibyte = 1 << 20

@Suite("What is fetched for whom")
struct FetchPlannerTests {
  @Test("The first kilobytes of a chunk cost one request of one MiB")
  func head() {
    var simulation = PlannerSimulation(sizeInBytes: 100 * mebibyte)
    let handle = simulation.open()
    simulation.readThrough(handle, 0..<16384)
    simulation.close(handle)
    simulation.deliverAll()
    #expect(simulation.fetched.map(\.bytes) == [0..<mebibyte])
  }

  @Test("The largest cache that can be asked for can be reckoned with")
  func largestCache() {
    let bound = 1 << 60
    #expect(FetchPlanner.largestChunkInBytes(cacheBoundInBytes: bound) == 64 << 30)
    let planner = FetchPlanner(maxConnections: 8, cacheBoundInBytes: bound)
    #expect(planner.maximumWindowInBytes == 128 << 20)
  }

  @Test("The kernel's first two requests open the same window in either order", arguments: [0, 1])
  func eitherOrder(_ first: Int) {
    var simulation = PlannerSimulation(sizeInBytes: 100 << 20)
    let handle = simulation.open()
    for index in [first, 1 - first] {
      _ = simulation.read(handle, index << 20..<(index + 1) << 20)
    }
    #expect(simulation.bytesFetched == 32 << 20)
    #expect(simulation.bytesFetchedTwice == 0)
  }

  @Test("A reader that goes backwards has nothing fetched ahead of it")
  func backwards() {
    let size = 100 * mebibyte
    var simulation = PlannerSimulation(sizeInBytes: size)
    let handle = simulation.open()
    simulation.readThrough(handle, size - 65_536..<size)
    for index in (20..<40).reversed() {
      simulation.readThrough(handle, index * mebibyte..<(index + 1) * mebibyte)
    }
    simulation.deliverAll()
    #expect(simulation.bytesFetched == 20 * mebibyte + 65_536)
  }

  @Test("A seek to the end costs the blocks that hold the bytes, and nothing is fetched ahead")
  func footer() {
    var simulation = PlannerSimulation(sizeInBytes: 100 * mebibyte)
    let handle = simulation.open()
    simulation.readThrough(handle, 100 * mebibyte - 8..<100 * mebibyte)
    simulation.readThrough(handle, 100 * mebibyte - 12_000..<100 * mebibyte - 8)
    simulation.deliverAll()
    #expect(simulation.fetched.map(\.bytes) == [100 * mebibyte - 65536..<100 * mebibyte])
  }

  @Test(
    "A sequential reader gets every byte with no byte asked for twice, and soon many parts at once")
  func sequential() {
    let size = 105 * mebibyte + 12_345
    var simulation = PlannerSimulation(sizeInBytes: size)
    let handle = simulation.open()
    for start in stride(from: 0, to: size, by: 128 << 10) {
      simulation.readThrough(handle, start..<min(size, start + 128 << 10))
    }
    #expect(simulation.bytesFetchedTwice == 0)
    #expect(simulation.bytesFetched == size)
    #expect(simulation.mostAtOnce >= 16)
    #expect(simulation.mostAtOnce <= 32)
  }

  @Test("Many readers of one chunk do not make a byte be asked for twice")
  func manyReaders() {
    let size = 20 * mebibyte
    var simulation = PlannerSimulation(sizeInBytes: size)
    let handles = (0..<8).map { _ in simulation.open() }
    for start in stride(from: 0, to: size, by: mebibyte) {
      for handle in handles {
        simulation.readThrough(handle, start..<start + mebibyte)
      }
    }
    #expect(simulation.bytesFetchedTwice == 0)
    #expect(simulation.bytesFetched == size)
  }

  @Test("A few scattered reads fetch only the blocks they touch")
  func scattered() {
    var simulation = PlannerSimulation(sizeInBytes: 100 * mebibyte)
    let handle = simulation.open()
    for block in [700, 50, 1300] {
      simulation.readThrough(handle, block << 16..<(block + 1) << 16)
    }
    simulation.deliverAll()
    #expect(simulation.bytesFetched == 3 << 16)
  }

  @Test(
    "Where scattered reads keep coming the chunk is fetched whole, once",
    arguments: [5, 6] as [UInt64])
  func readAllOver(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var simulation = PlannerSimulation(sizeInBytes: 100 * mebibyte)
    let handle = simulation.open()
    for _ in 0..<60 {
      let start = Int.random(in: 1..<1500, using: &generator) << 16
      simulation.readThrough(handle, start..<start + 65536)
    }
    simulation.deliverAll()
    #expect(simulation.bytesFetched == 100 * mebibyte, "seed \(seed)")
    #expect(simulation.bytesFetchedTwice == 0, "seed \(seed)")
  }

  @Test("Scattered reads after a look at the table of contents fetch only what they touch")
  func columns() {
    var simulation = PlannerSimulation(sizeInBytes: 100 * mebibyte)
    let handle = simulation.open()
    simulation.readThrough(handle, 100 * mebibyte - 8..<100 * mebibyte)
    for block in stride(from: 1, to: 1500, by: 100) {
      simulation.readThrough(handle, block << 16..<(block + 13) << 16)
    }
    simulation.deliverAll()
    #expect(simulation.bytesFetched == (15 * 13 + 1) << 16)
  }

  @Test("Reading the same bytes again is no progress, and brings nothing ahead")
  func rereading() {
    var simulation = PlannerSimulation(sizeInBytes: 100 * mebibyte)
    let handle = simulation.open()
    let column = 50 * mebibyte..<50 * mebibyte + 14 << 16
    for _ in 0..<5 { simulation.readThrough(handle, column) }
    simulation.deliverAll()
    #expect(simulation.bytesFetched == column.count)
  }

  @Test("A walk over small chunks has the next ones fetched, one request each, and no byte twice")
  func walk() {
    let size = 2 * mebibyte + 100_000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 40)
    for chunk in 0..<20 {
      let handle = simulation.open(chunk)
      for start in stride(from: 0, to: size, by: 128 << 10) {
        simulation.readThrough(handle, start..<min(size, start + 128 << 10))
      }
      simulation.close(handle)
    }
    #expect(simulation.bytesFetchedTwice == 0)
    #expect(simulation.mostAtOnce >= 8, "many chunks at once")
    let chunksAhead = Set(simulation.fetched.map(\.chunk)).count - 20
    #expect((1...16).contains(chunksAhead))
    #expect(simulation.fetched.count(where: { $0.chunk > 2 }) == 17 + chunksAhead)
  }

  @Test(
    "Of the next chunks no more is fetched than the walk has read, or what comes in a round trip")
  func endOfAWalk() {
    let size = 40 * mebibyte
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 20)
    var read = 0
    for chunk in 0..<3 {
      let handle = simulation.open(chunk)
      for start in stride(from: 0, to: size, by: mebibyte) {
        simulation.readThrough(handle, start..<start + mebibyte)
        read += mebibyte
        simulation.deliverAll()
        let ahead = simulation.fetched.filter { $0.chunk > chunk }.reduce(0) { $0 + $1.bytes.count }
        // To the end of a part, and the first request of a chunk.
        #expect(ahead <= max(32 * mebibyte, read) + 9 * mebibyte, "after \(read) bytes")
        if start + mebibyte == size, chunk > 0 { #expect(ahead >= min(2, chunk) * size) }
      }
      simulation.close(handle)
    }
  }

  @Test("Chunks in no order bring nothing of others")
  func noWalk() {
    let size = 20 * mebibyte
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 40)
    for chunk in [7, 17, 5] {
      let handle = simulation.open(chunk)
      for start in stride(from: 0, to: size, by: mebibyte) {
        simulation.readThrough(handle, start..<start + mebibyte)
      }
      simulation.close(handle)
    }
    simulation.deliverAll()
    #expect(simulation.bytesFetched == 3 * size)
  }

  @Test(
    "The first chunk's reader has the second's first request made ahead, once it nears the end",
    arguments: [9, 11, 20])
  func beginningOfAWalk(mebibytesRead: Int) {
    let size = 20 * mebibyte
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 40)
    let handle = simulation.open(0)
    for start in stride(from: 0, to: mebibytesRead * mebibyte, by: mebibyte) {
      simulation.readThrough(handle, start..<start + mebibyte)
    }
    simulation.deliverAll()
    let ahead = simulation.fetched.filter { $0.chunk != 0 }
    #expect(ahead.map(\.chunk) == (mebibytesRead < 10 ? [] : [1]))
    #expect(ahead.map(\.bytes) == (mebibytesRead < 10 ? [] : [0..<mebibyte]))
    simulation.close(handle)
    // Something else: nothing more comes of the second, and it is let go.
    let other = simulation.open(17)
    simulation.readThrough(other, 0..<mebibyte)
    simulation.deliverAll()
    #expect(simulation.fetched.count(where: { $0.chunk == 1 }) == ahead.count)
    #expect(simulation.planner.isIdle(ChunkID(index: 1)) == !ahead.isEmpty)
  }

  @Test("A waiting read is answered when its own bytes are here, in the middle of a part")
  func streaming() {
    var simulation = PlannerSimulation(sizeInBytes: 100 * mebibyte)
    let handle = simulation.open()
    let wait = simulation.read(handle, 0..<20_000)
    let part = simulation.running.keys.first
    #expect(wait != nil && part != nil)
    guard let wait, let part else { return }
    simulation.deliver(part, 19_999)
    #expect(!simulation.answered.contains(wait))
    simulation.deliver(part, 1)
    #expect(simulation.answered.contains(wait))
    #expect(simulation.running[part] != nil, "the part goes on")
  }

  @Test("Connections are a cap over all chunks, and read-ahead leaves room for a newcomer")
  func connections() {
    var simulation = PlannerSimulation(
      sizeInBytes: 100 * mebibyte, chunkCount: 4, maxConnections: 8)
    var handles: [HandleID] = []
    for chunk in 0..<3 {
      handles.append(simulation.open(chunk))
      for start in stride(from: 0, to: 4 * mebibyte, by: mebibyte) {
        simulation.readThrough(handles[chunk], start..<start + mebibyte)
      }
    }
    #expect(simulation.mostAtOnce <= 8)
    let newcomer = simulation.open(3)
    let before = simulation.running.count
    #expect(before <= 7)
    let wait = simulation.read(newcomer, 0..<4096)
    #expect(wait != nil)
    #expect(simulation.running.count == before + 1, "the newcomer's request goes out at once")
  }

  @Test("A retry goes on after the bytes that have arrived")
  func retry() {
    var simulation = PlannerSimulation(sizeInBytes: 10 * mebibyte)
    let handle = simulation.open()
    let wait = simulation.read(handle, 0..<200_000)
    guard let wait, let part = simulation.running.keys.min(by: { $0.number < $1.number }) else {
      Issue.record("no request went out")
      return
    }
    simulation.deliver(part, 100_000)
    simulation.fail(part, forGood: false)
    #expect(simulation.fetched.last?.bytes.lowerBound == 100_000)
    simulation.deliverAll()
    #expect(simulation.answered.contains(wait))
  }

  @Test("A part that is given up fails who waits for it, and is asked for again only by a new read")
  func failure() {
    var simulation = PlannerSimulation(sizeInBytes: 10 * mebibyte)
    let handle = simulation.open()
    let wait = simulation.read(handle, 0..<4096)
    guard let wait, let part = simulation.running.keys.first else {
      Issue.record("no request went out")
      return
    }
    simulation.fail(part, forGood: true)
    #expect(simulation.failed.contains(wait))
    #expect(simulation.running.isEmpty)
    simulation.readThrough(handle, 0..<4096)
  }

  @Test("With its last reader a chunk's long transfers are cancelled, short rests are not")
  func cancellation() {
    var simulation = PlannerSimulation(sizeInBytes: 200 * mebibyte)
    let handle = simulation.open()
    for start in stride(from: 0, to: 8 * mebibyte, by: mebibyte) {
      simulation.readThrough(handle, start..<start + mebibyte)
    }
    let long = simulation.running.values.filter { $0.part.bytes.upperBound - $0.next > mebibyte }
    #expect(!long.isEmpty)
    simulation.close(handle)
    #expect(simulation.cancelled == Set(long.map(\.part.id)))
  }

  @Test(
    "Readers over a small cache: the bound holds and everyone gets on",
    arguments: [1, 2, 3, 4] as [UInt64])
  func smallCache(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let size = 12 * mebibyte
    var simulation = PlannerSimulation(
      sizeInBytes: size, chunkCount: 4, maxConnections: 6, cacheBoundInBytes: 15 * mebibyte)
    let handles = (0..<4).map { simulation.open($0) }
    var offsets = [0, 0, 0, 0]
    for _ in 0..<400 {
      let reader = Int.random(in: 0..<4, using: &generator)
      if Int.random(in: 0..<20, using: &generator) == 0 {
        offsets[reader] = Int.random(in: 0..<size, using: &generator)
      }
      let start = offsets[reader]
      let end = min(size, start + Int.random(in: 1...mebibyte, using: &generator))
      simulation.readThrough(handles[reader], start..<end)
      offsets[reader] = end == size ? 0 : end
    }
    simulation.deliverAll()
    #expect(simulation.planner.ledger.pinnedInBytes == 0, "seed \(seed)")
  }

  @Test("The window moves on with its reader, also past the largest window", arguments: [32, 1024])
  func longChunk(cacheInMebibytes: Int) {
    let size = 400 * mebibyte
    var simulation = PlannerSimulation(
      sizeInBytes: size, cacheBoundInBytes: cacheInMebibytes * mebibyte)
    let handle = simulation.open()
    var waited = 0
    for start in stride(from: 0, to: size, by: mebibyte) {
      let requests = simulation.fetched.count
      simulation.readThrough(handle, start..<start + mebibyte)
      if simulation.fetched.count > requests, simulation.fetched.last?.bytes.lowerBound == start {
        waited += 1
      }
      simulation.deliverAll()
      let ahead = simulation.bytesFetched - start - mebibyte
      #expect(ahead <= min(128, cacheInMebibytes * 3 / 4) * mebibyte)
      if start > 8 * mebibyte, start < size - 128 * mebibyte {
        #expect(ahead >= min(100, cacheInMebibytes / 3) * mebibyte)
      }
    }
    #expect(waited <= 1, "only the first read brings its own bytes")
    #expect(simulation.bytesFetched == size)
  }

  @Test("What was fetched ahead of a slow reader stays while a fast one goes through the cache")
  func slowReader() {
    let size = 200 * mebibyte
    var simulation = PlannerSimulation(
      sizeInBytes: size, chunkCount: 3, cacheBoundInBytes: 32 * mebibyte)
    let slow = simulation.open(0)
    let fast = simulation.open(2)
    var position = 0
    for step in 0..<10 {
      simulation.readThrough(slow, step * mebibyte..<(step + 1) * mebibyte)
      for _ in 0..<20 {
        simulation.readThrough(fast, position..<position + mebibyte)
        position += mebibyte
        simulation.deliverAll()
      }
    }
    #expect(simulation.bytesFetchedTwice == 0)
    let ahead = simulation.bytesFetched - 10 * mebibyte - min(size, position)
    #expect(ahead >= 9 * mebibyte, "each is fetched ahead by most of its half")
    #expect(ahead <= 20 * mebibyte)
  }

  /// What is fetched ahead of readers that have stopped, in a cache of 64 MiB.
  enum Leftover: CaseIterable { case abandonedStream, idleReaders, expectedChunk }

  @Test("Windows that are more than the cache can hold come to rest", arguments: Leftover.allCases)
  func rest(leftover: Leftover) {
    let size = (leftover == .expectedChunk ? 60 : 300) * mebibyte
    var simulation = PlannerSimulation(
      sizeInBytes: size, chunkCount: 8, cacheBoundInBytes: 63 * mebibyte)
    func read(_ handle: HandleID, _ mebibytes: Range<Int>, _ simulation: inout PlannerSimulation) {
      for start in mebibytes {
        simulation.readThrough(handle, start * mebibyte..<(start + 1) * mebibyte)
      }
    }
    switch leftover {
    case .abandonedStream:
      let handle = simulation.open(0)
      read(handle, 0..<4, &simulation)
      read(handle, 200..<245, &simulation)
    case .idleReaders:
      for chunk in [0, 2, 4, 6] { read(simulation.open(chunk), 0..<3, &simulation) }
    case .expectedChunk:
      for chunk in [0, 1, 1] {
        let handle = simulation.open(chunk)
        read(handle, 0..<(chunk == 0 ? 60 : 8), &simulation)
        if chunk == 0 { simulation.close(handle) }
      }
    }
    for _ in 0..<2000 { simulation.deliverRound(pieceInBytes: 256 << 10) }
    #expect(simulation.running.isEmpty, "it fetches and evicts without end")
    #expect(simulation.bytesFetchedTwice <= 8 * mebibyte)
  }

  @Test("A chunk that was filled once is not filled again as it leaves")
  func filledOnce() {
    let size = 30 * mebibyte
    var simulation = PlannerSimulation(
      sizeInBytes: size, chunkCount: 8, cacheBoundInBytes: 63 * mebibyte)
    let scattered = simulation.open(0)
    for block in stride(from: 20, to: 400, by: 47) {
      simulation.readThrough(scattered, block << 16..<(block + 1) << 16)
    }
    simulation.deliverAll()
    #expect(simulation.bytesFetched == size)
    for chunk in [3, 5, 7] {
      let handle = simulation.open(chunk)
      for start in stride(from: 0, to: size, by: mebibyte) {
        simulation.readThrough(handle, start..<start + mebibyte)
      }
      simulation.close(handle)
    }
    for _ in 0..<2000 { simulation.deliverRound(pieceInBytes: 256 << 10) }
    #expect(simulation.bytesFetchedTwice == 0)
    #expect(simulation.bytesFetched == 4 * size)
  }

  @Test("The footers of the next chunks come to rest, also where they are all of small chunks")
  func footersOfSmallChunks() throws {
    let size = 4 * mebibyte
    let columns = ThriftWriter.column(data: 4, size: size - 3000)
    let tail = ThriftWriter.tail(ThriftWriter.footer([[columns]]).bytes)
    guard
      case .layout(let layout) = ParquetLayout.decode(tail: tail, fileSizeInBytes: size)
    else { throw ParquetLayoutMissing() }
    var simulation = PlannerSimulation(
      sizeInBytes: size, chunkCount: 40, cacheBoundInBytes: 63 * mebibyte, layout: layout)
    for chunk in 0..<2 {
      let handle = simulation.open(chunk)
      simulation.readThrough(handle, size - 8..<size)
    }
    for _ in 0..<2000 { simulation.deliverRound(pieceInBytes: 256 << 10) }
    #expect(simulation.running.isEmpty, "it fetches and evicts without end")
    #expect(simulation.bytesFetchedTwice == 0)
    #expect(Set(simulation.fetched.map(\.chunk)).count > 4, "several are fetched")
  }

  private struct ParquetLayoutMissing: Error {}

  @Test("Requests of the kernel that come late continue their stream", arguments: [32, 1024])
  func lateRequests(cacheInMebibytes: Int) {
    let size = 200 * mebibyte
    var simulation = PlannerSimulation(
      sizeInBytes: size, cacheBoundInBytes: cacheInMebibytes * mebibyte)
    let handle = simulation.open()
    // Of each six in a row, one comes up to three requests too late.
    for first in stride(from: 0, to: 192, by: 6) {
      for place in [0, 1, 3, 4, 5, 2] {
        simulation.readThrough(handle, (first + place) * mebibyte..<(first + place + 1) * mebibyte)
        simulation.deliverAll()
      }
    }
    #expect(simulation.bytesFetchedTwice == 0)
    #expect(
      simulation.planner.handles[HandleID(number: handle.number)]?.readAhead.streams.count == 1)
  }
}
