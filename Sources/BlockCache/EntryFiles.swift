import Blocks
import CLinux
import Glibc
import SystemPackage

/// The two open files of a cached chunk, and the operations on them.
final class EntryFiles: Sendable {
  let data: OwnedDescriptor
  let index: OwnedDescriptor
  private let path: String
  private let hook: CacheStepHook?

  var dataPath: String { "\(path).data" }
  var indexPath: String { "\(path).index" }

  private init(
    path: String, data: consuming OwnedDescriptor, index: consuming OwnedDescriptor,
    hook: CacheStepHook?
  ) {
    self.path = path
    self.hook = hook
    self.data = data
    self.index = index
  }

  /// Opens existing files. Returns nil when either does not exist, or is not a file of ours.
  ///
  /// - Throws: `BlockCacheError` for other failures (no descriptors left, a failing disk), which
  ///   say nothing about the files.
  static func open(
    _ name: String, in directory: CacheDirectory
  ) throws(BlockCacheError) -> EntryFiles? {
    let flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK
    let path = directory.chunkPath(name)
    do throws(BlockCacheError) {
      try step(.openFiles, "open", path, directory.hook)
      let data = try OwnedDescriptor(
        opening: "\(name).data", in: directory.chunks.raw, flags: flags, path: path)
      let index = try OwnedDescriptor(
        opening: "\(name).index", in: directory.chunks.raw, flags: flags, path: path)
      // Holes punched in a file with a second name would be in the other program's file too.
      guard data.isPlainFile, index.isPlainFile else { return nil }
      return EntryFiles(path: path, data: data, index: index, hook: directory.hook)
    } catch {
      if case .system(_, _, let code) = error,
        [.noSuchFileOrDirectory, .tooManySymbolicLinkLevels, .isDirectory, .noSuchAddressOrDevice]
          .contains(code)
      {
        return nil
      }
      throw error
    }
  }

  /// Creates both files, with no block present.
  static func create(
    _ name: String, in directory: CacheDirectory, header: IndexFormat.Header
  ) throws(BlockCacheError) -> EntryFiles {
    let grid = BlockGrid(sizeInBytes: header.sizeInBytes)
    let indexSize = IndexFormat.fileSize(blockCount: grid.blockCount)
    let data = try create(
      "\(name).data", sizeInBytes: grid.sizeInBytes, in: directory, .createData, .sizeData)
    let index = try create(
      "\(name).index", sizeInBytes: indexSize, in: directory, .createIndex, .sizeIndex)
    let files = EntryFiles(
      path: directory.chunkPath(name), data: data, index: index, hook: directory.hook)
    try files.write(header)
    return files
  }

  private static func create(
    _ file: String, sizeInBytes: Int, in directory: CacheDirectory, _ creating: CacheStep,
    _ sizing: CacheStep
  ) throws(BlockCacheError) -> OwnedDescriptor {
    let flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
    try step(creating, "create", directory.chunkPath(file), directory.hook)
    let raw = openat(directory.chunks.raw, file, flags, 0o600)
    guard raw >= 0 else {
      throw .system(operation: "create", path: directory.chunkPath(file), Errno(rawValue: errno))
    }
    let descriptor = OwnedDescriptor(raw: raw)
    try step(sizing, "size", directory.chunkPath(file), directory.hook)
    guard ftruncate(raw, sizeInBytes) == 0 else {
      throw .system(operation: "size", path: directory.chunkPath(file), Errno(rawValue: errno))
    }
    return descriptor
  }

  // MARK: The index

  func write(_ header: IndexFormat.Header) throws(BlockCacheError) {
    try step(.writeHeader, "write", indexPath)
    try Self.writeAll(IndexFormat.encode(header).span.bytes, to: index.raw, at: 0, path: indexPath)
  }

  /// The header; nil unless it is whole and of this version.
  func readHeader() -> IndexFormat.Header? {
    var bytes = [UInt8](repeating: 0, count: IndexFormat.headerSizeInBytes)
    guard pread(index.raw, &bytes, bytes.count, 0) == bytes.count else { return nil }
    return IndexFormat.decodeHeader(bytes)
  }

  func writeEntries(from firstBlock: Int, checksums: [UInt32]) throws(BlockCacheError) {
    try step(.writeEntries, "write", indexPath)
    let entries = checksums.enumerated().map { place, checksum in
      IndexFormat.encodeEntry(block: firstBlock + place, checksum: checksum).littleEndian
    }
    let offset = IndexFormat.offset(ofBlock: firstBlock)
    try Self.writeAll(entries.span.bytes, to: index.raw, at: offset, path: indexPath)
  }

  /// The checksum that the index has for a block; nil when the block is absent.
  func readEntry(block: Int) -> UInt32? {
    var entry: UInt64 = 0
    let offset = IndexFormat.offset(ofBlock: block)
    let count = withUnsafeMutableBytes(of: &entry) {
      pread(index.raw, $0.baseAddress, $0.count, offset)
    }
    guard count == IndexFormat.entrySizeInBytes else { return nil }
    return IndexFormat.decodeEntry(UInt64(littleEndian: entry), block: block)
  }

  /// The blocks that the index names.
  func readPresent(_ grid: BlockGrid) -> BlockSet {
    var present = BlockSet(blockCount: grid.blockCount)
    forEachEntry(grid) { entries, first in
      for (place, entry) in entries.enumerated()
      where IndexFormat.decodeEntry(UInt64(littleEndian: entry), block: first + place) != nil {
        present.insert(first + place)
      }
      return true
    }
    return present
  }

  /// Hands all entries to `body` as they are stored, some at a time, with the number of their first
  /// block.
  ///
  /// - Returns: whether all could be read and `body` always returned true.
  @discardableResult
  func forEachEntry(
    _ grid: BlockGrid, _ body: (UnsafeBufferPointer<UInt64>, _ firstBlock: Int) -> Bool
  ) -> Bool {
    var entries = [UInt64](repeating: 0, count: min(grid.blockCount, 8192))
    var first = 0
    while first < grid.blockCount {
      let length = min(entries.count, grid.blockCount - first) * IndexFormat.entrySizeInBytes
      let got = entries.withUnsafeMutableBytes {
        pread(index.raw, $0.baseAddress, length, IndexFormat.offset(ofBlock: first))
      }
      let count = max(0, got) / IndexFormat.entrySizeInBytes
      let goesOn = entries.withUnsafeBufferPointer {
        body(UnsafeBufferPointer(rebasing: $0[..<count]), first)
      }
      guard goesOn, got == length else { return false }
      first += count
    }
    return true
  }

  // MARK: The data

  /// The data file's length and the space that it takes on disk.
  func measureData() -> (sizeInBytes: Int, allocatedInBytes: Int)? {
    var info = stat()
    guard fstat(data.raw, &info) == 0 else { return nil }
    return (Int(info.st_size), Int(info.st_blocks) * 512)
  }

  /// Whether a reader reads the data file without us: through the kernel's passthrough, or a
  /// mapping made through it, which outlives both the handle and the mount. Nil where the file
  /// system cannot tell.
  func isDataOpenElsewhere() -> Bool? {
    _ = hook?(.findUsers)
    return switch inventoryfs_is_open_elsewhere(data.raw) {
    case 0: false
    case 1: true
    default: nil
    }
  }

  func writeData(_ bytes: RawSpan, at byteOffset: Int) throws(BlockCacheError) {
    try step(.writeData, "write", dataPath)
    try Self.writeAll(bytes, to: data.raw, at: byteOffset, path: dataPath)
  }

  func readData(
    into buffer: UnsafeMutableRawBufferPointer, at byteOffset: Int
  ) throws(BlockCacheError) {
    try step(.readData, "read", dataPath)
    var done = 0
    while done < buffer.count {
      let count = pread(
        data.raw, buffer.baseAddress?.advanced(by: done), buffer.count - done, byteOffset + done)
      if count > 0 {
        done += count
      } else if count == 0 {
        throw .truncated(path: dataPath, byteOffset: byteOffset + buffer.count)
      } else if errno != EINTR {
        throw .system(operation: "read", path: dataPath, Errno(rawValue: errno))
      }
    }
  }

  /// Makes blocks absent: first in the index, then on disk.
  func remove(_ blocks: Range<Int>, _ grid: BlockGrid) throws(BlockCacheError) {
    guard !blocks.isEmpty else { return }
    try removeEntries(blocks)
    try punch(blocks, grid)
  }

  func removeEntries(_ blocks: Range<Int>) throws(BlockCacheError) {
    try step(.clearEntries, "write", indexPath)
    let zeros = [UInt64](repeating: 0, count: blocks.count)
    let offset = IndexFormat.offset(ofBlock: blocks.lowerBound)
    try Self.writeAll(zeros.span.bytes, to: index.raw, at: offset, path: indexPath)
  }

  /// Punches a hole where the blocks were.
  func punch(_ blocks: Range<Int>, _ grid: BlockGrid) throws(BlockCacheError) {
    try step(.punch, "punch a hole in", dataPath)
    let start = grid.bytes(of: blocks).lowerBound
    let length = grid.allocatedBytes(of: blocks)
    while true {
      let code = inventoryfs_punch_hole(data.raw, start, length)
      if code == 0 { return }
      guard code == EINTR else {
        throw .system(operation: "punch a hole in", path: dataPath, Errno(rawValue: code))
      }
    }
  }

  private func step(
    _ step: CacheStep, _ operation: String, _ path: String
  ) throws(BlockCacheError) {
    try Self.step(step, operation, path, hook)
  }

  private static func step(
    _ step: CacheStep, _ operation: String, _ path: String, _ hook: CacheStepHook?
  ) throws(BlockCacheError) {
    if let code = hook?(step) { throw .system(operation: operation, path: path, code) }
  }

  private static func writeAll(
    _ bytes: RawSpan, to file: Int32, at byteOffset: Int, path: String
  ) throws(BlockCacheError) {
    try bytes.withUnsafeBytes { bytes throws(BlockCacheError) in
      var done = 0
      while done < bytes.count {
        let count = pwrite(
          file, bytes.baseAddress?.advanced(by: done), bytes.count - done, byteOffset + done)
        if count > 0 {
          done += count
        } else if count == 0 || errno != EINTR {
          let code = count == 0 ? Errno.noSpace : Errno(rawValue: errno)
          throw .system(operation: "write", path: path, code)
        }
      }
    }
  }
}
