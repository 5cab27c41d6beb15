import BlockCache
import Blocks
import Testing

/// The seal vouches for the blocks that were found to be the manifest's, and for no others.
@Suite struct SealTests {
  private let whole = content(20 * blockSize + 5)
  private var identity: CacheIdentity { .chunk(sizeInBytes: whole.count) }

  private func seal(_ entry: CacheEntry) throws {
    try entry.record(verified: try #require(entry.makeSeal()))
  }

  @Test("A seal counts while all blocks are the sealed ones, and again when those have come back")
  func otherBlocks() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    try entry.store(0..<20, of: whole)
    #expect(entry.makeSeal() == nil, "a block is missing")
    try entry.store(20..<21, of: whole)
    #expect(!entry.isVerified)
    try seal(entry)
    #expect(entry.isVerified)
    try cache.evict(.init(entry: entry.id, index: 1))
    #expect(!entry.isVerified, "not all is there")
    var other = whole
    other[17 * blockSize] ^= 1
    try entry.store(16..<21, of: other)
    #expect(!entry.isVerified, "other bytes have come")
    try entry.store(17..<18, of: whole)
    #expect(entry.isVerified)
  }

  @Test("What a later run makes of a sealed entry, open or not")
  func laterRun() throws {
    for isOtherStored in [false, true] {
      let folder = try CacheFolder()
      do {
        let entry = try folder.openCache().open(identity)
        try entry.store(0..<21, of: whole)
        try seal(entry)
        var other = whole
        other[0] ^= 1
        if isOtherStored { try entry.store(0..<1, of: other) }
      }
      let cache = try folder.openCache()
      try cache.scan { _ in }
      #expect(cache.isVerified(identity) == !isOtherStored)
      #expect(try cache.open(identity).isVerified == !isOtherStored)
      #expect(cache.isVerified(identity) == !isOtherStored)
    }
  }

  @Test("Blocks that were forgotten are not in the index, and no seal comes back with them")
  func forgotten() throws {
    let folder = try CacheFolder()
    do {
      let entry = try folder.openCache().open(identity)
      try entry.store(0..<21, of: whole)
      try seal(entry)
      try entry.forgetAllBlocks()
      #expect(try entry.bytes(0..<100) == Array(whole[..<100]), "somebody may be copying them")
      try entry.store(0..<21, of: whole)
      #expect(!entry.isVerified)
      try entry.forgetAllBlocks()
    }
    #expect(try folder.openCache().open(identity).presentBlocks.isEmpty)
  }

  @Test("A seal is of no use to an entry without files")
  func withoutFiles() throws {
    let entry = try CacheFolder().openCache().openInMemory(identity)
    #expect(entry.makeSeal() == nil)
    #expect(!entry.isVerified)
  }
}
