import FoundationEssentials
import Glibc
import InventoryFileSystem
import Locks
import ReadPlanning
import Testing

/// Chunks against the manifest's MD5, with the store, the cache and the planner together.
@Suite(.timeLimit(.minutes(2))) struct VerificationTests {
  /// Fetched in several parts.
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(9_000_000))

  /// One bit of a body is wrong, in the nth answer for bytes in the middle, or in every one.
  private func wrongBytes(nth: Int? = nil) -> ScriptedStore.Rule {
    ScriptedStore.Rule(
      .wrongBytes(atOffset: 1000), keySuffix: "chunk", rangeOverlaps: 5_000_000..<5_000_001,
      nth: nth)
  }

  private func state(_ rig: Rig, _ name: String = "chunk") throws -> String {
    String(
      decoding: try rig.fileSystem.attribute("user.inventoryfs.verified", of: try rig.node(name)),
      as: UTF8.self)
  }

  private func cachedBytes(_ rig: Rig) throws -> Int? {
    let name = "user.inventoryfs.cached_bytes"
    let text = try rig.fileSystem.attribute(name, of: try rig.node("chunk"))
    return Int(String(decoding: text, as: UTF8.self))
  }

  /// Moves the time on, one quiet time after another, until the comparison has led to this.
  private func advance(_ rig: Rig, until condition: () async throws -> Bool) async throws {
    try await InventoryFileSystemTests.until {
      try rig.clock.advance(by: .milliseconds(20))
      return try await condition()
    }
  }

  private func wait(_ rig: Rig, for state: String) async throws {
    try await advance(rig) { try self.state(rig) == state }
  }

  @Test("A chunk that was read is found right in the background")
  func background() async throws {
    try await Rig.run([chunk], verify: .background) { rig, _ in
      #expect(try state(rig) == "pending")
      try await rig.check(chunk)
      try await wait(rig, for: "ok")
      try await rig.check(chunk)
      #expect(try state(rig) == "ok")
    }
  }

  @Test("A chunk of which something was not read stays pending")
  func incomplete() async throws {
    try await Rig.run([chunk], verify: .background) { rig, store in
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      rig.fileSystem.close(file)
      try await store.untilIdle()
      try rig.clock.advance(by: .milliseconds(100))
      #expect(try rig.clock.planned(on: "background") == [], "nothing is to be compared")
      #expect(try state(rig) == "pending")
    }
  }

  @Test("Bytes that were wrong once are fetched again, and then right")
  func wrongOnce() async throws {
    try await Rig.run([chunk], faults: [wrongBytes(nth: 1)], verify: .background) { rig, store in
      // In one read, so that nothing is noticed in its midst.
      let first = try await rig.open("chunk")
      let isRight = try await rig.read(first, 0, chunk.bytes.count) == chunk.bytes
      #expect(!isRight, "else this shows nothing")
      rig.fileSystem.close(first)
      try await advance(rig) { try cachedBytes(rig) == 0 }
      try await rig.check(chunk)
      try await wait(rig, for: "ok")
      let file = try await rig.open("chunk")
      #expect(!file.mayKeepPages, "the kernel may have wrong ones")
      rig.fileSystem.close(file)
      #expect(store.bytesSentTwice(forKey: "chunk") <= chunk.bytes.count)
    }
  }

  @Test("Bytes that are always wrong are an error, and the other chunks are not")
  func wrongAlways() async throws {
    let other = Rig.Chunk(key: "other", bytes: content(100_000, seed: 2))
    try await Rig.run([chunk, other], faults: [wrongBytes()], verify: .background) { rig, store in
      _ = try await rig.contents("chunk")
      try await advance(rig) { await rig.failure("chunk") != nil }
      #expect(try state(rig) == "failed")
      let asked = store.gets("chunk").count
      #expect(await rig.failure("chunk") == .inputOutput)
      #expect(store.gets("chunk").count == asked, "it is not asked over and over")
      try await rig.check(other)
    }
  }

  @Test("Without an MD5 in the manifest nothing can be said")
  func manifests() async throws {
    let unverifiable = Rig.Chunk(key: "chunk", bytes: chunk.bytes, hasMD5: false)
    for mode in VerificationMode.allCases {
      try await Rig.run([unverifiable], verify: mode) { rig, _ in
        #expect(try state(rig) == "unverifiable")
        try await rig.check(unverifiable)
        #expect(try state(rig) == "unverifiable")
      }
    }
  }

  @Test("Off: nothing is compared")
  func off() async throws {
    // Wrong once: if it were noticed, the second reading would be right.
    try await Rig.run([chunk], faults: [wrongBytes(nth: 1)], verify: .off) { rig, store in
      for _ in 0..<2 {
        let isRight = try await rig.contents("chunk") == chunk.bytes
        #expect(!isRight)
        try await store.untilIdle()
        #expect(try rig.clock.planned(on: "background") == [], "nothing is to be compared")
      }
      #expect(try state(rig) == "pending")
    }
  }

  @Test("Strict: the last byte is not given out before the chunk was found right")
  func strict() async throws {
    let last = chunk.bytes.count - 1
    try await Rig.run([chunk], faults: [wrongBytes(nth: 1)], verify: .strict) { rig, store in
      let file = try await rig.open("chunk")
      defer { rig.fileSystem.close(file) }
      #expect(try await rig.read(file, last - 100, 100) == Array(chunk.bytes[last - 100..<last]))
      #expect(try state(rig) == "pending")
      #expect(try await rig.read(file, last, 1) == [chunk.bytes[last]])
      #expect(try state(rig) == "ok")
      let whole = try await rig.read(file, 0, chunk.bytes.count)
      #expect(whole == chunk.bytes, "the wrong byte had been dropped")
      #expect(store.bytesSentTwice(forKey: "chunk") > 0, "else this shows nothing")
    }
  }

  @Test("Strict: the last byte of a chunk that is always wrong is an error")
  func strictWrongAlways() async throws {
    try await Rig.run([chunk], faults: [wrongBytes()], verify: .strict) { rig, _ in
      let file = try await rig.open("chunk")
      defer { rig.fileSystem.close(file) }
      await #expect(throws: FileSystemError.inputOutput) {
        _ = try await rig.read(file, chunk.bytes.count - 1, 1)
      }
      #expect(try state(rig) == "failed")
      await #expect(throws: FileSystemError.inputOutput) { _ = try await rig.read(file, 0, 1) }
    }
  }

  @Test("Strict: many readers in a cache that holds one chunk at a time all get to the end")
  func strictInASmallCache() async throws {
    let chunks = (0..<6).map {
      Rig.Chunk(key: "chunk\($0)", bytes: content(5_000_000, seed: UInt64($0)))
    }
    try await Rig.run(chunks, cacheSizeInBytes: 16 << 20, verify: .strict) { rig, _ in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for chunk in chunks + chunks { group.addTask { try await rig.check(chunk) } }
        try await group.waitForAll()
      }
    }
  }

  @Test("A later run does not hash what an earlier one found right, and hashes what it did not")
  func restart() async throws {
    let folder = try CacheFolder()
    let store = ScriptedStore()
    store.put([chunk])
    func run(_ mode: VerificationMode, _ body: (Rig) async throws -> Void) async throws {
      let rig = try await untilFree {
        try Rig(store.connect(), [chunk], cachePath: folder.path, verify: mode)
      }
      defer { rig.fileSystem.shutDown() }
      try await body(rig)
    }
    try await run(.off) { try await $0.check(chunk) }
    try await run(.off) { rig in
      let state = try state(rig)
      #expect(state == "pending")
    }
    try await run(.background) { rig in
      // Opened, it is complete.
      rig.fileSystem.close(try await rig.open("chunk"))
      try await wait(rig, for: "ok")
    }
    // Off computes nothing, so that it can only know it.
    try await run(.off) { rig in
      #expect(try state(rig) == "ok")
      try await rig.check(chunk)
      #expect(try state(rig) == "ok")
    }
    let asked = store.requests.count
    try await run(.strict) { try await $0.check(chunk) }
    #expect(store.requests.count == asked)
    // A block that was not what had been stored is dropped, counted and fetched again.
    let data = try #require(try folder.chunkFiles(endingIn: ".data").first)
    let descriptor = open(data, O_WRONLY)
    #expect(pwrite(descriptor, [chunk.bytes[70_000] ^ 1], 1, 70_000) == 1)
    close(descriptor)
    try await run(.off) { rig in
      try await rig.check(chunk)
      let count = try rig.fileSystem.attribute("user.inventoryfs.damaged_blocks", of: .root)
      #expect(String(decoding: count, as: UTF8.self) == "1")
    }
    #expect(store.requests.count == asked + 1)
    try await run(.off) { rig in
      let state = try state(rig)
      #expect(state == "ok", "the same bytes are back")
    }
  }

  @Test("Nothing is sealed before it was found right, so that no crash leaves wrong bytes sealed")
  func sealedLast() async throws {
    for isRight in [true, false] {
      let folder = try CacheFolder()
      let headers = Lock(0)
      let store = ScriptedStore(isRight ? [] : [wrongBytes()])
      store.put([chunk])
      let rig = try Rig(
        store.connect(), [chunk], cachePath: folder.path,
        hook: { step in
          if step == .writeHeader { headers.withLock { $0 += 1 } }
          return nil
        }, verify: .strict)
      defer { rig.fileSystem.shutDown() }
      #expect(await rig.failure("chunk") == (isRight ? nil : .inputOutput))
      // The seal is written a moment after the reader has its last byte.
      if isRight { try await until { headers.withLock { $0 } >= 3 } }
      #expect(headers.withLock { $0 } == (isRight ? 3 : 2), "a new entry, its version, its seal")
    }
  }

  @Test("What was wrong is not in the cache for the next run")
  func wrongIsNotLeft() async throws {
    let folder = try CacheFolder()
    let store = ScriptedStore([wrongBytes()])
    store.put([chunk])
    do {
      let rig = try Rig(store.connect(), [chunk], cachePath: folder.path, verify: .strict)
      defer { rig.fileSystem.shutDown() }
      #expect(await rig.failure("chunk") == .inputOutput)
    }
    store.setRules([])
    let rig = try await untilFree {
      try Rig(store.connect(), [chunk], cachePath: folder.path, verify: .off)
    }
    defer { rig.fileSystem.shutDown() }
    try await rig.check(chunk)
  }
}
