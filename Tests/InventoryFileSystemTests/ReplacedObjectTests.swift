import InventoryFileSystem
import Testing

/// The object behind a chunk becomes another one.
@Suite(.timeLimit(.minutes(2))) struct ReplacedObjectTests {
  private let old = Rig.Chunk(key: "chunk", bytes: content(6_000_000, seed: 1))
  private let new = Rig.Chunk(key: "chunk", bytes: content(6_000_000, seed: 2))

  @Test("An object replaced while it is read is stale; who opens it anew reads the new one")
  func replacedWhileRead() async throws {
    try await Rig.run([old]) { rig, store in
      let file = try await rig.open("chunk")
      let start = try await rig.read(file, 0, 4096)
      #expect(start == Array(old.bytes[..<4096]))
      store.put([new])
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 5_500_000, 4096) }
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 0, 4096) }
      await #expect(throws: FileSystemError.stale) { _ = try await rig.open("chunk") }
      rig.fileSystem.close(file)
      try await rig.checkOnceSettled(new, store)
    }
  }

  @Test("The kernel is to forget its pages of a version that has been replaced")
  func pages() async throws {
    try await Rig.run([old]) { rig, store in
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      let again = try await rig.open("chunk")
      #expect(file.mayKeepPages && again.mayKeepPages)
      rig.fileSystem.close(again)
      store.put([new])
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 5_500_000, 4096) }
      rig.fileSystem.close(file)
      try await rig.checkOnceSettled(new, store)
      let other = try await rig.open("chunk")
      #expect(!other.mayKeepPages)
      rig.fileSystem.close(other)
    }
  }

  @Test("So it is where nothing of it was left in the cache, which tells the version")
  func pagesOfWhatHasLeft() async throws {
    let big = Rig.Chunk(key: "big", bytes: content(30_000_000, seed: 3))
    // So many that the chunk does not linger.
    let small = (0..<40).map { Rig.Chunk(key: "\($0)", bytes: content(100)) }
    for replacement in [old, new] {
      try await Rig.run([old, big] + small, cacheSizeInBytes: 16 << 20) { rig, store in
        try await rig.check(old)
        for chunk in small { try await rig.check(chunk) }
        try await rig.check(big)
        let cached = try rig.fileSystem.attribute(
          "user.inventoryfs.cached_bytes", of: rig.node("chunk"))
        #expect(cached == Array("0".utf8), "else this shows nothing")
        store.put([replacement])
        let first = try await rig.open("chunk")
        #expect(!first.mayKeepPages, "nobody knows")
        let second = try await rig.open("chunk")
        #expect(second.mayKeepPages == (replacement.bytes == old.bytes))
        for file in [first, second] { rig.fileSystem.close(file) }
      }
    }
  }

  @Test("So it is where the ETag was asked for beforehand", arguments: [true, false])
  func askedBeforehand(hasMD5: Bool) async throws {
    var old = old
    old.hasMD5 = hasMD5
    try await Rig.run([old]) { rig, store in
      _ = try rig.fileSystem.attribute("user.s3.etag", of: rig.node("chunk"))
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      store.put([new])
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 5_500_000, 4096) }
      rig.fileSystem.close(file)
      try await rig.checkOnceSettled(new, store)
    }
  }

  @Test("The same bytes under another ETag are another version")
  func anotherETag() async throws {
    try await Rig.run([old]) { rig, store in
      let file = try await rig.open("chunk")
      store.put(key: "chunk", bytes: old.bytes, eTag: "\"another\"")
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 5_500_000, 4096) }
      rig.fileSystem.close(file)
    }
  }
}

extension Rig {
  /// Reads the chunk, whose last reader has just closed it, once the requests for that one have
  /// ended.
  fileprivate func checkOnceSettled(_ chunk: Chunk, _ store: ScriptedStore) async throws {
    try await store.untilIdle()
    try await check(chunk)
  }
}
