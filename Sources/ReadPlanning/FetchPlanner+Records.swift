import Blocks

// What the planner keeps of each wait, part, chunk and handle.

extension FetchPlanner {
  /// A read or an open that has not been answered.
  struct Wait: Sendable {
    let id: WaitID
    let chunk: ChunkID
    let handle: HandleID
    /// Empty for an open.
    let bytes: Range<Int>
    var isOpen: Bool { bytes.isEmpty }
  }

  /// A part under way, through all its attempts.
  struct Transfer: Sendable {
    enum State { case running, pausing, ready }
    let part: Part
    /// One past the last byte that has arrived.
    var arrived: Int
    /// Its blocks that were on the books before it.
    let held: [Range<Int>]
    var state = State.running
    /// Since it last got a whole block further.
    var attempts = 1
    /// Of `ConcurrencyLevel`, when its last request was sent.
    var epoch: Int
  }

  /// A chunk between `load` and `unload`.
  struct Chunk: Sendable {
    let grid: BlockGrid
    let entry: EntryID
    let opening: Range<Int>
    /// Whole, and named in the cache's index.
    var present: BlockSet
    /// Counted in the ledger: present, or in a part, or left half written by a part that ended
    /// early.
    var allocated: BlockSet
    /// As many as there are connections at most.
    var transfers: [Transfer] = []
    var waits: [WaitID] = []
    var handles: Set<HandleID> = []
    var isVersionKnown: Bool
    var leavingSegments: Set<Int> = []
    /// How often it was pinned whole.
    var wholePinCount = 0
    /// Reads far from any other that had to wait.
    var scatteredMissCount = 0
    /// Somebody has looked at the end, where Parquet and ORC keep their table of contents.
    var isTableOfContentsRead = false
    /// All of it is being fetched, because its readers are all over it.
    var isBeingFilled = false
    /// What lies before it has been fetched for that.
    var filledUpToBlock = 0
    let isParquet: Bool
    /// By a reader that had read nothing from the first byte on: a query.
    var isFooterRead = false
    var layout: ParquetLayout?
    var isFooterAsked = false
    /// Its tail is pinned for that.
    var isFooterBeingDecoded = false
    var footerTailInBytes = FetchPlanner.footerTailInBytes
    /// A shorter tail than this does not hold the footer.
    var footerNeedInBytes = ParquetLayout.trailerInBytes
    /// Columns that are worth fetching, the most urgent first.
    var wishes: [Range<Int>] = []
    /// Found to be wrong on disk: what arrives in their place is handed out once it is whole,
    /// because until then the index still has the old checksum.
    var damaged: Set<Int> = []
    /// Whole, and kept in memory.
    var inMemory: BlockSet
    /// How often stored blocks could not be read.
    var readErrorCount = 0
    /// Its files are not used: what is read of it goes through memory.
    var isMemoryOnly: Bool
    var verification: ChunkVerification

    /// What all of it takes on disk, whatever is there now.
    var sizeOnDiskInBytes: Int { grid.allocatedBytes(of: 0..<grid.blockCount) }
  }

  /// A chunk that a reader is about to come to.
  struct Expectation: Sendable {
    /// How much of its beginning is wanted; nil where only its opening range is, with a Parquet
    /// chunk's footer.
    var targetInBytes: Int?
    /// What the reader has read of the chunk before.
    var inheritedBytesRead = 0
  }

  /// A reader, from `open` to `close`.
  struct Handle: Sendable {
    let chunk: ChunkID
    var readAhead: ReadAhead
    /// Nil where the chunk is not Parquet.
    var columns: ColumnReader?
    /// Its reads are worth more than the speed of the kernel's own: the chunk's version was not
    /// known when it was opened, or the walk that it is on has to show that it goes on.
    let isToBeHeard: Bool
    /// The kernel serves it by itself.
    var isLent = false
  }
}

extension FetchPlanner.Chunk {
  /// The first run of `blocks` that is neither present, nor in a part, nor in a segment on its way
  /// out.
  ///
  /// Nil also when the first missing block is in a segment on its way out: it will be asked about
  /// again. What goes to memory is not in anybody's way there.
  func missingRun(in blocks: Range<Int>, isForMemory: Bool = false) -> Range<Int>? {
    let leavingSegments = isForMemory ? [] : self.leavingSegments
    var start = blocks.lowerBound
    while let absent = present.firstAbsent(in: start..<max(start, blocks.upperBound)) {
      if let transfer = transfers.first(where: { self.blocks(of: $0).contains(absent) }) {
        start = self.blocks(of: transfer).upperBound
        continue
      }
      if inMemory.contains(absent) {
        start = absent + 1
        continue
      }
      guard !leavingSegments.contains(grid.segment(ofBlock: absent)) else { return nil }
      var end = present.firstPresent(in: absent..<blocks.upperBound) ?? blocks.upperBound
      end = inMemory.firstPresent(in: absent..<end) ?? end
      for transfer in transfers {
        let first = self.blocks(of: transfer).lowerBound
        if first > absent { end = min(end, first) }
      }
      for segment in leavingSegments {
        let first = grid.blocks(ofSegment: segment).lowerBound
        if first > absent { end = min(end, first) }
      }
      return absent..<end
    }
    return nil
  }

  /// As `missingRun(in:)`, for what nobody waits for.
  func missingAhead(in blocks: Range<Int>) -> Range<Int>? {
    isMemoryOnly ? nil : missingRun(in: blocks)
  }

  private func blocks(of transfer: FetchPlanner.Transfer) -> Range<Int> {
    grid.blocks(covering: transfer.part.bytes)
  }
}
