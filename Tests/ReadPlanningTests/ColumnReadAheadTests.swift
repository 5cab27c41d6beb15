import ReadPlanning
import TestSupport
import Testing

@Suite("Read-ahead by column")
struct ColumnReadAheadTests {
  /// 6 row groups of 11 columns of 100 KB to 2.1 MB, at offsets that are no multiple of a page.
  private static let sizes = [
    100_001, 2_000_003, 300_007, 500_009, 150_001, 700_001, 900_007, 200_003, 800_011, 1_000_003,
    120_011,
  ]
  private let layout = Self.makeLayout(rowGroups: 6, sizes: Self.sizes)
  private var readAhead = ColumnReadAhead()

  private static func makeLayout(rowGroups: Int, sizes: [Int]) -> ParquetLayout? {
    var offset = 4
    let groups = (0..<rowGroups).map { _ in
      sizes.map { size in
        defer { offset += size }
        return ThriftWriter.column(data: offset, size: size)
      }
    }
    let tail = ThriftWriter.tail(ThriftWriter.footer(groups).bytes)
    guard
      case .layout(let layout) = ParquetLayout.decode(
        tail: tail, fileSizeInBytes: offset + tail.count)
    else { return nil }
    return layout
  }

  private func fileSize(_ layout: ParquetLayout) -> Int { layout.footerOffset + 3000 }

  /// A reader that has read the footer, as every Parquet reader does first.
  private mutating func open(_ layout: ParquetLayout) -> ColumnReader {
    var reader = readAhead.makeReader(fileSizeInBytes: fileSize(layout))
    let trailer = fileSize(layout) - 8..<fileSize(layout)
    #expect(readAhead.noteRead(trailer, by: &reader, in: nil).isEmpty)
    #expect(
      readAhead.noteRead(layout.footerOffset..<fileSize(layout), by: &reader, in: layout).isEmpty)
    return reader
  }

  /// Reads all of a column through the kernel, in small reads.
  private mutating func scan(
    _ column: Int, _ rowGroup: Int, _ reader: inout ColumnReader, _ kernel: inout KernelPages,
    in layout: ParquetLayout
  ) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    let bytes = layout.bytes(ofColumn: column, inRowGroup: rowGroup)
    for start in stride(from: bytes.lowerBound, to: bytes.upperBound, by: 10_000) {
      for request in kernel.requests(for: start..<min(start + 10_000, bytes.upperBound)) {
        ranges += readAhead.noteRead(request, by: &reader, in: layout)
      }
    }
    return ranges
  }

  @Test("Two columns of each row group, read directly, cost one range each and no byte besides")
  mutating func twoColumnsDirectly() throws {
    let layout = try #require(layout)
    var reader = open(layout)
    var ranges: [Range<Int>] = []
    var wanted: [Range<Int>] = []
    for rowGroup in 0..<layout.rowGroupCount {
      for column in [5, 8] {
        let bytes = layout.bytes(ofColumn: column, inRowGroup: rowGroup)
        for start in stride(from: bytes.lowerBound, to: bytes.upperBound, by: 10_000) {
          let read = start..<min(start + 10_000, bytes.upperBound)
          ranges += readAhead.noteRead(read, by: &reader, in: layout)
        }
        wanted.append(bytes)
        #expect(ranges.contains { $0.contains(bytes) })
      }
    }
    #expect(ranges.sorted { $0.lowerBound < $1.lowerBound } == wanted)
  }

  @Test("Two columns of each row group, read through the kernel, cost one range each")
  mutating func twoColumns() throws {
    let layout = try #require(layout)
    var reader = open(layout)
    var kernel = KernelPages(fileSizeInBytes: fileSize(layout))
    var ranges: [Range<Int>] = []
    var wanted: [Range<Int>] = []
    for rowGroup in 0..<layout.rowGroupCount {
      for column in [5, 9] {
        ranges += scan(column, rowGroup, &reader, &kernel, in: layout)
        wanted.append(layout.bytes(ofColumn: column, inRowGroup: rowGroup))
        #expect(ranges.contains { $0.contains(wanted[wanted.count - 1]) })
      }
    }
    #expect(ranges.sorted { $0.lowerBound < $1.lowerBound } == wanted)
  }

  @Test(
    "size and storage_class of a real file cost at most 1.3 × their bytes, few ranges, and all of them",
    arguments: [ParquetFooter.pyarrowThreeRowGroups, .duckdbThreeRowGroups])
  mutating func realFile(footer: ParquetFooter) throws {
    let decoding = ParquetLayout.decode(tail: footer.tail, fileSizeInBytes: footer.fileSizeInBytes)
    guard case .layout(let layout) = decoding else {
      Issue.record("no layout")
      return
    }
    var reader = readAhead.makeReader(fileSizeInBytes: footer.fileSizeInBytes)
    var kernel = KernelPages(fileSizeInBytes: footer.fileSizeInBytes)
    for request in kernel.requests(for: layout.footerOffset..<footer.fileSizeInBytes) {
      #expect(readAhead.noteRead(request, by: &reader, in: nil).isEmpty)
    }
    var ranges: [Range<Int>] = []
    var wantedBytes = 0
    for rowGroup in 0..<3 {
      for column in [4, 7] {
        let bytes = layout.bytes(ofColumn: column, inRowGroup: rowGroup)
        ranges += scan(column, rowGroup, &reader, &kernel, in: layout)
        wantedBytes += bytes.count
        #expect(ranges.contains { $0.contains(bytes) })
      }
    }
    #expect(ranges.count <= 6, "\(ranges)")
    #expect(ranges.reduce(0) { $0 + $1.count } * 10 <= wantedBytes * 13)
  }

  @Test("The first read names the column, then the same one of the row groups that follow")
  mutating func order() throws {
    let layout = try #require(layout)
    var reader = open(layout)
    let first = layout.bytes(ofColumn: 5, inRowGroup: 2)
    let page = first.lowerBound / 4096 * 4096
    // The page alone could be the end of column 4.
    #expect(readAhead.noteRead(page..<page + 4096, by: &reader, in: layout).isEmpty)
    let ranges = readAhead.noteRead(page + 4096..<page + 20_480, by: &reader, in: layout)
    #expect(
      ranges == [
        first, layout.bytes(ofColumn: 5, inRowGroup: 3), layout.bytes(ofColumn: 5, inRowGroup: 4),
      ], "what a reader leaves unread when it stops here is bounded by twice the column")
    let other = layout.bytes(ofColumn: 8, inRowGroup: 2)
    let otherPage = other.lowerBound / 4096 * 4096
    let more = readAhead.noteRead(otherPage..<otherPage + 131_072, by: &reader, in: layout)
    #expect(more.first == other)
    #expect(more.dropFirst().allSatisfy { $0.lowerBound > other.upperBound })
    #expect(readAhead.noteRead(otherPage..<otherPage + 131_072, by: &reader, in: layout).isEmpty)
  }

  @Test("A second chunk's first read brings the columns that the first chunk's reader used")
  mutating func nextChunk() throws {
    let layout = try #require(layout)
    for rowGroups in [1, 6] {
      readAhead = ColumnReadAhead()
      let chunk = try #require(Self.makeLayout(rowGroups: rowGroups, sizes: Self.sizes))
      var reader = open(chunk)
      var kernel = KernelPages(fileSizeInBytes: fileSize(chunk))
      for rowGroup in 0..<rowGroups {
        for column in [8, 2] { _ = scan(column, rowGroup, &reader, &kernel, in: chunk) }
      }
      #expect(
        readAhead.predictedRanges(in: layout, budgetInBytes: 1_500_000) == [
          layout.bytes(ofColumn: 2, inRowGroup: 0), layout.bytes(ofColumn: 8, inRowGroup: 0),
          layout.bytes(ofColumn: 2, inRowGroup: 1),
          prefix(layout.bytes(ofColumn: 8, inRowGroup: 1), 1_500_000 - 2 * 300_007 - 800_011),
        ])
      readAhead.noteClosed(reader)

      var next = open(layout)
      let first = layout.bytes(ofColumn: 8, inRowGroup: 0)
      let page = first.lowerBound / 4096 * 4096
      let ranges = readAhead.noteRead(page..<page + 4096, by: &next, in: layout)
      #expect(ranges.first == first)
      #expect(ranges.contains(layout.bytes(ofColumn: 2, inRowGroup: 0)))
    }
  }

  @Test(
    "All that lies between two columns, read now and then, is not taken for what the reader uses")
  mutating func nowAndThen() throws {
    let sizes = [100_001, 848_003, 2_500_003, 3_000_007, 25_601, 500_009, 700_001, 900_001]
    let layout = try #require(Self.makeLayout(rowGroups: 6, sizes: sizes))
    var reader = open(layout)
    var kernel = KernelPages(fileSizeInBytes: fileSize(layout))
    var ranges: [Range<Int>] = []
    for rowGroup in 0..<6 {
      let wanted = [1, 4].map { layout.bytes(ofColumn: $0, inRowGroup: rowGroup) }
      if rowGroup == 2 || rowGroup == 4 {
        // A request has at most a mebibyte.
        let all = wanted[0].lowerBound..<wanted[1].upperBound
        for start in stride(from: all.lowerBound / 4096 * 4096, to: all.upperBound, by: 1 << 20) {
          let request = start..<min(start + 1 << 20, all.upperBound)
          ranges += readAhead.noteRead(request, by: &reader, in: layout)
        }
      } else {
        for column in [1, 4] { ranges += scan(column, rowGroup, &reader, &kernel, in: layout) }
      }
    }
    readAhead.noteClosed(reader)
    let used = (0..<6).flatMap { rowGroup in
      [1, 4].map { layout.bytes(ofColumn: $0, inRowGroup: rowGroup) }
    }
    #expect(readAhead.predictedRanges(in: layout, budgetInBytes: .max) == used)
    // The columns between are fetched where they were read, and nowhere else.
    for rowGroup in [0, 1, 3, 5] {
      for column in [2, 3] {
        let bytes = layout.bytes(ofColumn: column, inRowGroup: rowGroup)
        #expect(!ranges.contains { $0.contains(bytes.lowerBound + 100_000) })
      }
    }
  }

  @Test("A reader of other columns is known by its own, and so is the one after it")
  mutating func anotherQuery() throws {
    let layout = try #require(Self.makeLayout(rowGroups: 1, sizes: Self.sizes))
    let queries: [(columns: [Int], fetched: [Int])] = [
      ([5, 9], [5, 9]), ([5, 9], [5, 9]), ([2], [2]), ([2], [2]), ([5], [5, 9]), ([5], [5]),
    ]
    for query in queries {
      var reader = open(layout)
      var kernel = KernelPages(fileSizeInBytes: fileSize(layout))
      var ranges: [Range<Int>] = []
      for column in query.columns { ranges += scan(column, 0, &reader, &kernel, in: layout) }
      readAhead.noteClosed(reader)
      #expect(
        ranges.map(\.lowerBound).sorted()
          == query.fetched.map { layout.bytes(ofColumn: $0, inRowGroup: 0).lowerBound })
    }
    // Another schema has nothing to do with it.
    let other = try #require(Self.makeLayout(rowGroups: 1, sizes: Self.sizes + [70_000]))
    #expect(readAhead.predictedRanges(in: other, budgetInBytes: .max).isEmpty)
    #expect(!readAhead.predictedRanges(in: layout, budgetInBytes: .max).isEmpty)
  }

  @Test(
    "A reader of the whole file gets nothing, with the requests of a pair in either order",
    arguments: [4096, 131_072, 1 << 20])
  mutating func wholeFile(requestInBytes: Int) throws {
    let layout = try #require(layout)
    // Known columns do not change that.
    var query = open(layout)
    var kernel = KernelPages(fileSizeInBytes: fileSize(layout))
    for column in [5, 8] { _ = scan(column, 0, &query, &kernel, in: layout) }
    readAhead.noteClosed(query)
    for swapped in [false, true] {
      var reader = readAhead.makeReader(fileSizeInBytes: fileSize(layout))
      var starts = Array(stride(from: 0, to: fileSize(layout), by: requestInBytes))
      if swapped {
        for index in stride(from: 1, to: starts.count - 1, by: 2) {
          starts.swapAt(index, index + 1)
        }
      }
      for start in starts {
        let read = start..<min(start + requestInBytes, fileSize(layout))
        #expect(readAhead.noteRead(read, by: &reader, in: layout).isEmpty)
      }
      readAhead.noteClosed(reader)
    }
    #expect(!readAhead.predictedRanges(in: layout, budgetInBytes: .max).isEmpty)
  }

  @Test("A reader of all columns gets nothing once it has shown to be one")
  mutating func allColumns() throws {
    let layout = try #require(layout)
    var reader = open(layout)
    var kernel = KernelPages(fileSizeInBytes: fileSize(layout))
    // From the last to the first, so that no read continues another.
    for column in (0..<11).reversed() { _ = scan(column, 0, &reader, &kernel, in: layout) }
    for column in (0..<11).reversed() {
      #expect(scan(column, 5, &reader, &kernel, in: layout).isEmpty)
    }
    readAhead.noteClosed(reader)
    #expect(readAhead.predictedRanges(in: layout, budgetInBytes: .max).isEmpty)
    // The next reader is known by its own columns.
    var narrow = open(layout)
    var pages = KernelPages(fileSizeInBytes: fileSize(layout))
    let own = (0..<6).map { layout.bytes(ofColumn: 2, inRowGroup: $0) }
    let ranges = scan(2, 0, &narrow, &pages, in: layout)
    #expect(ranges.first == own[0] && ranges.allSatisfy(own.contains))
  }

  @Test("Two columns with a small gap between are one range")
  mutating func gaps() throws {
    for (gap, count) in [(65_536, 1), (65_537, 2)] {
      readAhead = ColumnReadAhead()
      let sizes = [90_001, 500_000, gap, 400_000, 90_001]
      let layout = try #require(Self.makeLayout(rowGroups: 2, sizes: sizes))
      var reader = open(layout)
      for column in [1, 3] {
        // Reads that begin where the reader wants, as with direct I/O.
        let start = layout.bytes(ofColumn: column, inRowGroup: 0).lowerBound
        _ = readAhead.noteRead(start..<start + 5000, by: &reader, in: layout)
      }
      readAhead.noteClosed(reader)
      let one = try #require(Self.makeLayout(rowGroups: 1, sizes: sizes))
      let ranges = readAhead.predictedRanges(in: one, budgetInBytes: .max)
      #expect(ranges.count == count)
      #expect(ranges.reduce(0) { $0 + $1.count } == 900_000 + (count == 1 ? gap : 0))
    }
  }

  @Test("The look-ahead stays within its budget, and begins a column larger than it")
  mutating func budget() throws {
    readAhead = ColumnReadAhead(budgetInBytes: 1_000_000)
    let sizes = [70_001, 3_000_000, 70_001, 600_000, 80_000, 80_000]
    let layout = try #require(Self.makeLayout(rowGroups: 4, sizes: sizes))
    for (column, ahead) in [(1, 1_000_000), (3, 600_000)] {
      var reader = open(layout)
      let own = layout.bytes(ofColumn: column, inRowGroup: 0)
      let ranges = readAhead.noteRead(
        own.lowerBound..<own.lowerBound + 5000, by: &reader, in: layout)
      #expect(ranges.first == own)
      #expect(ranges.dropFirst().reduce(0) { $0 + $1.count } == ahead)
      let next = layout.bytes(ofColumn: column, inRowGroup: 1)
      let more = readAhead.noteRead(
        next.lowerBound..<next.lowerBound + 5000, by: &reader, in: layout)
      #expect(more.contains(next) == (column == 1), "the rest of what was only begun")
    }
  }

  @Test("Footer, page index and empty reads say nothing")
  mutating func outsideColumns() throws {
    let layout = try #require(layout)
    var reader = open(layout)
    let end = fileSize(layout)
    for read in [
      end - 3000..<end - 2000, end - 8..<end, end - 65_536..<end, 500..<500, end..<end + 100,
      Int.max - 1..<Int.max,
    ] {
      #expect(readAhead.noteRead(read, by: &reader, in: layout).isEmpty)
    }
    // The page in which the last column ends and a long footer begins.
    let page = layout.footerOffset / 4096 * 4096
    var other = readAhead.makeReader(fileSizeInBytes: end + 100_000)
    for read in [end + 99_992..<end + 100_000, page..<page + 4096, page + 4096..<page + 20_480] {
      #expect(readAhead.noteRead(read, by: &other, in: layout).isEmpty)
    }
  }

  @Test("What the kernel reads ahead past a column is not taken for another", arguments: 0..<11)
  mutating func kernelReadAhead(column: Int) throws {
    let layout = try #require(layout)
    var reader = open(layout)
    var kernel = KernelPages(fileSizeInBytes: fileSize(layout))
    var ranges: [Range<Int>] = []
    for rowGroup in 0..<3 { ranges += scan(column, rowGroup, &reader, &kernel, in: layout) }
    let own = (0..<6).map { layout.bytes(ofColumn: column, inRowGroup: $0) }
    #expect(ranges.contains(own[0]))
    #expect(ranges.allSatisfy(own.contains))
  }

  @Test(
    "Any reads, of any layout: ranges lie in the file and are disjoint",
    arguments: [1, 2, 3, 4] as [UInt64])
  mutating func random(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<40 {
      let sizes = (0..<Int.random(in: 1...20, using: &generator)).map { _ in
        Int.random(in: 0...(Bool.random(using: &generator) ? 3000 : 3_000_000), using: &generator)
      }
      let groups = Int.random(in: 0...5, using: &generator)
      let layout = try #require(Self.makeLayout(rowGroups: groups, sizes: sizes))
      var reader = readAhead.makeReader(fileSizeInBytes: fileSize(layout))
      for _ in 0..<100 {
        var start = Int.random(in: 0...fileSize(layout), using: &generator)
        if Bool.random(using: &generator) { start = start / 4096 * 4096 }
        let read = start..<start + Int.random(in: 0...(1 << 20), using: &generator)
        let known = Int.random(in: 0..<10, using: &generator) > 0
        let ranges = readAhead.noteRead(read, by: &reader, in: known ? layout : nil)
        let sorted = ranges.sorted { $0.lowerBound < $1.lowerBound }
        #expect(ranges.allSatisfy { !$0.isEmpty && $0.upperBound <= layout.footerOffset })
        #expect(zip(sorted, sorted.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
      }
      readAhead.noteClosed(reader)
    }
  }

  private func prefix(_ range: Range<Int>, _ count: Int) -> Range<Int> {
    range.lowerBound..<range.lowerBound + min(count, range.count)
  }
}

extension Range<Int> {
  fileprivate func contains(_ other: Range<Int>) -> Bool {
    lowerBound <= other.lowerBound && upperBound >= other.upperBound
  }
}
