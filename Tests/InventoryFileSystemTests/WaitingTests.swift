import EmbeddedS3Origin
import InventoryFileSystem
import Testing

/// Readers that wait, and what ends their waiting.
@Suite(.timeLimit(.minutes(1))) struct WaitingTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(8_000_000))
  /// The first request brings a chunk's beginning; nothing else ever comes.
  private let silence = [FaultRule(.hangBeforeHead, when: FaultMatch(skippingFirst: 1))]

  @Test("Shutting down fails whoever waits, and whoever comes afterwards")
  func shutDown() async throws {
    try await Rig.run([chunk], faults: silence) { rig, _ in
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      let reads = (0..<20).map { rig.start(file, 2_000_000 + $0 * 250_000, 100_000) }
      for read in reads { #expect(read.isParked) }
      rig.fileSystem.shutDown()
      for read in reads {
        await #expect(throws: FileSystemError.shuttingDown) { try await read.value() }
      }
      await #expect(throws: FileSystemError.shuttingDown) { try await rig.read(file, 0, 10) }
      await #expect(throws: FileSystemError.shuttingDown) { _ = try await rig.open("chunk") }
      rig.fileSystem.close(file)
      rig.fileSystem.shutDown()
    }
  }

  @Test(
    "Shutting down fails an open that waits, with and without an MD5", arguments: [true, false])
  func shutDownOpening(hasMD5: Bool) async throws {
    var chunk = chunk
    chunk.hasMD5 = hasMD5
    try await Rig.run([chunk], faults: [FaultRule(.hangBeforeHead)]) { rig, origin in
      async let failure = rig.failure("chunk")
      while await origin.totals().requests == 0 { try await Task.sleep(for: .milliseconds(5)) }
      rig.fileSystem.shutDown()
      let found = await failure
      #expect(found == .shuttingDown)
    }
  }

  @Test("Shutting down while parts wait for their next attempt ends too")
  func shutDownRetrying() async throws {
    let slow = FaultRule(
      .status(503, code: "SlowDown", retryAfter: 1), when: FaultMatch(skippingFirst: 1))
    try await Rig.run([chunk], faults: [slow]) { rig, origin in
      let file = try await rig.open("chunk")
      let read = rig.start(file, 5_000_000, 4096)
      while await origin.totals().requests < 2 { try await Task.sleep(for: .milliseconds(5)) }
      try await Task.sleep(for: .milliseconds(50))
      rig.fileSystem.shutDown()
      await #expect(throws: FileSystemError.shuttingDown) { try await read.value() }
      // The attempt that was planned comes due.
      try await Task.sleep(for: .milliseconds(1200))
    }
  }

  @Test("An interrupted read is told so once, and the next one is answered")
  func interruption() async throws {
    try await Rig.run([chunk], faults: silence) { rig, origin in
      let file = try await rig.open("chunk")
      let read = rig.start(file, 5_000_000, 4096)
      #expect(read.isParked)
      read.interrupt()
      await #expect(throws: FileSystemError.interrupted) { try await read.value() }
      read.interrupt()
      origin.setFaultPlan(FaultPlan())
      await origin.dropConnections()
      #expect(
        try await rig.read(file, 5_000_000, 4096) == Array(chunk.bytes[5_000_000..<5_004_096]))
      read.interrupt()
      rig.fileSystem.close(file)
    }
  }

  @Test("Interrupting at any moment gives the bytes or the interruption")
  func interruptionRace() async throws {
    try await Rig.run([chunk]) { rig, _ in
      let file = try await rig.open("chunk")
      for round in 0..<60 {
        let offset = round * 130_000
        let read = rig.start(file, offset, 5000)
        if round % 3 > 0 { for _ in 0..<(round % 7) { await Task.yield() } }
        read.interrupt()
        do {
          #expect(try await read.value() == Array(chunk.bytes[offset..<offset + 5000]))
        } catch {
          #expect(error as? FileSystemError == .interrupted)
        }
      }
      rig.fileSystem.close(file)
      try await rig.check(chunk)
    }
  }

  @Test("Nothing is fetched before it is known what the cache holds; then everyone is served")
  func beforeScan() async throws {
    let folder = try CacheFolder()
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put([chunk])
      let rig = try Rig(origin, [chunk], cachePath: folder.path, isCacheReady: false)
      defer { rig.fileSystem.shutDown() }
      async let contents = rig.contents("chunk")
      try await Task.sleep(for: .milliseconds(50))
      #expect(await origin.totals().requests == 0)
      rig.fileSystem.prepareCache()
      let bytes = try await contents
      #expect(bytes == chunk.bytes)
    }
  }

  @Test("A reader that closes during a retry leaves nothing behind that hinders the next")
  func closeWhileRetrying() async throws {
    let slow = FaultRule(.status(503, code: "SlowDown"), when: FaultMatch(skippingFirst: 1))
    try await Rig.run([chunk], faults: [slow]) { rig, origin in
      for _ in 0..<5 {
        let file = try await rig.open("chunk")
        let read = rig.start(file, 5_000_000, 4096)
        try await Task.sleep(for: .milliseconds(20))
        read.interrupt()
        _ = try? await read.value()
        rig.fileSystem.close(file)
      }
      origin.setFaultPlan(FaultPlan())
      try await rig.check(chunk)
    }
  }
}
