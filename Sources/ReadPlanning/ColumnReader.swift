import Blocks

/// One open Parquet chunk: which of its columns the reads through it have shown to be in use.
///
/// What arrives are not the reader's own reads but the kernel's, and three of its habits must not
/// be taken for use:
///
/// - Reads begin at a page, so the first one into a column mostly has the end of the column before
///   it.
/// - The kernel reads ahead, up to two requests of 1 MiB past what the reader wants: into columns
///   nobody asked for.
/// - Two requests of one stream may be delivered in either order.
///
/// So a column counts as used when a read that continues no other begins with it. Where the page
/// leaves two columns possible, the one that is expected counts; otherwise the one that starts
/// there, once the reading goes on past the page. A read that continues another shows that the
/// reader has come to the beginning of the request before it, which is when the kernel asks for
/// more, or to this one's beginning, which it found missing: a column that holds both is used. A
/// small column right after another may go unnoticed; the read-ahead in file order serves it.
package struct ColumnReader: Sendable {
  static let pageSizeInBytes = 4096
  /// How far past what has arrived a request may come before its turn: two requests of the largest
  /// size.
  static let kernelReadAheadInBytes = 2 << 20
  private static let streamCount = 8

  private struct Stream: Sendable {
    let startOffset: Int
    /// One past the furthest byte read.
    var frontier: Int
    /// The reads began at the file's first byte, before the footer: somebody reads it all.
    var isWholeFile = false
    /// Used if the reading goes on.
    var pendingChunk: Int?
    /// Where the request began that reached the frontier.
    var lastRequestOffset: Int
  }

  let id: UInt64
  private let fileSizeInBytes: Int
  /// Before it read anything from the file's first byte on; or another handle did that before this
  /// one came for a column, as of a program that opens the file again for what it found there.
  private(set) var hasReadFooter = false
  private let isFooterRead: Bool
  /// Most recently used first.
  private var streams: [Stream] = []

  /// The columns in use, of the schema's; of size 0 before the layout is known. A column that was
  /// used in less than half as many row groups as the most used one does not count: DuckDB 2.0
  /// reads what lies between two columns where its own measure of latency and bandwidth makes that
  /// cheaper than a second read (its pull request 23290), of local files too: in 0 - 20 of 54 row
  /// groups.
  private(set) var columns = BlockSet(blockCount: 0)
  /// In how many row groups each column was used.
  private var rowGroupsUsing: [Int] = []
  /// By number of column chunk: read by this reader; told to the caller.
  private var entered = BlockSet(blockCount: 0)
  private var announced = BlockSet(blockCount: 0)
  private var enteredBytes = 0
  private var rowGroups: Set<Int> = []
  /// The reader has gone on to a second row group.
  var hasFinishedRowGroup: Bool { rowGroups.count > 1 }

  /// - Parameter isFooterRead: by another reader, before anything else.
  init(id: UInt64, fileSizeInBytes: Int, isFooterRead: Bool) {
    self.id = id
    self.fileSizeInBytes = fileSizeInBytes
    self.isFooterRead = isFooterRead
  }

  /// The reader began at the file's first byte.
  var isWholeFile: Bool { streams.contains { $0.isWholeFile } }

  var usesNearlyAllColumns: Bool { Self.isNearlyAll(columns) }

  var doubleEnteredBytes: Int { enteredBytes > Int.max / 2 ? .max : enteredBytes * 2 }

  static func isNearlyAll(_ columns: BlockSet) -> Bool {
    columns.count >= columns.blockCount - columns.blockCount / 8
  }

  /// Whether the reader has come to at least half of the row groups, and to more than one.
  func hasBegunMost(of layout: ParquetLayout) -> Bool {
    hasFinishedRowGroup && 2 * rowGroups.count >= layout.rowGroupCount
  }

  func hasEntered(_ chunk: Int) -> Bool { entered.contains(chunk) }

  /// True if the caller has not been told of this column chunk yet.
  mutating func announce(_ chunk: Int) -> Bool {
    if announced.contains(chunk) { return false }
    announced.insert(chunk)
    return true
  }

  /// Takes note of a read.
  ///
  /// - Returns: the numbers of the column chunks that it is the first to use.
  mutating func note(
    _ bytes: Range<Int>, in layout: ParquetLayout?, expecting expected: BlockSet?
  ) -> [Int] {
    let bytes = bytes.clamped(to: 0..<max(0, fileSizeInBytes))
    guard !bytes.isEmpty else { return [] }
    if let layout { prepare(for: layout) }
    if let index = streams.firstIndex(where: { Self.continues($0, bytes, in: layout) }) {
      return extendStream(index, to: bytes, in: layout, expecting: expected)
    }
    return startStream(bytes, in: layout, expecting: expected)
  }

  private mutating func prepare(for layout: ParquetLayout) {
    guard columns.blockCount != layout.columnCount || entered.blockCount != layout.chunkCount
    else { return }
    columns = BlockSet(blockCount: layout.columnCount)
    rowGroupsUsing = Array(repeating: 0, count: layout.columnCount)
    entered = BlockSet(blockCount: layout.chunkCount)
    announced = entered
    enteredBytes = 0
    rowGroups = []
  }

  private mutating func extendStream(
    _ index: Int, to bytes: Range<Int>, in layout: ParquetLayout?, expecting expected: BlockSet?
  ) -> [Int] {
    var stream = streams.remove(at: index)
    let news = stream.frontier..<max(stream.frontier, bytes.upperBound)
    stream.frontier = news.upperBound
    var used: [Int] = []
    if let layout, !stream.isWholeFile, !news.isEmpty {
      if let pending = stream.pendingChunk {
        used.append(pending)
        stream.pendingChunk = nil
      }
      if let here = layout.chunk(holding: bytes.lowerBound),
        here == layout.chunk(holding: stream.lastRequestOffset)
      {
        used.append(here)
      }
      if let expected {
        used += layout.chunks(overlapping: news)
          .filter { expected.contains($0 % layout.columnCount) }
      }
    }
    if !news.isEmpty { stream.lastRequestOffset = bytes.lowerBound }
    // A read that is larger than the kernel's read-ahead, 128 KiB where users mount, comes in
    // pieces.
    if isAtEnd(bytes),
      fileSizeInBytes - stream.startOffset <= ParquetLayout.largestFooterInBytes
    {
      hasReadFooter = true
    }
    streams.insert(stream, at: 0)
    return enter(used, in: layout)
  }

  private mutating func startStream(
    _ bytes: Range<Int>, in layout: ParquetLayout?, expecting expected: BlockSet?
  ) -> [Int] {
    var stream = Stream(
      startOffset: bytes.lowerBound, frontier: bytes.upperBound,
      lastRequestOffset: bytes.lowerBound)
    var used: [Int] = []
    if bytes.lowerBound == 0, !hasReadFooter, !isFooterRead {
      stream.isWholeFile = true
    } else if isAtEnd(bytes) {
      hasReadFooter = true
    } else if let layout {
      // Who begins with a column knows where that is.
      if isFooterRead, beginsWithColumn(bytes, in: layout) { hasReadFooter = true }
      (used, stream.pendingChunk) = firstChunks(of: bytes, in: layout, expecting: expected)
    }
    if streams.count == Self.streamCount { streams.removeLast() }
    streams.insert(stream, at: 0)
    return enter(used, in: layout)
  }

  private func beginsWithColumn(_ bytes: Range<Int>, in layout: ParquetLayout) -> Bool {
    let page = bytes.lowerBound..<min(bytes.upperBound, bytes.lowerBound + Self.pageSizeInBytes)
    return layout.chunks(overlapping: page).contains {
      layout.bytes(ofChunk: $0).lowerBound >= page.lowerBound
    }
  }

  /// The end of the file, with as much before it as the reader guesses the footer to take.
  private func isAtEnd(_ bytes: Range<Int>) -> Bool {
    bytes.upperBound > fileSizeInBytes - ParquetLayout.trailerInBytes
  }

  /// Which column chunks a read wants that continues no other.
  private func firstChunks(
    of bytes: Range<Int>, in layout: ParquetLayout, expecting expected: BlockSet?
  ) -> (used: [Int], pending: Int?) {
    // A read that does not begin at a page begins where the reader wants it to.
    let isPaged = bytes.lowerBound % Self.pageSizeInBytes == 0
    let pageEnd = bytes.lowerBound.addingReportingOverflow(isPaged ? Self.pageSizeInBytes : 1)
    guard !pageEnd.overflow else { return ([], nil) }
    let page = bytes.lowerBound..<pageEnd.partialValue
    let candidates = layout.chunks(overlapping: page)
    guard let last = candidates.last else { return ([], nil) }

    let startsInPage = layout.bytes(ofChunk: last).lowerBound >= page.lowerBound
    guard startsInPage else {
      // In the middle of one. Readers begin at a column's start, so this could be a stray request
      // of the kernel: it counts only for a reader that has shown to be one of Parquet.
      let fillsPage = layout.bytes(ofChunk: last).upperBound >= page.upperBound
      return ((hasReadFooter || !columns.isEmpty) && fillsPage ? [last] : [], nil)
    }
    if candidates.count == 1 || layout.bytes(ofChunk: last).lowerBound == page.lowerBound {
      return ([last], nil)
    }
    let wished = candidates.filter { expected?.contains($0 % layout.columnCount) ?? false }
    if !wished.isEmpty { return (wished, nil) }
    // Columns that lie within the page have been read, wanted or not.
    let within = candidates.filter {
      let chunk = layout.bytes(ofChunk: $0)
      return chunk.lowerBound >= page.lowerBound && chunk.upperBound <= page.upperBound
    }
    if bytes.upperBound > page.upperBound { return (within + [last], nil) }
    return (within, within.contains(last) ? nil : last)
  }

  private mutating func enter(_ chunks: [Int], in layout: ParquetLayout?) -> [Int] {
    guard let layout else { return [] }
    let new = chunks.filter { chunk in
      guard !entered.contains(chunk) else { return false }
      entered.insert(chunk)
      rowGroupsUsing[chunk % layout.columnCount] += 1
      enteredBytes += layout.bytes(ofChunk: chunk).count
      rowGroups.insert(chunk / layout.columnCount)
      return true
    }
    if !new.isEmpty {
      let most = rowGroupsUsing.max() ?? 0
      for (column, count) in rowGroupsUsing.enumerated() where count > 0 {
        if 2 * count >= most { columns.insert(column) } else { columns.remove(column..<column + 1) }
      }
    }
    return new
  }

  /// A request that comes before its turn belongs to the stream too, unless a column begins with
  /// it.
  private static func continues(
    _ stream: Stream, _ bytes: Range<Int>, in layout: ParquetLayout?
  ) -> Bool {
    guard bytes.lowerBound >= stream.startOffset else { return false }
    if bytes.lowerBound <= stream.frontier { return true }
    guard bytes.lowerBound - stream.frontier <= kernelReadAheadInBytes else { return false }
    if stream.isWholeFile { return true }
    let page = bytes.lowerBound..<min(bytes.upperBound, bytes.lowerBound + pageSizeInBytes)
    return layout?.chunks(overlapping: page).allSatisfy {
      layout?.bytes(ofChunk: $0).lowerBound ?? 0 < bytes.lowerBound
    } ?? false
  }
}
