import BlockCache
import Blocks
import Glibc
import TestSupport
import Testing

/// What a restart finds, and what it reclaims.
@Suite struct ScanTests {
  private let whole = content(20 * blockSize)
  private var identity: CacheIdentity { .chunk(sizeInBytes: whole.count) }

  private func scan(_ folder: CacheFolder) throws -> [BlockCache.Found] {
    let cache = try folder.openCache()
    var found: [BlockCache.Found] = []
    try cache.scan { found.append($0) }
    return found
  }

  private func fill(_ folder: CacheFolder, _ blocks: Range<Int>, key: String = "chunk") throws {
    let cache = try folder.openCache()
    let entry = try cache.open(.chunk(sizeInBytes: whole.count, key: key))
    try entry.store(blocks, of: whole)
    cache.close(entry)
  }

  @Test("A scan tells what each segment takes on disk")
  func segments() throws {
    let folder = try CacheFolder()
    try fill(folder, 14..<18)
    let found = try #require(try scan(folder).first)
    #expect(found.segments.map(\.index) == [0, 1])
    #expect(found.segments.map(\.allocatedInBytes) == [2 * blockSize, 2 * blockSize])
    let onDisk =
      folder.allocatedInBytes(try folder.file(endingIn: ".data"))
      + folder.allocatedInBytes(try folder.file(endingIn: ".index"))
    #expect(found.overheadInBytes + 4 * blockSize >= onDisk)
  }

  @Test("The entry used last is found first")
  func order() throws {
    let folder = try CacheFolder()
    for key in ["a", "b", "c"] { try fill(folder, 0..<1, key: key) }
    let cache = try folder.openCache()
    let again = try cache.open(.chunk(sizeInBytes: whole.count, key: "b"))
    // Times on disk may be no finer than a clock tick.
    usleep(20_000)
    cache.close(again)
    var found: [EntryID] = []
    try cache.scan { found.append($0.entry) }
    #expect(found.count == 3)
    #expect(found.first == cache.find(.chunk(sizeInBytes: whole.count, key: "b")))
  }

  @Test("Halves of entries are removed")
  func strayFiles() throws {
    let folder = try CacheFolder()
    try fill(folder, 0..<1)
    let kept = try folder.files()
    let name = String(repeating: "0f", count: 16)
    try folder.write(whole, to: "\(folder.chunkFolder)/\(name).data")
    let other = String(repeating: "e1", count: 16)
    let index = try folder.bytes(of: folder.file(endingIn: ".index"))
    try folder.write(index, to: "\(folder.chunkFolder)/\(other).index")
    #expect(try scan(folder).count == 1)
    #expect(try folder.files() == kept)
  }

  @Test("An index under another entry's name is not believed")
  func renamedIndex() throws {
    let folder = try CacheFolder()
    try fill(folder, 0..<1)
    let name = String(repeating: "0f", count: 16)
    for suffix in [".index", ".data"] {
      rename(try folder.file(endingIn: suffix), "\(folder.chunkFolder)/\(name)\(suffix)")
    }
    #expect(try scan(folder).isEmpty)
    #expect(try folder.files() == [])
  }

  @Test("An entry without blocks is removed")
  func emptyEntry() throws {
    let folder = try CacheFolder()
    try fill(folder, 0..<0)
    #expect(try folder.files().count == 2)
    #expect(try scan(folder).isEmpty)
    #expect(try folder.files() == [])
  }

  @Test("Space that no index entry names is given back, and what is named stays")
  func unindexedBlocks() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(identity)
      // A crash between the bytes and their entry.
      try entry.put(whole[...], at: 0)
      try entry.store(5..<7, of: whole)
    }
    let data = try folder.file(endingIn: ".data")
    #expect(folder.allocatedInBytes(data) >= whole.count)
    #expect(try scan(folder).first?.segments.map(\.allocatedInBytes) == [2 * blockSize])
    #expect(folder.allocatedInBytes(data) <= 3 * blockSize)
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    #expect(try entry.firstCorruptBlock(in: 5..<7) == nil)
    #expect(
      try entry.bytes(5 * blockSize..<7 * blockSize) == Array(whole[5 * blockSize..<7 * blockSize]))
  }

  @Test("What is opened before the scan comes to it has no space either that no index entry names")
  func unindexedBlocksOfOpenEntry() throws {
    let folder = try CacheFolder()
    do {
      let entry = try folder.openCache().open(identity)
      try entry.put(whole[...], at: 0)
      try entry.store(5..<7, of: whole)
    }
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    try entry.put(whole[..<100], at: 0)
    try cache.scan { _ in }
    let again = try cache.open(identity)
    #expect(folder.allocatedInBytes(try folder.file(endingIn: ".data")) <= 4 * blockSize)
    #expect(try again.bytes(0..<100) == Array(whole[..<100]), "what was written since stays")
    #expect(again.presentBlocks.presentRuns(in: 0..<100) == [5..<7])
  }

  @Test("What is open is left to whoever opened it")
  func openEntries() throws {
    let folder = try CacheFolder()
    let log = LogRecorder()
    let cache = try BlockCache(path: folder.path, logger: log.logger)
    let entry = try cache.open(identity)
    try entry.put(whole[..<100], at: 0)
    var found = 0
    try cache.scan { _ in found += 1 }
    #expect(found == 0)
    #expect(try folder.files().count == 2)
    #expect(try entry.bytes(0..<100) == Array(whole[..<100]))
    #expect(log.messages == [], "and is no leftover")
  }

  @Test("A small chunk takes one unit for its index, and little for its files")
  func smallOverhead() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    for size in [1, 4096, 65536, 368 * blockSize] {
      let identity = CacheIdentity.chunk(sizeInBytes: size)
      let entry = try cache.open(identity)
      try entry.store(0..<1, of: content(min(size, blockSize)))
      let index = try folder.file(endingIn: ".index")
      #expect(folder.allocatedInBytes(index) == 4096)
      #expect(folder.allocatedInBytes(index) <= entry.overheadInBytes)
      if size <= blockSize { #expect(entry.overheadInBytes <= 4096 + 2048) }
      cache.close(entry)
      cache.discard(entry)
    }
  }
}
