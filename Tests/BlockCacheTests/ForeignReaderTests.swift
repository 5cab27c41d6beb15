import Blocks
import Foundation
import Logging
import Testing

@testable import BlockCache

@Suite("Readers that have a cache file without us")
struct ForeignReaderTests {
  private let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("foreign-reader-\(UUID().uuidString)")
  private let identity = CacheIdentity(
    endpoint: "e", bucket: "b", key: "k", sizeInBytes: 100_000, version: "1")

  private func cache() throws -> BlockCache {
    try untilFree { () throws(BlockCacheError) in
      try BlockCache(path: folder.path, logger: Logger(label: "test"))
    }
  }

  /// An earlier run's cache, with all of one chunk.
  private func fill() throws {
    let entry = try cache().open(identity)
    entry.record(eTag: "\"e\"")
    let bytes = [UInt8](repeating: 7, count: identity.sizeInBytes)
    try entry.write(bytes.span.bytes, at: 0)
    for block in 0..<entry.grid.blockCount {
      let range = entry.grid.bytes(of: block..<block + 1)
      var checksum = BlockChecksum()
      bytes[range].withUnsafeBytes { checksum.update($0) }
      try entry.commit(from: block, checksums: [checksum.value])
    }
    #expect(entry.isWhollyChecked)
  }

  private func openDataFile() throws -> FileHandle {
    let chunks = folder.appendingPathComponent(CacheDirectory.folderName)
      .appendingPathComponent(CacheDirectory.chunkFolderName)
    let name = try #require(
      FileManager.default.contentsOfDirectory(atPath: chunks.path).first { $0.hasSuffix(".data") })
    return try #require(FileHandle(forReadingAtPath: chunks.appendingPathComponent(name).path))
  }

  @Test("A chunk that nobody reads is taken over, and is not wholly checked yet")
  func takenOver() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    try fill()
    var found = 0
    let cache = try cache()
    try cache.scan { _ in found += 1 }
    #expect(found == 1)
    let entry = try cache.open(identity)
    #expect(!entry.isWhollyChecked)
    #expect(entry.isOpenElsewhere() == false)
    #expect(try entry.firstCorruptBlock(in: 0..<entry.grid.blockCount) == nil)
    #expect(entry.isWhollyChecked)
  }

  @Test(
    "A chunk that a reader of an earlier mount still has is left to it", arguments: [false, true])
  func leftAlone(isOpenedBeforeTheScan: Bool) throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    try fill()
    let reader = try openDataFile()
    let cache = try cache()
    if isOpenedBeforeTheScan { #expect(try cache.open(identity).presentBlocks.isEmpty) }
    var found = 0
    try cache.scan { _ in found += 1 }
    #expect(found == 0)
    let entry = try cache.open(identity)
    #expect(entry.presentBlocks.isEmpty)
    #expect(entry.isOpenElsewhere() == false)
    #expect(try reader.readToEnd() == Data(repeating: 7, count: identity.sizeInBytes))
  }

  @Test("A reader is seen until it closes")
  func seen() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let entry = try cache().open(identity)
    #expect(entry.isOpenElsewhere() == false)
    let reader = try openDataFile()
    #expect(entry.isOpenElsewhere() == true)
    try reader.close()
    #expect(entry.isOpenElsewhere() == false)
  }
}
