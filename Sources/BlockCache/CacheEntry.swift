public import Blocks
import Glibc
import Locks
import SystemPackage

/// The cached bytes of one chunk: a sparse data file and its index.
///
/// Several threads use it at once without a lock, because they touch different blocks: a part's
/// bytes are written by the one thread that receives them, a block is read only while it is pinned,
/// and punched only while it is not (`CacheLedger`). The descriptors live as long as the object.
///
/// While the disk cannot be written, blocks are kept in memory (`keep(_:at:)`) until they are
/// dropped; the planner bounds their number. An entry whose files could not even be opened has no
/// other blocks.
public final class CacheEntry: Sendable {
  public let id: EntryID
  public let grid: BlockGrid
  /// The blocks that are complete, and named in the index.
  public var presentBlocks: BlockSet { state.withLock { $0.present } }
  /// The space that the entry takes besides its blocks.
  public var overheadInBytes: Int { Self.overheadInBytes(grid) }

  let name: String
  /// The entry's files; nil where all blocks are in memory.
  let files: EntryFiles?
  let identityDigest: [UInt8]
  let state: Lock<State>

  struct State {
    var eTag: String?
    /// The seal of the blocks that were found to have the manifest's MD5.
    var seal: EntrySeal?
    /// The blocks that are present. The set follows the index, because an entry may be handed out
    /// again while it is open.
    var present: BlockSet
    /// Blocks left by an earlier run that have not been compared with their checksums yet.
    var unchecked: BlockSet
    /// Whether the version is missing in the index, because that could not be written.
    var isHeaderStale = false
    var memory: [Int: KeptBlock] = [:]
  }

  /// A block in memory, or as much of it as has arrived. Some of the rest may be in the file, where
  /// a failed part has left it, and a reader may be reading that.
  struct KeptBlock {
    var bytes: [UInt8]
    /// The range of these bytes in the block, from 0.
    var filled = 0..<0

    var isWhole: Bool { filled.count == bytes.count }

    mutating func fill(_ piece: Slice<UnsafeRawBufferPointer>, at offset: Int) {
      bytes.withUnsafeMutableBytes { $0[offset...].copyBytes(from: piece) }
      let end = offset + piece.count
      let isNext = !filled.isEmpty && offset <= filled.upperBound && end >= filled.lowerBound
      filled =
        isNext
        ? min(filled.lowerBound, offset)..<max(filled.upperBound, end) : offset..<end
    }

    func contains(_ range: Range<Int>) -> Bool {
      filled.lowerBound <= range.lowerBound && range.upperBound <= filled.upperBound
    }
  }

  init(
    id: EntryID, name: String, files: consuming EntryFiles, header: IndexFormat.Header,
    present: BlockSet
  ) {
    self.id = id
    self.name = name
    self.files = files
    grid = BlockGrid(sizeInBytes: header.sizeInBytes)
    identityDigest = header.identityDigest
    state = Lock(
      State(eTag: header.eTag, seal: header.seal, present: present, unchecked: present))
  }

  /// Makes an entry without files.
  init(id: EntryID, sizeInBytes: Int) {
    self.id = id
    name = ""
    files = nil
    grid = BlockGrid(sizeInBytes: sizeInBytes)
    identityDigest = []
    let none = BlockSet(blockCount: grid.blockCount)
    state = Lock(State(present: none, unchecked: none))
  }

  public var isMemoryOnly: Bool { files == nil }

  /// The space of the index, of the inodes and directory entries of two files, and of the blocks in
  /// which a file system keeps the extents of a file with many holes (ext4: up to four are in the
  /// inode, and of more, 340 in each block).
  static func overheadInBytes(_ grid: BlockGrid) -> Int {
    let unit = BlockGrid.allocationUnitInBytes
    let index = IndexFormat.fileSize(blockCount: grid.blockCount)
    let extents = (grid.blockCount + 1) / 2
    let extentBlocks = extents > 4 ? extents / 340 + 1 : 0
    return (index + unit - 1) / unit * unit + extentBlocks * unit + 2 * fileCostInBytes
  }

  /// The space of an inode (256 bytes on ext4, 512 on XFS) and of its entry in a large directory,
  /// with room to spare: 100,000 files of the cache made a directory of 7 MB on ext4.
  private static let fileCostInBytes = 1 << 10

  /// The version that all blocks belong to.
  public var eTag: String? { state.withLock { $0.eTag } }

  /// The longest ETag that `record(eTag:)` accepts.
  public static let maximumETagLengthInBytes = IndexFormat.maximumETagLength

  /// Records the version, before the first block of it is stored. Where the index cannot be written
  /// now, writing it is retried with the first bytes, and until then no bytes are stored.
  public func record(eTag: String) {
    state.withLock { state in
      state.eTag = eTag
      state.isHeaderStale = files != nil
    }
    try? writeStaleHeader()
  }

  private func writeStaleHeader() throws(BlockCacheError) {
    guard let files, let header = state.withLock({ $0.isHeaderStale ? header($0) : nil }) else {
      return
    }
    try files.write(header)
    state.withLock { $0.isHeaderStale = false }
  }

  func header(_ state: State) -> IndexFormat.Header {
    IndexFormat.Header(
      sizeInBytes: grid.sizeInBytes, identityDigest: identityDigest, eTag: state.eTag,
      seal: state.seal)
  }

  /// Stores bytes of a block that is not complete yet.
  public func write(_ bytes: RawSpan, at byteOffset: Int) throws(BlockCacheError) {
    try writeStaleHeader()
    try files?.writeData(bytes, at: byteOffset)
  }

  /// Declares blocks complete, one for each checksum. All their bytes have been written to the
  /// file, so their memory is freed.
  public func commit(from firstBlock: Int, checksums: [UInt32]) throws(BlockCacheError) {
    guard !checksums.isEmpty else { return }
    try files?.writeEntries(from: firstBlock, checksums: checksums)
    let blocks = firstBlock..<firstBlock + checksums.count
    state.withLock { state in
      state.present.insert(blocks)
      state.unchecked.remove(blocks)
      for block in blocks where !state.memory.isEmpty { state.memory[block] = nil }
    }
  }

  /// Fills the buffer with bytes that are present and pinned.
  public func read(
    into buffer: UnsafeMutableRawBufferPointer, at byteOffset: Int
  ) throws(BlockCacheError) {
    let blocks = grid.blocks(covering: byteOffset..<byteOffset + buffer.count)
    let inMemory = blocksInMemory(of: blocks)
    guard !inMemory.isEmpty else { return try readFile(into: buffer, at: byteOffset) }
    for block in blocks {
      let bytes = grid.bytes(of: block..<block + 1)
      let wanted = bytes.clamped(to: byteOffset..<byteOffset + buffer.count)
      let place = UnsafeMutableRawBufferPointer(
        rebasing: buffer[wanted.lowerBound - byteOffset..<wanted.upperBound - byteOffset])
      let isCopied = state.withLock { state in
        let range = wanted.lowerBound - bytes.lowerBound..<wanted.upperBound - bytes.lowerBound
        guard let kept = state.memory[block], kept.contains(range) else { return false }
        place.copyBytes(from: kept.bytes[range])
        return true
      }
      if !isCopied { try readFile(into: place, at: wanted.lowerBound) }
    }
  }

  private func readFile(
    into buffer: UnsafeMutableRawBufferPointer, at byteOffset: Int
  ) throws(BlockCacheError) {
    guard let files else { throw .truncated(path: "memory", byteOffset: byteOffset) }
    try files.readData(into: buffer, at: byteOffset)
  }

  // MARK: Memory

  /// Keeps bytes in memory, instead of storing them.
  public func keep(_ bytes: UnsafeRawBufferPointer, at byteOffset: Int) {
    var rest = bytes[...]
    var position = byteOffset
    while !rest.isEmpty {
      let block = grid.block(at: position)
      let range = grid.bytes(of: block..<block + 1)
      let piece = rest.prefix(range.upperBound - position)
      guard !piece.isEmpty else { return }
      state.withLock { state in
        state.memory[block, default: KeptBlock(bytes: [UInt8](repeating: 0, count: range.count))]
          .fill(piece, at: position - range.lowerBound)
      }
      position += piece.count
      rest = rest.dropFirst(piece.count)
    }
  }

  /// Frees the memory of a block that no reader uses.
  public func drop(block: Int) { state.withLock { $0.memory[block] = nil } }

  /// The blocks that are in memory at this moment.
  public var blockCountInMemory: Int { state.withLock { $0.memory.count } }

  private func blocksInMemory(of blocks: Range<Int>) -> [Int] {
    state.withLock { state in
      state.memory.isEmpty ? [] : blocks.filter { state.memory[$0] != nil }
    }
  }

  // MARK: Damage

  /// Compares blocks left by an earlier run with their checksums, once.
  ///
  /// - Returns: the first block whose bytes differ from its checksum; nil when all are right.
  public func firstCorruptBlock(in blocks: Range<Int>) throws(BlockCacheError) -> Int? {
    let unchecked = state.withLock { state in
      state.unchecked.firstPresent(in: blocks) == nil
        ? []
        : blocks.filter { state.unchecked.contains($0) && state.memory[$0]?.isWhole != true }
    }
    for block in unchecked {
      guard try isIntact(block) else { return block }
      state.withLock { $0.unchecked.remove(block..<block + 1) }
    }
    return nil
  }

  // MARK: Passthrough

  /// Whether this object has written every block, or compared it with its checksum.
  public var isWhollyChecked: Bool { state.withLock { $0.present.isFull && $0.unchecked.isEmpty } }

  /// The data file's descriptor, for the kernel to read from; it is open as long as this object
  /// lives.
  public var dataDescriptor: Int32 { files?.data.raw ?? -1 }

  /// Whether a reader reads the data file without this object. Nil where the file system cannot
  /// tell.
  public func isOpenElsewhere() -> Bool? { files?.isDataOpenElsewhere() }

  // MARK: The cache's side

  /// Makes blocks absent, and frees their space.
  func remove(blocks: Range<Int>) throws(BlockCacheError) {
    state.withLock { state in
      state.present.remove(blocks)
      // The receiver checks the bytes that arrive in their place.
      state.unchecked.remove(blocks)
    }
    try files?.remove(blocks, grid)
  }

  /// Records that the entry was used, for the order of eviction in a later run.
  func touch() { if let files { futimens(files.index.raw, nil) } }

  private func isIntact(_ block: Int) throws(BlockCacheError) -> Bool {
    guard let expected = files?.readEntry(block: block) else { return false }
    let range = grid.bytes(of: block..<block + 1)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: range.count, alignment: 16)
    defer { bytes.deallocate() }
    try readFile(into: bytes, at: range.lowerBound)
    return BlockChecksum(of: UnsafeRawBufferPointer(bytes)).value == expected
  }
}
