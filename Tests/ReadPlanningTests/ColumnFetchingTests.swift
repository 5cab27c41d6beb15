import ReadPlanning
import Testing

private let mebibyte = 1 << 20

@Suite("Columns of Parquet chunks")
struct ColumnFetchingTests {
  /// Nine row groups of eleven columns as an inventory has them: 850 KB of `size`, 26 KB of `storage_class`, and much
  /// of others between.
  private static let columnSizes = [
    350, 3_897_609, 3_270_969, 11_291, 8_476, 848_679, 899_421, 3_266_812, 25_606, 12_760, 306,
  ]
  private static let used = [5, 8]
  private static let rowGroups = 9

  private func layout() throws -> ParquetLayout {
    var offset = 4
    let groups = (0..<Self.rowGroups).map { _ in
      Self.columnSizes.map { size in
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

  @Test("A second chunk's columns are fetched as soon as its footer is known")
  func nextChunk() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 2, layout: layout)
    let columns = (0..<Self.rowGroups).flatMap { rowGroup in
      Self.used.map { layout.bytes(ofColumn: $0, inRowGroup: rowGroup) }
    }
    let first = simulation.open(0)
    simulation.readThrough(first, size - 8..<size)
    for bytes in columns { simulation.readThrough(first, bytes) }
    simulation.close(first)
    simulation.deliverAll()
    let second = simulation.open(1)
    simulation.readThrough(second, size - 8..<size)
    simulation.deliverAll()
    let requests = simulation.fetched.count
    for bytes in columns { simulation.readThrough(second, bytes) }
    #expect(simulation.fetched.count == requests, "every column is there before it is read")
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

  @Test("A chunk whose footer came ahead has its columns fetched when it is opened")
  func columnsOnOpen() throws {
    let layout = try layout()
    let size = layout.footerOffset + 3000
    var simulation = PlannerSimulation(sizeInBytes: size, chunkCount: 2, layout: layout)
    let columns = (0..<Self.rowGroups).flatMap { rowGroup in
      Self.used.map { layout.bytes(ofColumn: $0, inRowGroup: rowGroup) }
    }
    let first = simulation.open(0)
    simulation.readThrough(first, size - 8..<size)
    for bytes in columns { simulation.readThrough(first, bytes) }
    simulation.deliverAll()
    #expect(simulation.fetched.filter { $0.chunk == 1 }.count == 1)
    let second = simulation.open(1)
    simulation.deliverAll()
    let requests = simulation.fetched.count
    simulation.readThrough(second, size - 8..<size)
    for bytes in columns { simulation.readThrough(second, bytes) }
    #expect(simulation.fetched.count == requests)
    let ofSecond = simulation.fetched.filter { $0.chunk == 1 }.reduce(0) { $0 + $1.bytes.count }
    let used = columns.reduce(0) { $0 + $1.count }
    #expect(Double(ofSecond) <= 1.3 * Double(used) + 131_072)
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
