import Blocks
import Testing

@testable import BlockCache

/// What is on disk may be anything after a crash: it is absent or right, never wrong.
@Suite struct DamageTests {
  /// Three blocks, the last one short.
  private let whole = content(2 * blockSize + 100)
  private var identity: CacheIdentity { .chunk(sizeInBytes: whole.count) }

  private func makeFilledCache(_ folder: CacheFolder) throws {
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    entry.record(eTag: "\"e\"")
    try entry.store(0..<3, of: whole)
    cache.close(entry)
  }

  @Test("Any byte of the index may be wrong: no wrong bytes are taken for checked ones")
  func indexDamage() throws {
    let folder = try CacheFolder()
    try makeFilledCache(folder)
    let file = try folder.file(endingIn: ".index")
    let data = try folder.file(endingIn: ".data")
    let index = try folder.bytes(of: file)
    let dataBytes = try folder.bytes(of: data)
    let headerSize = IndexFormat.headerSizeInBytes
    let places =
      Array(0..<100) + Array(stride(from: 100, to: headerSize, by: 61))
      + Array(headerSize - 8..<index.count)
    for place in places {
      var damaged = index
      damaged[place] ^= 0x10
      try folder.write(damaged, to: file)
      try folder.write(dataBytes, to: data)
      let cache = try folder.openCache()
      let entry = try cache.open(identity)
      let missing = (0..<3).filter { !entry.presentBlocks.contains($0) }
      if place < headerSize {
        #expect(missing == [0, 1, 2], "byte \(place) of the header")
        #expect(entry.eTag == nil)
      } else {
        #expect(missing == [(place - headerSize) / 8], "byte \(place)")
        #expect(entry.eTag == "\"e\"")
      }
      for block in 0..<3 where entry.presentBlocks.contains(block) {
        #expect(try entry.firstCorruptBlock(in: block..<block + 1) == nil)
        let range = entry.grid.bytes(of: block..<block + 1)
        #expect(try entry.bytes(range) == Array(whole[range]))
      }
      cache.close(entry)
    }
  }

  @Test("A wrong byte of data makes its block the first corrupt one, after a restart")
  func dataDamage() throws {
    let folder = try CacheFolder()
    try makeFilledCache(folder)
    let file = try folder.file(endingIn: ".data")
    for place in [0, 1, blockSize - 1, blockSize, blockSize + 777, 2 * blockSize, whole.count - 1] {
      try folder.overwrite(file, at: place, with: [whole[place] ^ 0x40])
      let cache = try folder.openCache()
      let entry = try cache.open(identity)
      #expect(try entry.firstCorruptBlock(in: 0..<3) == place / blockSize, "byte \(place)")
      #expect(try entry.firstCorruptBlock(in: 0..<3) == place / blockSize, "asked again")
      try folder.overwrite(file, at: place, with: [whole[place]])
      #expect(try entry.firstCorruptBlock(in: 0..<3) == nil)
      cache.close(entry)
    }
  }

  @Test("A corrupt block that is stored again is right")
  func repair() throws {
    let folder = try CacheFolder()
    try makeFilledCache(folder)
    try folder.overwrite(try folder.file(endingIn: ".data"), at: blockSize, with: [0])
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    #expect(try entry.firstCorruptBlock(in: 0..<3) == 1)
    try entry.store(1..<2, of: whole)
    #expect(try entry.firstCorruptBlock(in: 0..<3) == nil)
    #expect(try entry.bytes(0..<whole.count) == whole)
  }

  @Test("Blocks that were evicted and are arriving anew are not compared with what was there")
  func arrivingAfterEviction() throws {
    let folder = try CacheFolder()
    try makeFilledCache(folder)
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    try cache.evict(.init(entry: entry.id, index: 0))
    try entry.put(whole[..<1000], at: 0)
    #expect(try entry.firstCorruptBlock(in: 0..<1) == nil)
  }

  @Test(
    "A shorter or longer data or index file makes blocks absent, or reading them an error",
    arguments: [".data", ".index"], [-1, -60_000, 1])
  func otherLength(suffix: String, differingBy difference: Int) throws {
    let folder = try CacheFolder()
    try makeFilledCache(folder)
    let file = try folder.file(endingIn: suffix)
    let bytes = try folder.bytes(of: file)
    let length = max(0, bytes.count + difference)
    try folder.write(Array((bytes + [0])[..<length]), to: file)
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    for block in 0..<3 where entry.presentBlocks.contains(block) {
      #expect(try entry.firstCorruptBlock(in: block..<block + 1) == nil)
      let range = entry.grid.bytes(of: block..<block + 1)
      #expect(try entry.bytes(range) == Array(whole[range]))
    }
    if suffix == ".data" || difference < -10_000 {
      #expect(entry.presentBlocks.isEmpty)
    } else {
      #expect(entry.presentBlocks.contains(0))
    }
  }
}
