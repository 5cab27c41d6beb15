import Blocks

// Readers of Parquet chunks: the columns they read are fetched whole, and ahead of them
// (ColumnReadAhead).

extension FetchPlanner {
  /// How much of a chunk's end is looked at for its footer, to begin with.
  static let footerTailInBytes = 128 << 10
  /// What the layouts of all chunks may take of memory; one of S3's takes a few KB. Chunks beyond
  /// it are read as any other.
  static let mostLayoutBytes = 4 << 20
  /// Ranges that wait to be fetched for one chunk; a query needs a few dozen.
  private static let mostWishes = 256

  /// Takes note of a read of a Parquet chunk, and of the columns that are worth fetching because of
  /// it.
  mutating func noteColumns(_ id: ChunkID, _ handle: HandleID, _ bytes: Range<Int>) -> [Action] {
    guard var reader = handles[handle]?.columns else { return [] }
    let layout = chunks[id]?.layout
    let hadBegunMost = layout.map(reader.hasBegunMost) ?? false
    let ranges = columns.noteRead(bytes, by: &reader, in: layout)
    handles[handle]?.columns = reader
    if reader.hasReadFooter { chunks[id]?.isFooterRead = true }
    wish(for: ranges, of: id)
    if let layout, !hadBegunMost, reader.hasBegunMost(of: layout) {
      nextChunkIsWantedBy = id
      wishForNextChunk()
    }
    let readsFooter = bytes.upperBound == chunks[id]?.grid.sizeInBytes && !reader.isWholeFile
    // A footer that came ahead: now its columns may.
    if readsFooter { wishForPredictedColumns(id) }
    // A query has read its first column, or a second footer: it looks at all of them.
    let isQuery = !ranges.isEmpty || readsFooter && walk.order != nil
    return (isQuery ? expectFooters(after: id) : []) + askForFooter(id)
  }

  /// Has the footer decoded once its bytes are here; they are pinned until `footerIsDecoded`.
  mutating func askForFooter(_ id: ChunkID) -> [Action] {
    guard let chunk = chunks[id], chunk.isParquet, !chunk.isFooterAsked,
      !chunk.handles.isEmpty || expected[id] != nil
    else {
      return []
    }
    let size = chunk.grid.sizeInBytes
    let wanted = max(0, size - chunk.footerTailInBytes)..<size
    // The blocks at the end that are whole, as far as they go: often they are enough.
    let blocks = chunk.grid.blocks(covering: wanted)
    guard let present = chunk.present.presentRuns(in: blocks).last,
      present.upperBound == chunk.grid.blockCount
    else { return [] }
    let tail = chunk.grid.bytes(of: present).clamped(to: wanted)
    guard tail.count >= chunk.footerNeedInBytes else { return [] }
    chunks[id]?.isFooterAsked = true
    chunks[id]?.isFooterBeingDecoded = true
    pin(tail, of: chunk)
    return [.decodeFooter(id, tail)]
  }

  /// The answer to `.decodeFooter`: where the chunk's columns are.
  public mutating func footerIsDecoded(
    _ id: ChunkID, tail: Range<Int>, _ decoding: ParquetLayout.Decoding
  ) -> [Action] {
    chunks[id]?.isFooterBeingDecoded = false
    let actions = finishedReading(id, bytes: tail)
    switch decoding {
    case .layout(let layout):
      guard layoutsInBytes + layout.footprintInBytes <= Self.mostLayoutBytes else { return actions }
      layoutsInBytes += layout.footprintInBytes
      chunks[id]?.layout = layout
      // Of a chunk that is only expected nobody has read the footer yet.
      if chunks[id]?.handles.isEmpty == false {
        wishForPredictedColumns(id)
      } else {
        wishForNextChunk()
      }
      return actions + fill()
    case .needsMoreBytes(let tailSizeInBytes):
      // Its reader will ask for them.
      chunks[id]?.footerTailInBytes = max(Self.footerTailInBytes, tailSizeInBytes)
      chunks[id]?.footerNeedInBytes = tailSizeInBytes
      chunks[id]?.isFooterAsked = false
      return actions + askForFooter(id)
    case .notParquet:
      return actions
    }
  }

  /// The next part of the columns that are wished for, of chunks that are being read.
  func nextColumns() -> Gap? {
    for (id, chunk) in chunks where !chunk.wishes.isEmpty && !chunk.handles.isEmpty {
      if let gap = nextColumns(of: id, chunk) { return gap }
    }
    return nil
  }

  /// The same of a chunk that will be.
  func nextExpectedColumns() -> Gap? {
    for id in expectedOrder {
      guard let chunk = chunks[id], !chunk.wishes.isEmpty else { continue }
      if let gap = nextColumns(of: id, chunk) { return gap }
    }
    return nil
  }

  private func nextColumns(of id: ChunkID, _ chunk: Chunk) -> Gap? {
    guard chunk.isVersionKnown else { return nil }
    for (index, wish) in chunk.wishes.enumerated() {
      guard let run = chunk.missingAhead(in: chunk.grid.blocks(covering: wish)) else { continue }
      let most = sizing.largestPartInBytes / BlockGrid.blockSizeInBytes
      return Gap(
        chunk: id, blocks: run.lowerBound..<min(run.upperBound, run.lowerBound + most),
        needed: 0..<0, reason: .wish(index))
    }
    return nil
  }

  /// The nearest chunk that a query is expected to come to gets its columns ahead of it, once its
  /// footer is here: no more than that one, because a query may stop.
  private mutating func wishForNextChunk() {
    guard nextChunkIsWantedBy != nil, let next = expectedOrder.first, let chunk = chunks[next],
      chunk.handles.isEmpty, chunk.layout != nil
    else { return }
    nextChunkIsWantedBy = nil
    wishForPredictedColumns(next)
  }

  private mutating func wishForPredictedColumns(_ id: ChunkID) {
    guard let layout = chunks[id]?.layout else { return }
    wish(for: columns.predictedRanges(in: layout, budgetInBytes: columnBudgetInBytes), of: id)
  }

  private var columnBudgetInBytes: Int {
    min(columns.budgetInBytes, maximumWindowInBytes / readerCount)
  }

  /// Adds wishes, and drops those that have come, also on a reader's demand: they need not come
  /// again should they leave.
  private mutating func wish(for ranges: [Range<Int>], of id: ChunkID) {
    guard let chunk = chunks[id], !(ranges.isEmpty && chunk.wishes.isEmpty) else { return }
    let open = (chunk.wishes + ranges).filter {
      chunk.missingRun(in: chunk.grid.blocks(covering: $0)) != nil
    }
    chunks[id]?.wishes = Array(open.prefix(Self.mostWishes))
  }
}
