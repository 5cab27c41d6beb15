import Blocks
import Foundation
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import BlockCache

/// A disk that fails, and a directory that somebody deletes.
@Suite struct DiskFaultTests {
  private let whole = content(20 * blockSize + 5)
  private var identity: CacheIdentity { .chunk(sizeInBytes: whole.count) }

  /// A cache whose steps fail as told.
  private func openCache(
    _ folder: CacheFolder, failing: @escaping @Sendable (CacheStep) -> Errno?
  ) throws -> BlockCache {
    try BlockCache(path: folder.path, logger: silent, hook: failing)
  }

  @Test(
    "What is deleted of our folder is made anew with the next entry", arguments: [0, 1, 2])
  func deletedDirectory(what: Int) throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let open = try cache.open(identity)
    try open.store(0..<20, of: whole)
    let gone = [folder.ownFolder, folder.chunkFolder, "\(folder.ownFolder)/lock"][what]
    try FileManager.default.removeItem(atPath: gone)
    #expect(try open.bytes(0..<1000) == Array(whole[..<1000]), "what is open can be read")
    let other = try cache.open(.chunk(sizeInBytes: 100, key: "other"))
    try other.store(0..<1, of: whole)
    #expect(try other.bytes(0..<100) == Array(whole[..<100]))
    #expect(folder.mode(of: folder.ownFolder) == 0o700)
    #expect(folder.mode(of: folder.chunkFolder) == 0o700)
    #expect(throws: BlockCacheError.self, "locked again") { _ = try folder.openCacheAtOnce() }
    try cache.probe()
    cache.close(open)
    if what < 2 {
      #expect(try cache.open(identity).presentBlocks.isEmpty)
    }
    cache.close(other)
  }

  @Test("The directory that the user named is not made anew, and another in its place is not used")
  func deletedParent() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let moved = folder.path + ".moved"
    #expect(rename(folder.path, moved) == 0)
    for isOther in [false, true] {
      if isOther { mkdir(folder.path, 0o700) }
      #expect {
        _ = try cache.open(identity)
      } throws: {
        "\($0)".contains(isOther ? "is another directory now" : "does not exist any more")
      }
      #expect(throws: BlockCacheError.self) { try cache.probe() }
      #expect(throws: BlockCacheError.self, "what it holds is unknown") { try cache.scan { _ in } }
      #expect(cache.roomInBytes() == nil)
      #expect(access(folder.path, F_OK) == (isOther ? 0 : -1))
      #expect(access(folder.ownFolder, F_OK) == -1)
    }
    #expect(rmdir(folder.path) == 0 && rename(moved, folder.path) == 0)
    try untilFree { () throws(BlockCacheError) in try cache.probe() }
    cache.close(try cache.open(identity))
  }

  @Test("What is evicted while the directory is away is punched once it is back")
  func evictionWhileAway() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    try entry.store(0..<20, of: whole)
    let segment = Segment(entry: entry.id, index: 0)
    cache.close(entry)
    let data = try folder.file(endingIn: ".data")
    let moved = folder.path + ".moved"
    #expect(rename(folder.path, moved) == 0)
    #expect(throws: BlockCacheError.self) { try cache.probe() }
    #expect(throws: BlockCacheError.self) { try cache.evict(segment) }
    #expect(!cache.removeIfIdle(segment.entry))
    #expect(rename(moved, folder.path) == 0)
    try untilFree { () throws(BlockCacheError) in try cache.probe() }
    try cache.evict(segment)
    #expect(folder.allocatedInBytes(data) <= 6 * blockSize)
    #expect(cache.removeIfIdle(segment.entry))
    #expect(try folder.files() == [])
  }

  @Test("A directory that another mount has taken meanwhile is not used")
  func takenDirectory() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    try FileManager.default.removeItem(atPath: folder.ownFolder)
    do {
      let second = try folder.openCache()
      #expect(throws: BlockCacheError.self) { _ = try cache.open(identity) }
      #expect(throws: BlockCacheError.self) { try cache.probe() }
      _ = second.path
    }
    try untilFree { () throws(BlockCacheError) in try cache.probe() }
    cache.close(try cache.open(identity))
  }

  @Test("A hole that could not be punched is an error, and can be punched later")
  func failingPunch() throws {
    let folder = try CacheFolder()
    let isFailing = Atomic(true)
    let cache = try openCache(folder) {
      $0 == .punch && isFailing.load(ordering: .relaxed) ? .ioError : nil
    }
    let entry = try cache.open(identity)
    try entry.store(0..<20, of: whole)
    let segment = Segment(entry: entry.id, index: 0)
    #expect(throws: BlockCacheError.self) { try cache.evict(segment) }
    #expect(folder.allocatedInBytes(try folder.file(endingIn: ".data")) >= 20 * blockSize)
    isFailing.store(false, ordering: .relaxed)
    try cache.evict(segment)
    #expect(folder.allocatedInBytes(try folder.file(endingIn: ".data")) <= 6 * blockSize)
    #expect(entry.presentBlocks.presentRuns(in: 0..<21) == [16..<20])
  }

  @Test("An entry whose files a hung disk keeps keeps nobody from the others")
  func hungOpen() throws {
    let folder = try CacheFolder()
    let isHung = Atomic(false)
    let isHolding = Atomic(false)
    let (reached, mended, opened) = (
      DispatchSemaphore(value: 0), DispatchSemaphore(value: 0), DispatchSemaphore(value: 0)
    )
    let cache = try openCache(folder) { step in
      if step == .openFiles, isHung.exchange(false, ordering: .relaxed) {
        isHolding.store(true, ordering: .relaxed)
        reached.signal()
        // For so long, so that a test that fails comes to an end.
        _ = mended.wait(timeout: .now() + 120)
        isHolding.store(false, ordering: .relaxed)
      }
      return nil
    }
    let first = try cache.open(.chunk(sizeInBytes: 100, key: "first"))
    isHung.store(true, ordering: .relaxed)
    let identity = identity
    DispatchQueue.global().async {
      if let entry = try? cache.open(identity) { cache.close(entry) }
      opened.signal()
    }
    reached.wait()
    let second = try cache.open(.chunk(sizeInBytes: 100, key: "second"))
    cache.close(first)
    #expect(cache.removeIfIdle(first.id))
    cache.discard(second)
    cache.close(second)
    #expect(cache.find(identity) != nil)
    try cache.probe()
    let wasHolding = isHolding.load(ordering: .relaxed)
    #expect(wasHolding)
    mended.signal()
    opened.wait()
  }

  @Test("No block is stored before the index has its version")
  func failingHeader() throws {
    let folder = try CacheFolder()
    let failures = Atomic(0)
    do {
      let cache = try openCache(folder) {
        // The first one is the new entry's.
        $0 == .writeHeader && (2...3).contains(failures.add(1, ordering: .relaxed).newValue)
          ? .noSpace : nil
      }
      let entry = try cache.open(identity)
      entry.record(eTag: "\"e\"")
      #expect(entry.eTag == "\"e\"")
      #expect(throws: BlockCacheError.self) { try entry.store(0..<1, of: whole) }
      try entry.store(0..<1, of: whole)
      cache.close(entry)
    }
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    #expect(entry.eTag == "\"e\"")
    #expect(entry.presentBlocks.contains(0))
  }

  @Test(
    "An entry that cannot be created leaves no files",
    arguments: [
      CacheStep.createData, .sizeData, .createIndex, .sizeIndex, .writeHeader,
    ])
  func failingCreation(step: CacheStep) throws {
    let folder = try CacheFolder()
    let cache = try openCache(folder) { $0 == step ? .noSpace : nil }
    #expect(throws: BlockCacheError.self) { _ = try cache.open(identity) }
    #expect(try folder.files() == [])
  }

  @Test("Bytes kept in memory are read from there, whatever the file has")
  func memory() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    for entry in [try cache.open(identity), cache.openInMemory(identity)] {
      if !entry.isMemoryOnly { try entry.store(0..<2, of: whole) }
      let range = 2 * blockSize - 10..<4 * blockSize + 10
      whole[range].withUnsafeBytes { entry.keep($0, at: range.lowerBound) }
      let readable = entry.isMemoryOnly ? range : 5..<range.upperBound
      #expect(try entry.bytes(readable) == Array(whole[readable]))
      #expect(try entry.bytes(range) == Array(whole[range]))
      #expect(entry.blockCountInMemory == 4)
      for block in 1..<5 { entry.drop(block: block) }
      #expect(entry.blockCountInMemory == 0)
      if !entry.isMemoryOnly {
        #expect(try entry.bytes(5..<2 * blockSize) == Array(whole[5..<2 * blockSize]))
      }
      cache.close(entry)
    }
    let last = cache.openInMemory(identity)
    whole[(20 * blockSize)...].withUnsafeBytes { last.keep($0, at: 20 * blockSize) }
    #expect(try last.bytes(20 * blockSize..<whole.count) == Array(whole[(20 * blockSize)...]))
    #expect(throws: BlockCacheError.self) { _ = try last.bytes(0..<10) }
  }

  @Test("A block in memory is not compared with what the file has in its place")
  func memoryOverDamage() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(identity)
      try entry.store(0..<2, of: whole)
      cache.close(entry)
    }
    try folder.overwrite(try folder.file(endingIn: ".data"), at: 7, with: [0])
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    #expect(try entry.firstCorruptBlock(in: 0..<2) == 0)
    whole[..<blockSize].withUnsafeBytes { entry.keep($0, at: 0) }
    #expect(try entry.firstCorruptBlock(in: 0..<2) == nil)
    #expect(try entry.bytes(0..<2 * blockSize) == Array(whole[..<(2 * blockSize)]))
    entry.drop(block: 0)
    #expect(try entry.firstCorruptBlock(in: 0..<2) == 0)
  }

  @Test("Of a block that is only partly in memory the rest is read from the file, and checked")
  func partlyInMemory() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      try cache.open(identity).store(0..<1, of: whole)
    }
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    // A part that was written failed after a reader was told that some of its bytes are here.
    try entry.put(whole[2 * blockSize..<2 * blockSize + 5000], at: 2 * blockSize)
    for start in [0, 2 * blockSize] {
      whole[start..<start + 1000].withUnsafeBytes { entry.keep($0, at: start) }
      for range in [start..<start + 1000, start..<start + 5000, start + 900..<start + 1001] {
        #expect(try entry.bytes(range) == Array(whole[range]))
      }
    }
    try folder.overwrite(try folder.file(endingIn: ".data"), at: 2000, with: [0])
    #expect(try entry.firstCorruptBlock(in: 0..<1) == 0)
  }

  @Test("A block that has come to be stored is in memory no more")
  func storedAfterMemory() throws {
    let folder = try CacheFolder()
    let entry = try folder.openCache().open(identity)
    whole[..<1000].withUnsafeBytes { entry.keep($0, at: 0) }
    try entry.store(0..<1, of: whole)
    #expect(entry.blockCountInMemory == 0)
    #expect(try entry.bytes(0..<blockSize) == Array(whole[..<blockSize]))
  }

  @Test("A hole is punched also where the index cannot be read any more")
  func evictionWithoutHeader() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    try entry.store(0..<16, of: whole)
    cache.close(entry)
    try folder.overwrite(try folder.file(endingIn: ".index"), at: 100, with: [7])
    try cache.evict(.init(entry: entry.id, index: 0))
    #expect(folder.allocatedInBytes(try folder.file(endingIn: ".data")) < blockSize)
  }

  @Test("A cache of another format version is discarded: the folder, and an index")
  func unknownVersion() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(identity)
      entry.record(eTag: "\"e\"")
      try entry.store(0..<2, of: whole)
      cache.close(entry)
    }
    let old = "\(folder.ownFolder)/chunks-v0-crc32"
    mkdir(old, 0o700)
    try folder.write(whole, to: "\(old)/\(String(repeating: "ab", count: 16)).data")
    let file = try folder.file(endingIn: ".index")
    // A later version's header: whole, its checksum right.
    let end = IndexFormat.headerSizeInBytes
    var header = Array(try folder.bytes(of: file)[..<end])
    header[8] = UInt8(IndexFormat.version + 1)
    let checksum = header[..<(end - 4)].withUnsafeBytes { BlockChecksum(of: $0).value }
    withUnsafeBytes(of: checksum.littleEndian) { header.replaceSubrange(end - 4..<end, with: $0) }
    try folder.overwrite(file, at: 0, with: header)
    let cache = try folder.openCache()
    var found = 0
    try cache.scan { _ in found += 1 }
    #expect(found == 0)
    #expect(try folder.files() == [])
    #expect(access(old, F_OK) != 0)
    #expect(try cache.open(identity).presentBlocks.isEmpty)
  }

  @Test("A cache tells its room as what is free beyond what is to be left free")
  func room() throws {
    let folder = try CacheFolder()
    let cache = try BlockCache(path: folder.path, minFreeInBytes: 1 << 50, logger: silent)
    let room = try #require(cache.roomInBytes())
    #expect(room < 0)
    #expect(room > -(1 << 50))
    #expect((1...1 << 30).contains(BlockCache.usualMinFreeBytes(at: folder.path)))
  }
}
