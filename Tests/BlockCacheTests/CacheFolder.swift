import Blocks
import FoundationEssentials
import Glibc
import Logging

@testable import BlockCache

let silent = Logger(label: "cache") { _ in SwiftLogNoOpLogHandler() }

/// A cache directory for one test, seen from outside: what is on disk, and damaging it.
final class CacheFolder {
  /// Does not exist until a cache is made in it.
  let path: String
  private let parent: URL

  init() throws {
    parent = FileManager.default.temporaryDirectory
      .appending(path: "block-cache-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
    path = parent.appending(path: "cache").path()
  }

  deinit { try? FileManager.default.removeItem(at: parent) }

  /// Takes the cache, which nobody has any more.
  func openCache() throws(BlockCacheError) -> BlockCache {
    try untilFree { () throws(BlockCacheError) in try openCacheAtOnce() }
  }

  func openCacheAtOnce() throws(BlockCacheError) -> BlockCache {
    try BlockCache(path: path, logger: silent)
  }

  /// The cache's own folder within the directory.
  var ownFolder: String { "\(path)/\(CacheDirectory.folderName)" }

  var chunkFolder: String { "\(ownFolder)/\(CacheDirectory.chunkFolderName)" }

  /// Makes the cache's own folder, and the directory above it, without opening a cache.
  func makeOwnFolder(mode: mode_t = 0o700) {
    mkdir(path, 0o700)
    mkdir(ownFolder, 0o700)
    chmod(ownFolder, mode)
  }

  /// The names of the chunk folder's files, sorted.
  func files() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: chunkFolder).sorted()
  }

  func file(endingIn suffix: String) throws -> String {
    let names = try files().filter { $0.hasSuffix(suffix) }
    guard names.count == 1 else { throw Unexpected(what: "files \(names) ending in \(suffix)") }
    return "\(chunkFolder)/\(names[0])"
  }

  func bytes(of file: String) throws -> [UInt8] {
    try [UInt8](Data(contentsOf: URL(filePath: file)))
  }

  func write(_ bytes: [UInt8], to file: String) throws {
    try Data(bytes).write(to: URL(filePath: file))
  }

  /// Changes bytes in place, so that the file's holes stay.
  func overwrite(_ file: String, at offset: Int, with bytes: [UInt8]) throws {
    let descriptor = open(file, O_WRONLY)
    guard descriptor >= 0 else { throw Unexpected(what: "open: errno \(errno)") }
    defer { close(descriptor) }
    guard pwrite(descriptor, bytes, bytes.count, offset) == bytes.count else {
      throw Unexpected(what: "pwrite: errno \(errno)")
    }
  }

  func mode(of file: String) -> UInt32 { status(file).st_mode & 0o7777 }

  func allocatedInBytes(_ file: String) -> Int { Int(status(file).st_blocks) * 512 }

  private func status(_ file: String) -> stat {
    var info = stat()
    lstat(file, &info)
    return info
  }
}

/// A process that another test is just starting has this one's locks until it executes, which may
/// take it long on a busy machine.
func untilFree<Value>(
  _ body: () throws(BlockCacheError) -> Value
) throws(BlockCacheError) -> Value {
  for _ in 0..<6000 {
    do throws(BlockCacheError) {
      return try body()
    } catch {
      guard case .inUse = error else { throw error }
      usleep(10_000)
    }
  }
  return try body()
}

struct Unexpected: Error { let what: String }

extension CacheIdentity {
  static func chunk(sizeInBytes: Int, version: String = "v1", key: String = "chunk")
    -> CacheIdentity
  {
    CacheIdentity(
      endpoint: "http://store", bucket: "bucket", key: key, sizeInBytes: sizeInBytes,
      version: version)
  }
}

extension CacheEntry {
  /// Stores blocks of `content` as a transfer does, which knows their version.
  func store(_ blocks: Range<Int>, of content: [UInt8]) throws {
    if eTag == nil { record(eTag: "\"any\"") }
    for block in blocks {
      let range = grid.bytes(of: block..<block + 1)
      try put(content[range], at: range.lowerBound)
      let checksum = content[range].withUnsafeBytes { BlockChecksum(of: $0).value }
      try commit(from: block, checksums: [checksum])
    }
  }

  /// Writes bytes without declaring a block complete.
  func put(_ bytes: ArraySlice<UInt8>, at byteOffset: Int) throws {
    try bytes.withUnsafeBytes { try write($0.bytes, at: byteOffset) }
  }

  func bytes(_ range: Range<Int>) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    try bytes.withUnsafeMutableBytes { try read(into: $0, at: range.lowerBound) }
    return bytes
  }
}

/// Bytes without a zero among them, so that a hole is never taken for content.
func content(_ sizeInBytes: Int) -> [UInt8] {
  (0..<sizeInBytes).map { UInt8(1 + ($0 &* 31 &+ $0 >> 8) % 255) }
}

let blockSize = BlockGrid.blockSizeInBytes
