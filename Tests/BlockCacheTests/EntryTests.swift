import Blocks
import Dispatch
import Glibc
import Locks
import Testing

@testable import BlockCache

@Suite struct EntryTests {
  private let whole = content(40 * blockSize + 5)
  private var identity: CacheIdentity { .chunk(sizeInBytes: whole.count) }

  @Test("Blocks, bytes and the ETag survive a restart")
  func restart() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(identity)
      #expect(entry.eTag == nil)
      #expect(entry.presentBlocks.isEmpty)
      entry.record(eTag: "\"version\"")
      try entry.store(3..<7, of: whole)
      try entry.store(40..<41, of: whole)
      cache.close(entry)
    }
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    #expect(entry.eTag == "\"version\"")
    #expect(entry.presentBlocks.presentRuns(in: 0..<41) == [3..<7, 40..<41])
    #expect(try entry.firstCorruptBlock(in: 0..<41) == nil)
    let range = entry.grid.bytes(of: 3..<7)
    #expect(try entry.bytes(range) == Array(whole[range]))
    #expect(try entry.bytes(40 * blockSize..<whole.count) == Array(whole[(40 * blockSize)...]))
  }

  @Test("An object of another version, length, key, bucket or endpoint is another entry")
  func identities() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    try entry.store(0..<2, of: whole)
    let size = whole.count
    for other in [
      CacheIdentity.chunk(sizeInBytes: size, version: "v2"), .chunk(sizeInBytes: size - 1),
      .chunk(sizeInBytes: size, key: "other"),
      // The same characters, cut elsewhere.
      CacheIdentity(
        endpoint: "http://stor", bucket: "ebucket", key: "chunk", sizeInBytes: size, version: "v1"),
    ] {
      let foreign = try cache.open(other)
      #expect(foreign.id != entry.id)
      #expect(foreign.presentBlocks.isEmpty)
      cache.close(foreign)
    }
  }

  @Test("A second opening shares the first one's entry, and sees what became of it")
  func sharedOpening() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(identity)
      try entry.store(0..<20, of: whole)
      cache.close(entry)
    }
    let cache = try folder.openCache()
    let first = try cache.open(identity)
    #expect(try first.firstCorruptBlock(in: 0..<20) == nil)
    try cache.evict(.init(entry: first.id, index: 0))
    try first.store(3..<4, of: whole)
    let second = try cache.open(identity)
    #expect(second === first)
    // A block that is no more and is said to be here would be read as zeros.
    #expect(second.presentBlocks.presentRuns(in: 0..<41) == [3..<4, 16..<20])
    cache.close(second)
    #expect(!cache.removeIfIdle(first.id), "still open once")
    cache.close(first)
    #expect(cache.removeIfIdle(first.id))
    #expect(try folder.files() == [])
    #expect(cache.removeIfIdle(first.id), "gone is gone")
  }

  @Test(
    "Eviction gives a segment's space back, of an open entry and of a closed one",
    arguments: [true, false])
  func eviction(isOpen: Bool) throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(identity)
    entry.record(eTag: "\"e\"")
    try entry.store(0..<41, of: whole)
    if !isOpen { cache.close(entry) }
    let data = try folder.file(endingIn: ".data")
    for (segment, blocksLeft) in [(1, 25), (2, 16), (0, 0)] {
      let before = folder.allocatedInBytes(data)
      try cache.evict(.init(entry: entry.id, index: segment))
      let after = folder.allocatedInBytes(data)
      #expect(after < before)
      #expect(after <= (blocksLeft + 1) * blockSize)
      if isOpen { #expect(entry.presentBlocks.count == blocksLeft) }
    }
    if isOpen { cache.close(entry) }
    let again = try cache.open(identity)
    #expect(again.presentBlocks.isEmpty)
    #expect(again.eTag == "\"e\"")
  }

  @Test("A discarded entry can still be read; the next opening starts empty")
  func discarding() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let old = try cache.open(identity)
    old.record(eTag: "\"old\"")
    try old.store(0..<41, of: whole)
    cache.discard(old)
    #expect(try folder.files() == [])
    #expect(cache.find(identity) == nil)
    let new = try cache.open(identity)
    #expect(new.id != old.id)
    #expect(new.eTag == nil)
    #expect(new.presentBlocks.isEmpty)
    cache.discard(old)
    #expect(try folder.files().count == 2, "the second discard is not the new entry's")
    #expect(try old.bytes(0..<whole.count) == whole)
    // Its segments are evicted from the old files, not from the new ones.
    try new.store(0..<1, of: whole)
    try cache.evict(.init(entry: old.id, index: 0))
    #expect(try new.bytes(0..<blockSize) == Array(whole[..<blockSize]))
    cache.close(old)
    cache.close(new)
  }

  @Test("What is evicted of an entry is not punched in the one that takes its place meanwhile")
  func evictionWhileReplaced() throws {
    let folder = try CacheFolder()
    let interlude = Lock<(@Sendable () -> Void)?>(nil)
    let cache = try BlockCache(path: folder.path, logger: silent) { step in
      if step == .openFiles { interlude.withLock { exchange(&$0, with: nil) }?() }
      return nil
    }
    let old = try cache.open(identity)
    old.record(eTag: "\"e\"")
    try old.store(0..<41, of: whole)
    cache.close(old)
    unlink(try folder.file(endingIn: ".index"))
    let new = Lock<CacheEntry?>(nil)
    let replaced = DispatchSemaphore(value: 0)
    let (identity, whole) = (identity, whole)
    interlude.withLock {
      $0 = {
        DispatchQueue(label: "other").async {
          do {
            let entry = try cache.open(identity)
            entry.record(eTag: "\"e\"")
            try entry.store(0..<41, of: whole)
            new.withLock { $0 = entry }
          } catch {
            Issue.record(error)
          }
          replaced.signal()
        }
        // It may have to wait for the eviction.
        if replaced.wait(timeout: .now() + 0.5) == .success { replaced.signal() }
      }
    }
    try cache.evict(.init(entry: old.id, index: 0))
    replaced.wait()
    let entry = try #require(new.withLock { $0 })
    #expect(entry.id != old.id)
    let isRight = try entry.bytes(0..<whole.count) == whole
    #expect(isRight)
    cache.close(entry)
    #expect(try cache.open(identity).presentBlocks.isFull)
  }

  @Test("A cache knows which chunks it has")
  func finding() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    #expect(cache.find(identity) == nil)
    let entry = try cache.open(identity)
    #expect(cache.find(identity) == entry.id)
    cache.close(entry)
    #expect(cache.find(identity) == entry.id)
    #expect(cache.removeIfIdle(entry.id))
    #expect(cache.find(identity) == nil)
  }

  @Test("An empty chunk has an entry without blocks")
  func emptyChunk() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(.chunk(sizeInBytes: 0))
    #expect(entry.grid.blockCount == 0)
    #expect(try entry.firstCorruptBlock(in: 0..<0) == nil)
    cache.close(entry)
  }
}
