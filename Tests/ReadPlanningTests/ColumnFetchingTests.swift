import Blocks
import ReadPlanning
import Testing

private let mebibyte = 1 << 20

@Suite("Columns of Parquet chunks")
struct ColumnFetchingTests {
  /// Nine row groups of eleven columns as an inventory has them: 850 KB of `size`, 26 KB of
  /// `storage_class`, and much of others between.
  private static let columnSizes = [
    350, 3_897_609, 3_270_969, 11_291, 8_476, 848_679, 899_421, 3_266_812, 25_606, 12_760, 306,
  ]
  private static let used = [5, 8]
  private static let rowGroups = 9

  private func layout(
    rowGroups: Int = Self.rowGroups, columnSizes: [Int] = Self.columnSizes
  ) throws -> ParquetLayout {
    var offset = 4
    let groups = (0..<rowGroups).map { _ in
      columnSizes.map { size in
        defer { offset += size }
        return ThriftWriter.column(data: offset, size: size)
      }
    }
    let tail = ThriftWriter.tail(ThriftWriter.footer(groups).bytes)
    guard
      case .layout(let layout) = ParquetLayout.decode(
        tail: tail, fileSizeInBytes: offset + tail.count)
    else { throw NoLayout() }
    return layout
  }

  private struct NoLayout: Error {}

  @Test(
    "A query of two columns costs few requests in its first chunk, hardly more bytes than they have"
  )
  func query() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, layout: layout)
    let handle = simulation.open()
    simulation.readThrough(handle, size - 8..<size)
    var waits = 0
    var used = 0
    for rowGroup in 0..<Self.rowGroups {
      for column in Self.used {
        let bytes = layout.bytes(ofColumn: column, inRowGroup: rowGroup)
        used += bytes.count
        let before = simulation.fetched.count
        simulation.readThrough(handle, bytes)
        if simulation.fetched.count > before { waits += 1 }
        // The network is as fast as the reader.
        simulation.deliverAll()
      }
    }
    #expect(simulation.bytesFetchedTwice == 0)
    #expect(Double(simulation.bytesFetched) <= 1.3 * Double(used) + 131_072)
    #expect(waits <= 6, "most columns are there when they are read")
  }

  @Test(
    "A chunk is not idle while its footer is being decoded, or what is pinned for that would stay so"
  )
  func closedWhileDecoding() {
    let id = ChunkID(index: 0)
    var planner = FetchPlanner(
      maxConnections: 4, cacheBoundInBytes: 64 << 20,
      catalog: ChunkCatalog(names: ["a"], sizesInBytes: [1 << 20], isParquet: true))
    _ = planner.cacheIsKnown()
    var present = BlockSet(blockCount: 16)
    present.insert(0..<16)
    planner.load(
      id, sizeInBytes: 1 << 20, entry: EntryID(number: 1), overheadInBytes: 4096, present: present,
      isVersionKnown: true, opening: 0..<(1 << 20))
    let handle = HandleID(number: 1)
    _ = planner.open(id, handle: handle, wait: WaitID(number: 1))
    let (_, actions) = planner.read(
      id, handle: handle, bytes: (1 << 20) - 8..<1 << 20, wait: WaitID(number: 2))
    _ = planner.finishedReading(id, bytes: (1 << 20) - 8..<1 << 20)
    let tails = actions.compactMap { if case .decodeFooter(_, let tail) = $0 { tail } else { nil } }
    _ = planner.close(handle)
    #expect(tails.count == 1 && !planner.isIdle(id))
    for tail in tails { _ = planner.footerIsDecoded(id, tail: tail, .notParquet) }
    #expect(planner.isIdle(id) && planner.ledger.pinnedInBytes == 0)
  }

  private func columns(in layout: ParquetLayout) -> [Range<Int>] {
    (0..<Self.rowGroups).flatMap { rowGroup in
      Self.used.map { layout.bytes(ofColumn: $0, inRowGroup: rowGroup) }
    }
  }

  /// One chunk's footer and used columns, from its opening on.
  private func query(
    _ chunk: Int, of simulation: inout PlannerSimulation, in layout: ParquetLayout
  ) -> HandleID {
    let handle = simulation.open(chunk)
    simulation.readThrough(handle, simulation.sizeInBytes - 8..<simulation.sizeInBytes)
    for bytes in columns(in: layout) { simulation.readThrough(handle, bytes) }
    return handle
  }

  @Test("A second chunk's columns are fetched as soon as its footer is known")
  func nextChunk() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 19, layout: layout)
    simulation.close(query(0, of: &simulation, in: layout))
    simulation.deliverAll()
    // Too far away for its footer to have come ahead.
    let second = simulation.open(18)
    simulation.readThrough(second, size - 8..<size)
    simulation.deliverAll()
    let requests = simulation.fetched.count
    for bytes in columns(in: layout) { simulation.readThrough(second, bytes) }
    #expect(simulation.fetched.count == requests, "every column is there before it is read")
  }

  @Test(
    "As a query comes to the second half of a chunk, the next one's columns are fetched, no others"
  )
  func columnsAhead() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 4, layout: layout)
    let first = simulation.open(0)
    simulation.readThrough(first, size - 8..<size)
    func requests(_ chunk: Int) -> Int { simulation.fetched.count { $0.chunk == chunk } }
    for (number, bytes) in columns(in: layout).enumerated() {
      simulation.readThrough(first, bytes)
      simulation.deliverAll()
      let isSecondHalf = 2 * (number / 2 + 1) >= Self.rowGroups
      #expect((requests(1) > 1) == isSecondHalf, "column \(number)")
    }
    #expect((2...3).allSatisfy { requests($0) == 1 }, "their footers, and nothing else")
    let second = simulation.open(1)
    let before = requests(1)
    simulation.readThrough(second, size - 8..<size)
    for bytes in columns(in: layout) { simulation.readThrough(second, bytes) }
    #expect(requests(1) == before, "every column was there before it was read")
    #expect(requests(2) > 1 && requests(3) == 1)
    #expect(simulation.bytesFetchedTwice == 0)
  }

  @Test("Columns that came ahead and left unread are not fetched ahead again")
  func columnsThatLeft() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(
      sizeInBytes: size, chunkCount: 4, maxConnections: 2, cacheBoundInBytes: 63 << 20,
      layout: layout)
    let query = simulation.open(0)
    simulation.readThrough(query, size - 8..<size)
    for bytes in columns(in: layout).prefix(4) { simulation.readThrough(query, bytes) }
    simulation.deliverAll()
    func requests() -> Int { simulation.fetched.count { $0.chunk == 0 } }
    let before = requests()
    #expect(before > 4)
    // Somebody else fills the cache.
    let other = simulation.open(2)
    for start in stride(from: 0, to: size - mebibyte, by: mebibyte) {
      simulation.readThrough(other, start..<start + mebibyte)
      simulation.deliverAll()
    }
    #expect(requests() == before)
  }

  @Test("A chunk whose footer came ahead has its columns fetched when the footer is read")
  func columnsOfNextChunk() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 2, layout: layout)
    let first = simulation.open(0)
    simulation.readThrough(first, size - 8..<size)
    for bytes in columns(in: layout).prefix(6) { simulation.readThrough(first, bytes) }
    simulation.deliverAll()
    #expect(simulation.fetched.filter { $0.chunk == 1 }.count == 1)
    let second = simulation.open(1)
    simulation.deliverAll()
    #expect(
      simulation.fetched.filter { $0.chunk == 1 }.count == 1, "an open says nothing of columns")
    #expect(simulation.read(second, size - 8..<size) == nil, "the footer is there")
    simulation.deliverAll()
    let requests = simulation.fetched.count
    for bytes in columns(in: layout) { simulation.readThrough(second, bytes) }
    #expect(simulation.fetched.count == requests)
    let ofSecond = simulation.fetched.filter { $0.chunk == 1 }.reduce(0) { $0 + $1.bytes.count }
    let used = columns(in: layout).reduce(0) { $0 + $1.count }
    #expect(Double(ofSecond) <= 1.3 * Double(used) + 131_072)
  }

  @Test(
    "The first column read of a query brings the next chunks' footers, in one small request each")
  func footersAhead() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 20, layout: layout)
    let handle = simulation.open(0)
    simulation.readThrough(handle, size - 8..<size)
    simulation.deliverAll()
    #expect(simulation.fetched.allSatisfy { $0.chunk == 0 }, "a look at one footer is no query")
    simulation.readThrough(handle, layout.bytes(ofColumn: Self.used[0], inRowGroup: 0))
    simulation.deliverAll()
    for chunk in 1...16 {
      let requests = simulation.fetched.filter { $0.chunk == chunk }
      #expect(requests.count == 1)
      #expect(requests.allSatisfy { $0.bytes.count <= 192 << 10 && $0.bytes.upperBound == size })
    }
    #expect(!simulation.fetched.contains { $0.chunk > 16 })
  }

  @Test("A query of one small chunk does not bring the others, whose first request is all of them")
  func smallChunks() throws {
    let layout = try layout(rowGroups: 1, columnSizes: Self.columnSizes.map { $0 / 8 })
    let size = layout.footerOffset + 3000
    #expect(size <= PartSizing.smallChunkInBytes)
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 20, layout: layout)
    let handle = simulation.open(0)
    simulation.readThrough(handle, size - 8..<size)
    simulation.readThrough(handle, layout.bytes(ofColumn: Self.used[0], inRowGroup: 0))
    simulation.deliverAll()
    #expect(simulation.bytesFetched <= size)
  }

  @Test("Queries of chunks far apart leave no more chunks loaded than one of them expects")
  func queriesFarApart() throws {
    let layout = try layout()
    var simulation = PlannerSimulation(
      sizeInBytes: layout.footerOffset + 3000, chunkCount: 200, layout: layout)
    for chunk in stride(from: 0, to: 200, by: 40) {
      let handle = query(chunk, of: &simulation, in: layout)
      simulation.deliverAll()
      simulation.close(handle)
    }
    let held = (0..<200).count { index in
      let chunk = ChunkID(index: index)
      return simulation.planner.isOpen(chunk) && !simulation.planner.isIdle(chunk)
    }
    #expect(held == 16)
  }

  @Test(
    "Who reads what lies between two columns now and then gets that, and not what the next row group begins with"
  )
  func between() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, layout: layout)
    let handle = simulation.open()
    simulation.readThrough(handle, size - 8..<size)
    var wanted = columns(in: layout) + [size - (128 << 10)..<size]
    for rowGroup in 0..<Self.rowGroups - 1 {
      let columns = Self.used.map { layout.bytes(ofColumn: $0, inRowGroup: rowGroup) }
      if rowGroup % 3 != 2 {
        for bytes in columns { simulation.readThrough(handle, bytes) }
        continue
      }
      // In requests of 1 MiB, the last of which the kernel makes ahead.
      for start in stride(
        from: columns[0].lowerBound, to: columns[1].upperBound + mebibyte, by: mebibyte)
      {
        let request = start..<start + mebibyte
        wanted.append(request)
        simulation.readThrough(handle, request)
        simulation.deliverAll()
      }
    }
    let grid = BlockGrid(sizeInBytes: size)
    var blocks = BlockSet(blockCount: grid.blockCount)
    for bytes in wanted { blocks.insert(grid.blocks(covering: bytes)) }
    let strays = simulation.fetched.map(\.bytes).filter {
      !blocks.containsAll(grid.blocks(covering: $0))
    }
    #expect(strays.isEmpty)
    #expect(simulation.bytesFetchedTwice == 0)
  }

  @Test(
    "A query of the first column is no reader of everything, also where it opens the file again",
    arguments: [false, true], [false, true])
  func firstColumn(isOpenedAgain: Bool, isParallel: Bool) throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 4, layout: layout)
    // As the kernel asks: from the page on, by 1 MiB, and up to two requests past the column's end.
    let requests = (0..<Self.rowGroups).map { rowGroup in
      let column = layout.bytes(ofColumn: 1, inRowGroup: rowGroup)
      return stride(
        from: column.lowerBound / 4096 * 4096, to: column.upperBound + mebibyte, by: mebibyte
      ).map { $0..<min(size, $0 + mebibyte) }
    }
    for chunk in 0..<4 {
      var handle = simulation.open(chunk)
      // As the kernel cuts a read that is larger than its read-ahead.
      simulation.readThrough(handle, size - 131_072 - 1000..<size - 1000)
      simulation.readThrough(handle, size - 1000..<size)
      if isOpenedAgain {
        simulation.close(handle)
        handle = simulation.open(chunk)
      }
      if isParallel {
        // The first of them with what the row group before ends with in its page.
        for rowGroup in [1, 0] + Array(2..<Self.rowGroups) {
          simulation.readThrough(handle, requests[rowGroup][0])
        }
      }
      for rowGroup in requests {
        for request in rowGroup.dropFirst(isParallel ? 1 : 0) {
          simulation.readThrough(handle, request)
        }
        simulation.deliverAll()
      }
      simulation.close(handle)
    }
    let asked = 4 * requests.joined().reduce(0) { $0 + $1.count }
    // The first row group's reader might go on.
    #expect(Double(simulation.bytesFetched) / Double(asked) <= 1.05)
    #expect(simulation.bytesFetchedTwice == 0)
  }

  @Test("Chunks with very many columns have their places kept until that takes 4 MiB of memory")
  func manyColumns() throws {
    // Of 16 bytes each: 8 chunks' are 4 MiB.
    let layout = try layout(
      rowGroups: 512, columnSizes: [200_000] + Array(repeating: 1, count: 63))
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 40, layout: layout)
    let column = layout.bytes(ofColumn: 0, inRowGroup: 250)
    // What has been unloaded takes none; of the chunks that follow, the footers have been looked at
    // in vain.
    for chunks in [0..<10, 30..<32] {
      var whole = 0
      for chunk in chunks {
        let handle = simulation.open(chunk)
        simulation.readThrough(handle, size - 8..<size)
        let before = simulation.bytesFetched
        simulation.readThrough(handle, column.lowerBound..<column.lowerBound + 4096)
        simulation.deliverAll()
        if simulation.bytesFetched - before >= column.count { whole += 1 }
        simulation.close(handle)
      }
      #expect(whole == min(8, chunks.count))
      for chunk in chunks { simulation.unload(chunk) }
    }
  }

  @Test("Who reads on from the middle of a chunk, whose footer another looked at, is no query")
  func fromTheMiddle() throws {
    // What is large looks used, what is small does not.
    let layout = try layout(columnSizes: [4_000_000] + Array(repeating: 300_000, count: 20))
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, layout: layout)
    simulation.readThrough(simulation.open(), size - 8..<size)
    let handle = simulation.open()
    let grid = BlockGrid(sizeInBytes: size)
    for position in stride(from: 20 * mebibyte, to: 60 * mebibyte, by: mebibyte) {
      var there = BlockSet(blockCount: grid.blockCount)
      for (_, bytes) in simulation.fetched { there.insert(grid.blocks(covering: bytes)) }
      let request = position..<position + mebibyte
      // The first two, as of any reader that begins elsewhere than at the first byte.
      #expect(position < 22 * mebibyte || there.containsAll(grid.blocks(covering: request)))
      simulation.readThrough(handle, request)
      simulation.deliverAll()
    }
    #expect(simulation.bytesFetchedTwice == 0)
  }

  @Test(
    "Who comes to the end from the middle has not read the footer: the next one reads everything")
  func toTheEnd() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 2, layout: layout)
    let tail = simulation.open()
    for position in stride(from: size - 10 * mebibyte, to: size, by: mebibyte) {
      simulation.readThrough(tail, position..<position + mebibyte)
    }
    let reader = simulation.open()
    simulation.readThrough(reader, 0..<mebibyte)
    simulation.deliverAll()
    let grid = BlockGrid(sizeInBytes: size)
    var there = BlockSet(blockCount: grid.blockCount)
    for (_, bytes) in simulation.fetched { there.insert(grid.blocks(covering: bytes)) }
    #expect(there.containsAll(grid.blocks(covering: 0..<16 * mebibyte)))
  }

  @Test("A reader of everything is served by its window alone")
  func everything() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, layout: layout)
    let handle = simulation.open()
    for start in stride(from: 0, to: size, by: mebibyte) {
      simulation.readThrough(handle, start..<min(size, start + mebibyte))
    }
    #expect(simulation.bytesFetched == size)
    #expect(simulation.bytesFetchedTwice == 0)
  }
}
