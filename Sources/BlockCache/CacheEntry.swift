import Glibc
public import ReadPlanning
import Synchronization
import SystemPackage

/// The cached bytes of one chunk: a sparse data file and its index.
///
/// Several threads use it at once without a lock, because they touch different blocks: a part's bytes are written by
/// the one thread that receives them, a block is read only while it is pinned, and punched only while it is not
/// (`CacheLedger`). The descriptors live as long as the object.
public final class CacheEntry: Sendable {
  public let id: EntryID
  public let grid: BlockGrid
  /// The blocks that are whole, and named in the index.
  public var presentBlocks: BlockSet { state.withLock { $0.present } }
  /// What the entry costs besides its blocks.
  public var overheadInBytes: Int { Self.overheadInBytes(grid) }

  let name: String
  let files: EntryFiles
  let identityDigest: [UInt8]
  let state: Mutex<State>

  struct State {
    var eTag: String?
    /// That of the blocks that were found to be the manifest's.
    var seal: EntrySeal?
    /// Follows the index, because an entry may be handed out again while it is open.
    var present: BlockSet
    /// Blocks left by an earlier run that have not been compared with their checksums yet.
    var unchecked: BlockSet
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
    state = Mutex(
      State(
        eTag: header.eTag, seal: header.seal, present: present, unchecked: present))
  }

  /// The index, the inode and directory entry of two files, and the blocks in which a file system keeps the extents
  /// of a file with many holes (ext4: one per 340 extents).
  static func overheadInBytes(_ grid: BlockGrid) -> Int {
    let unit = BlockGrid.allocationUnitInBytes
    let index = IndexFormat.fileSize(blockCount: grid.blockCount)
    let extents = grid.blockCount / 2 / 340 + 2
    return (index + unit - 1) / unit * unit + extents * unit
  }

  /// The version that all blocks belong to.
  public var eTag: String? { state.withLock { $0.eTag } }

  /// Notes the version, before the first block of it is stored.
  public func record(eTag: String) throws(BlockCacheError) {
    state.withLock { $0.eTag = eTag }
    try files.write(
      .init(sizeInBytes: grid.sizeInBytes, identityDigest: identityDigest, eTag: eTag))
  }

  /// Stores bytes of a block that is not complete yet.
  public func write(_ bytes: RawSpan, at byteOffset: Int) throws(BlockCacheError) {
    try files.writeData(bytes, at: byteOffset)
  }

  /// Declares a block complete. All its bytes have been written.
  public func commit(block: Int, checksum: UInt32) throws(BlockCacheError) {
    try files.writeEntry(block: block, checksum: checksum)
    state.withLock { state in
      state.present.insert(block)
      state.unchecked.remove(block..<block + 1)
    }
  }

  /// Fills the buffer with bytes that are present and pinned.
  public func read(
    into buffer: UnsafeMutableRawBufferPointer, at byteOffset: Int
  ) throws(BlockCacheError) {
    try files.readData(into: buffer, at: byteOffset)
  }

  /// Compares blocks left by an earlier run with their checksums, once.
  ///
  /// - Returns: the first block whose bytes are not what was stored; nil when all are right.
  public func firstCorruptBlock(in blocks: Range<Int>) throws(BlockCacheError) -> Int? {
    let unchecked = state.withLock { state in
      state.unchecked.firstPresent(in: blocks) == nil
        ? [] : blocks.filter { state.unchecked.contains($0) }
    }
    for block in unchecked {
      guard try isIntact(block) else { return block }
      state.withLock { $0.unchecked.remove(block..<block + 1) }
    }
    return nil
  }

  // MARK: Passthrough

  /// Whether every block was written by this object, or has been compared with its checksum by it.
  public var isWhollyChecked: Bool { state.withLock { $0.present.isFull && $0.unchecked.isEmpty } }

  /// The data file, for the kernel to read from; open as long as this object lives.
  public var dataDescriptor: Int32 { files.data.raw }

  /// Whether somebody reads the data file without this object. Nil where the file system cannot tell.
  public func isOpenElsewhere() -> Bool? { files.isDataOpenElsewhere() }

  // MARK: The cache's side

  /// Makes blocks absent, and their space free.
  func remove(blocks: Range<Int>) throws(BlockCacheError) {
    state.withLock { state in
      state.present.remove(blocks)
      // What arrives in their place is checked by whoever receives it.
      state.unchecked.remove(blocks)
    }
    try files.remove(blocks, grid)
  }

  /// Notes that the entry was used, for the order of eviction in a later run.
  func touch() { futimens(files.index.raw, nil) }

  private func isIntact(_ block: Int) throws(BlockCacheError) -> Bool {
    guard let expected = files.readEntry(block: block) else { return false }
    let range = grid.bytes(of: block..<block + 1)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: range.count, alignment: 16)
    defer { bytes.deallocate() }
    try read(into: bytes, at: range.lowerBound)
    return BlockChecksum(of: UnsafeRawBufferPointer(bytes)).value == expected
  }
}
