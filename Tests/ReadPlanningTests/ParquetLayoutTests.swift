import FoundationEssentials
import ReadPlanning
import TestSupport
import Testing

@Suite("Parquet footers")
struct ParquetLayoutTests {
  private typealias Column = ThriftWriter

  @Test("The columns lie where the library that wrote the file says", arguments: ParquetFooter.all)
  func realFooters(footer: ParquetFooter) throws {
    let layout = try #require(decoded(footer.tail, footer.fileSizeInBytes))
    #expect(layout.columnCount == 9)
    #expect(layout.rowGroupCount == (footer.columnOffsets.count - 1) / 9)
    let expected = zip(footer.columnOffsets, footer.columnOffsets.dropFirst()).map { $0..<$1 }
    #expect(allBytes(of: layout) == expected)
    #expect(layout.footerOffset == footer.fileSizeInBytes - footer.tail.count)
    for (number, bytes) in expected.enumerated() {
      for offset in [bytes.lowerBound, bytes.upperBound - 1] {
        let found = try #require(layout.columnChunk(at: offset))
        #expect(found == (number / 9, number % 9))
      }
    }
    #expect(layout.columnChunk(at: 3) == nil)
    #expect(layout.columnChunk(at: expected[expected.count - 1].upperBound) == nil)
    #expect(layout.columnChunk(at: footer.fileSizeInBytes) == nil)
    #expect(layout.bytes(ofColumn: 9, inRowGroup: 0).isEmpty)
  }

  @Test("A tail that is too short says how long it must be", arguments: ParquetFooter.all)
  func shortTails(footer: ParquetFooter) {
    let tail = footer.tail
    for length in 0..<tail.count {
      let asked = length < 8 ? 8 : tail.count
      #expect(
        ParquetLayout.decode(
          tail: Array(tail.suffix(length)), fileSizeInBytes: footer.fileSizeInBytes)
          == .needsMoreBytes(tailSizeInBytes: asked))
    }
    let longer = [UInt8](repeating: 7, count: 1000) + tail
    #expect(
      decoded(longer, footer.fileSizeInBytes) == decoded(tail, footer.fileSizeInBytes))
  }

  @Test("A footer cut short anywhere is not Parquet", arguments: ParquetFooter.all)
  func truncated(footer: ParquetFooter) {
    let thrift = footer.tail.dropLast(8)
    for length in 0..<thrift.count {
      #expect(
        ParquetLayout.decode(
          tail: ThriftWriter.tail(Array(thrift.prefix(length))),
          fileSizeInBytes: footer.fileSizeInBytes) == .notParquet)
    }
  }

  @Test(
    "Damaged bytes never trap, and what is decoded lies inside the file",
    arguments: ParquetFooter.all, [1, 2, 3] as [UInt64])
  func mutated(footer: ParquetFooter, seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let original = footer.tail
    for index in original.indices {
      var tail = original
      tail[index] = UInt8.random(in: 0...255, using: &generator)
      if seed == 3 {
        for _ in 0..<8 {
          let other = Int.random(in: 0..<tail.count, using: &generator)
          tail[other] = UInt8.random(in: 0...255, using: &generator)
        }
      }
      guard let layout = decoded(tail, footer.fileSizeInBytes) else { continue }
      let isInside = allBytes(of: layout).allSatisfy {
        $0.isEmpty || $0.lowerBound >= 4 && $0.upperBound <= layout.footerOffset
      }
      #expect(isInside, "seed \(seed), byte \(index)")
    }
  }

  @Test("The sample inventory's chunks have layouts")
  func sample() throws {
    let repository = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let folder = repository.appending(
      path: "mount-examples/sample/inventory-bucket/inv/src-bucket/parquet-daily/data")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path())
      .filter { $0.hasSuffix(".parquet") }
    #expect(!names.isEmpty)
    for name in names {
      let bytes = try [UInt8](Data(contentsOf: folder.appending(path: name)))
      let layout = try #require(decoded(bytes, bytes.count))
      #expect(layout.columnCount > 5)
      #expect(layout.rowGroupCount >= 1)
      #expect(allBytes(of: layout).reduce(0) { $0 + $1.count } > bytes.count / 2)
    }
  }

  @Test("A column starts at its dictionary where the offset given is possible")
  func dictionaries() throws {
    let layout = try #require(
      decoded([
        [
          Column.column(data: 100, size: 50, dictionary: 90),
          Column.column(data: 140, size: 10, dictionary: 0),
          Column.column(data: 150, size: 10, dictionary: 155),
          Column.column(data: 160, size: 10, isElsewhere: true),
        ]
      ]))
    #expect(allBytes(of: layout) == [90..<140, 140..<150, 150..<160, 160..<160])
  }

  @Test("Columns out of order are found by offset")
  func outOfOrder() throws {
    let layout = try #require(
      decoded([
        [Column.column(data: 500, size: 100), Column.column(data: 100, size: 100)],
        [Column.column(data: 300, size: 0), Column.column(data: 200, size: 50)],
      ]))
    #expect(layout.columnChunk(at: 550).map { [$0.rowGroup, $0.column] } == [0, 0])
    #expect(layout.columnChunk(at: 199).map { [$0.rowGroup, $0.column] } == [0, 1])
    #expect(layout.columnChunk(at: 200).map { [$0.rowGroup, $0.column] } == [1, 1])
    #expect(layout.columnChunk(at: 300) == nil)
    #expect(layout.columnChunk(at: 50) == nil)
  }

  @Test(
    "Columns that cannot be are refused",
    arguments: [
      [(Int?.some(0), Int?.some(10))], [(-5, 10)], [(100, -1)], [(100, 901)], [(1001, 0)],
      [(Int.max, 10)], [(100, Int.max)], [(.min, .min)], [(nil, 10)], [(100, nil)],
      [(100, 50), (120, 50)],
    ])
  func impossibleColumns(columns: [(data: Int?, size: Int?)]) {
    #expect(decoded([[Column.column(data: 100, size: 900)]]) != nil)
    #expect(decoded([columns.map { Column.column(data: $0.data, size: $0.size) }]) == nil)
  }

  @Test("Row groups with different columns are refused, a file without rows is not")
  func rowGroups() throws {
    let one = Column.column(data: 100, size: 0)
    #expect(decoded([[one], [one, one]]) == nil)
    #expect(decoded([[]]) == nil)
    #expect(try #require(decoded([])).rowGroupCount == 0)
    #expect(decoded(ThriftWriter.tail([0]), 5000) == nil)
  }

  @Test("Encrypted footers, other files and impossible lengths are not Parquet")
  func trailers() {
    let footer = ThriftWriter.footer([[Column.column(data: 10, size: 10)]]).bytes
    func decode(_ tail: [UInt8], _ size: Int = 2000) -> ParquetLayout.Decoding {
      ParquetLayout.decode(tail: tail, fileSizeInBytes: size)
    }
    #expect(decode(ThriftWriter.tail(footer, magic: "PARE")) == .notParquet)
    #expect(decode(ThriftWriter.tail(footer, magic: "ORC ")) == .notParquet)
    #expect(decode(ThriftWriter.tail(footer, length: 0)) == .notParquet)
    #expect(decode(ThriftWriter.tail(footer, length: 1989)) == .notParquet)
    #expect(
      decode(ThriftWriter.tail(footer, length: 1988)) == .needsMoreBytes(tailSizeInBytes: 1996))
    #expect(decode(ThriftWriter.tail(footer, length: 0xFFFF_FFFF), 1 << 40) == .notParquet)
    #expect(decode(ThriftWriter.tail(footer, length: 16 << 20 + 1), 1 << 40) == .notParquet)
    #expect(decode(ThriftWriter.tail(footer), 11) == .notParquet)
    #expect(decode([], 0) == .notParquet)
    #expect(decode(Array("PAR1".utf8), 4) == .notParquet)
  }

  @Test("Nesting and counts without end are refused")
  func hostile() {
    // Field 3 is passed over by the decoder, so whatever is in it is walked.
    for (open, close) in [([0x3C], []), ([0x39, 0x1C], []), ([0x3B, 1, 0xCC], [])]
      as [([UInt8], [UInt8])]
    {
      let deep = Array([Array](repeating: open, count: 500_000).joined()) + close
      #expect(decoded(ThriftWriter.tail(deep), 1 << 30) == nil)
    }
    // Lists that claim more elements than there are bytes.
    var list = ThriftWriter()
    list.raw([0x49, 0xFC])
    list.varint(.max)
    #expect(decoded(ThriftWriter.tail(list.bytes), 1 << 30) == nil)
    // An integer that does not end.
    let endless = [0x16] + [UInt8](repeating: 0xFF, count: 11)
    #expect(decoded(ThriftWriter.tail(endless), 1 << 30) == nil)
    // More column chunks than the limit, in as few bytes as can be.
    var many = ThriftWriter()
    many.raw([0x49, 0x1C, 0x19, 0xFC])
    many.varint(UInt64(ParquetLayout.mostColumnChunks + 1))
    many.raw(Array(repeating: 0, count: ParquetLayout.mostColumnChunks + 1) + [0, 0])
    #expect(decoded(ThriftWriter.tail(many.bytes), 1 << 30) == nil)
  }

  private func decoded(_ rowGroups: [[ThriftWriter]]) -> ParquetLayout? {
    let tail = ThriftWriter.tail(ThriftWriter.footer(rowGroups).bytes)
    return decoded(tail, 1000 + tail.count)
  }

  private func decoded(_ tail: [UInt8], _ fileSizeInBytes: Int) -> ParquetLayout? {
    guard
      case .layout(let layout) = ParquetLayout.decode(tail: tail, fileSizeInBytes: fileSizeInBytes)
    else { return nil }
    return layout
  }

  private func allBytes(of layout: ParquetLayout) -> [Range<Int>] {
    (0..<layout.rowGroupCount).flatMap { rowGroup in
      (0..<layout.columnCount).map { layout.bytes(ofColumn: $0, inRowGroup: rowGroup) }
    }
  }
}
