import Blocks

/// What to fetch for readers of Parquet chunks: the columns they read, whole, and the same columns
/// further on.
///
/// A query reads the same few columns of every row group of every chunk. One read inside a column
/// says that the rest of it will be read (a), that the columns read with it in earlier row groups
/// or chunks will be (b), and that the next row groups will see the same (c). So a round trip is
/// paid once for each chunk rather than once for each column.
///
/// The mount owns one `ColumnReadAhead`, which remembers the columns of the last few readers; each
/// open chunk has a `ColumnReader`. Both are values without a clock. The answers are what is worth
/// having: what is present or on its way is the caller's to subtract.
///
/// What it does not do: serve a reader of everything. Read-ahead in file order (`ReadAhead`) does
/// that better, so a stream of reads that begins at the file's first byte, and a reader that uses
/// nearly all columns, get no ranges.
package struct ColumnReadAhead: Sendable {
  /// Two wanted columns this close are fetched as one range, and what lies between with them.
  ///
  /// By time alone a gap of 2.7 MB would be worth a request's first byte (30 ms at 90 MB/s). But a
  /// query is promised to cost at most 1.3 × the bytes of its columns, so the gap stays within a
  /// block of the cache, which the rounding of the two ranges to blocks would fetch in most cases
  /// anyway.
  package static let cheapGapInBytes = 64 << 10

  /// A good window: a third of a second at the rate of a connection, a few row groups of a narrow
  /// query.
  package static let usualBudgetInBytes = 32 << 20

  /// How many sets of columns are remembered: several queries may run at once.
  private static let rememberedSets = 4

  /// No answer looks at more column chunks than this.
  private static let mostChunksAhead = 1024

  private struct Remembered: Sendable {
    let reader: UInt64
    let columns: BlockSet
  }

  package let budgetInBytes: Int
  /// Of readers that have shown all their columns, by finishing a row group or by being closed; the
  /// latest first. The number of columns in the schema, as the sets' size, tells layouts apart.
  private var settled: [Remembered] = []
  /// Of the reader that used a column last, where it has not shown all.
  private var latestColumns: BlockSet?
  private var lastReader: UInt64 = 0

  /// - Parameter budgetInBytes: how much is fetched ahead of what a reader has begun to read.
  package init(budgetInBytes: Int = Self.usualBudgetInBytes) {
    self.budgetInBytes = max(0, budgetInBytes)
  }

  /// A chunk was opened.
  ///
  /// - Parameter isFooterRead: by another reader of the file, before anything else.
  package mutating func makeReader(
    fileSizeInBytes: Int, isFooterRead: Bool = false
  ) -> ColumnReader {
    lastReader += 1
    return ColumnReader(
      id: lastReader, fileSizeInBytes: fileSizeInBytes, isFooterRead: isFooterRead)
  }

  /// Takes note of a read.
  ///
  /// - Parameters:
  ///   - bytes: what was read, as the kernel asks for it: in whole pages, with its own read-ahead.
  ///   - layout: nil as long as the footer has not been decoded. Reads before that count too: they
  ///     tell a Parquet reader, which begins with the footer, from `cat`.
  /// - Returns: the ranges worth fetching now, the most urgent first. Empty for most reads: only
  ///   the first into a column chunk has an answer.
  package mutating func noteRead(
    _ bytes: Range<Int>, by reader: inout ColumnReader, in layout: ParquetLayout?
  ) -> [Range<Int>] {
    let expected = layout.map { expectedColumns(of: reader, in: $0) }
    let entered = reader.note(bytes, in: layout, expecting: expected)
    guard let layout, let first = entered.first else { return [] }
    remember(reader)
    guard !reader.usesNearlyAllColumns else { return [] }
    let columns = expectedColumns(of: reader, in: layout)
    var wanted = entered.filter { reader.announce($0) }
    let rowGroup = first / layout.columnCount
    let partial = lookAhead(from: rowGroup, columns, for: &reader, in: layout, into: &wanted)
    var ranges = wanted.map(layout.bytes(ofChunk:))
    if let partial { ranges.append(partial) }
    return Self.coalesced(ranges, startingWith: layout.bytes(ofChunk: first))
  }

  /// A chunk was closed: what its reader used is what the next one is expected to use.
  package mutating func noteClosed(_ reader: ColumnReader) {
    if !reader.columns.isEmpty { settle(reader) }
  }

  /// What the next reader of a chunk is likely to read, in the order of its row groups: for a chunk
  /// whose footer has just become known, and that is expected to be read like the ones before.
  /// Empty where nothing is known, or nearly all columns are in use.
  ///
  /// - Parameter budgetInBytes: the sum of the columns' bytes is at most this; the last range is
  ///   cut.
  package func predictedRanges(in layout: ParquetLayout, budgetInBytes: Int) -> [Range<Int>] {
    let unsettled = latestColumns.flatMap { $0.blockCount == layout.columnCount ? $0 : nil }
    let shown = unsettled ?? BlockSet(blockCount: layout.columnCount)
    guard let columns = settledColumns(with: shown) ?? unsettled else { return [] }
    guard !ColumnReader.isNearlyAll(columns) else { return [] }
    var ranges: [Range<Int>] = []
    var rest = budgetInBytes
    var visited = 0
    for rowGroup in 0..<layout.rowGroupCount {
      for column in columns.presentRuns(in: 0..<layout.columnCount).joined() {
        let bytes = layout.bytes(ofColumn: column, inRowGroup: rowGroup)
        visited += 1
        guard rest > 0, visited <= Self.mostChunksAhead else { return Self.coalesced(ranges) }
        guard !bytes.isEmpty else { continue }
        ranges.append(bytes.prefix(rest))
        rest -= min(rest, bytes.count)
      }
    }
    return Self.coalesced(ranges)
  }

  /// Where the last column ends that the reader uses of the row group it is in: who reads what lies
  /// between columns goes no further. Nil for a reader of nearly everything, for one that has not
  /// shown its columns, by reading the footer and a row group, or its first columns as one before
  /// it, and where the place is not known.
  func endOfUse(
    of reader: ColumnReader, at bytes: Range<Int>, in layout: ParquetLayout
  ) -> Int? {
    guard reader.hasReadFooter, reader.columns.blockCount == layout.columnCount,
      let columns = reader.hasFinishedRowGroup
        ? reader.columns : settledColumns(with: reader.columns),
      !ColumnReader.isNearlyAll(columns)
    else { return nil }
    // The request may be one that the kernel makes ahead.
    let reached = max(0, bytes.lowerBound - ColumnReader.kernelReadAheadInBytes)
    guard
      let place = layout.columnChunk(at: reached) ?? layout.columnChunk(at: bytes.lowerBound)
    else { return nil }
    // What lies within a page with the beginning of another may look used without being so.
    return columns.presentRuns(in: 0..<layout.columnCount).joined()
      .map { layout.bytes(ofColumn: $0, inRowGroup: place.rowGroup) }
      .filter { $0.count >= ColumnReader.pageSizeInBytes }.map(\.upperBound).max()
  }

  // MARK: Which columns

  /// As long as a reader has used only columns that one of the last readers used too, it is
  /// expected to use all of that one's; its first other column, or second row group, makes it known
  /// by its own alone.
  private func expectedColumns(of reader: ColumnReader, in layout: ParquetLayout) -> BlockSet {
    if reader.hasFinishedRowGroup { return reader.columns }
    // Before a reader's first read in this layout its set has another size.
    let shown =
      reader.columns.blockCount == layout.columnCount
      ? reader.columns : BlockSet(blockCount: layout.columnCount)
    // After a reader of everything nothing is known of one that is not.
    guard let known = settledColumns(with: shown), !ColumnReader.isNearlyAll(known) else {
      return shown
    }
    return known
  }

  private func settledColumns(with columns: BlockSet) -> BlockSet? {
    settled.first {
      $0.columns.blockCount == columns.blockCount && columns.isSubset(of: $0.columns)
    }?.columns
  }

  private mutating func remember(_ reader: ColumnReader) {
    if reader.hasFinishedRowGroup {
      settle(reader)
    } else {
      latestColumns = reader.columns
    }
  }

  private mutating func settle(_ reader: ColumnReader) {
    latestColumns = nil
    settled.removeAll { $0.reader == reader.id || $0.columns == reader.columns }
    settled.insert(Remembered(reader: reader.id, columns: reader.columns), at: 0)
    if settled.count > Self.rememberedSets { settled.removeLast() }
  }

  // MARK: Which bytes

  /// Adds the column chunks ahead of the reader that are worth fetching.
  ///
  /// - Returns: the beginning of a chunk that is larger than the whole budget, where that is all
  ///   there is to fetch ahead.
  private func lookAhead(
    from rowGroup: Int, _ columns: BlockSet, for reader: inout ColumnReader,
    in layout: ParquetLayout, into wanted: inout [Int]
  ) -> Range<Int>? {
    var ahead = 0
    var visited = 0
    for group in rowGroup..<layout.rowGroupCount {
      // A reader that has not gone to a second row group may stop at this one: what it leaves
      // unread is then bounded by twice what it read.
      let isSure = group == rowGroup || reader.hasFinishedRowGroup
      let allowance = isSure ? budgetInBytes : min(budgetInBytes, reader.doubleEnteredBytes)
      for column in columns.presentRuns(in: 0..<layout.columnCount).joined() {
        let chunk = group * layout.columnCount + column
        let bytes = layout.bytes(ofChunk: chunk)
        visited += 1
        guard visited <= Self.mostChunksAhead else { return nil }
        if bytes.isEmpty || reader.hasEntered(chunk) { continue }
        if bytes.count > allowance - ahead {
          return ahead == 0 && allowance > 0 ? bytes.prefix(allowance) : nil
        }
        ahead += bytes.count
        if reader.announce(chunk) { wanted.append(chunk) }
      }
    }
    return nil
  }

  /// The ranges by offset, joined over cheap gaps; the one that holds `first` and those after it
  /// come first.
  private static func coalesced(
    _ ranges: [Range<Int>], startingWith first: Range<Int>? = nil
  ) -> [Range<Int>] {
    var joined: [Range<Int>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = joined.last, range.lowerBound - last.upperBound <= cheapGapInBytes {
        joined[joined.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        joined.append(range)
      }
    }
    guard let first,
      let pivot = joined.firstIndex(where: { $0.upperBound >= first.upperBound })
    else { return joined }
    return Array(joined[pivot...] + joined[..<pivot])
  }
}

extension Range<Int> {
  fileprivate func prefix(_ count: Int) -> Range<Int> {
    lowerBound..<lowerBound + Swift.min(count, self.count)
  }
}

extension BlockSet {
  fileprivate func isSubset(of other: BlockSet) -> Bool {
    presentRuns(in: 0..<blockCount).allSatisfy(other.containsAll)
  }
}
