import InventoryFileSystem
import Locks
import TestSupport
import Testing

/// Readers that wait, and what ends their waiting.
@Suite(.timeLimit(.minutes(2))) struct WaitingTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(8_000_000))
  /// The first request brings a chunk's beginning; nothing else ever comes.
  private let silence = [ScriptedStore.Rule(.hold, skippingFirst: 1)]

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
    try await Rig.run([chunk], faults: [ScriptedStore.Rule(.hold)]) { rig, store in
      async let failure = rig.failure("chunk")
      try await until { !store.requests.isEmpty }
      rig.fileSystem.shutDown()
      let found = await failure
      #expect(found == .shuttingDown)
    }
  }

  @Test("Shutting down while parts wait for their next attempt ends too")
  func shutDownRetrying() async throws {
    let slow = ScriptedStore.Rule(
      .status(503, code: "SlowDown", retryAfter: 1), skippingFirst: 1)
    let clock = ManualClock(retries: .onTime)
    try await Rig.run([chunk], faults: [slow], clock: clock) { rig, store in
      let file = try await rig.open("chunk")
      let read = rig.start(file, 5_000_000, 4096)
      try await clock.untilPlanned(on: "retries")
      rig.fileSystem.shutDown()
      await #expect(throws: FileSystemError.shuttingDown) { try await read.value() }
      // The attempt that was planned comes due.
      let asked = store.requests.count
      clock.advance(by: .seconds(5))
      #expect(clock.planned(on: "retries") == [])
      #expect(store.requests.count == asked)
    }
  }

  @Test("Shutting down does not wait for the next attempt of an open without an MD5")
  func shutDownBetweenAttempts() async throws {
    var chunk = chunk
    chunk.hasMD5 = false
    let busy = ScriptedStore.Rule(.status(503, code: "SlowDown", retryAfter: 60))
    let clock = ManualClock(retries: .onTime)
    try await Rig.run([chunk], faults: [busy], clock: clock) { rig, _ in
      let open = try rig.start("chunk")
      // The next attempt is thirty seconds away, the end of all attempts sixty.
      try await clock.untilPlanned(on: "retries")
      #expect(clock.planned(on: "retries") == [.seconds(30)])
      #expect(clock.planned(on: "timeouts") == [.seconds(60)])
      rig.fileSystem.shutDown()
      #expect(open.isAnswered)
      await #expect(throws: FileSystemError.shuttingDown) { try await open.value() }
    }
  }

  @Test("An interrupted read is told so once, and the next one is answered")
  func interruption() async throws {
    try await Rig.run([chunk], faults: silence) { rig, store in
      let file = try await rig.open("chunk")
      let read = rig.start(file, 5_000_000, 4096)
      #expect(read.isParked)
      read.interrupt()
      await #expect(throws: FileSystemError.interrupted) { try await read.value() }
      read.interrupt()
      store.setRules([])
      store.dropConnections()
      #expect(
        try await rig.read(file, 5_000_000, 4096) == Array(chunk.bytes[5_000_000..<5_004_096]))
      read.interrupt()
      rig.fileSystem.close(file)
    }
  }

  @Test("The gauges of what is under way count it, and fall to 0 once it is given up")
  func gauges() async throws {
    try await Rig.run([chunk], faults: silence) { rig, store in
      func gauge(_ name: String) throws -> Int? {
        let value = try rig.fileSystem.attribute("user.inventoryfs.\(name)", of: .root)
        return Int(String(decoding: value, as: UTF8.self))
      }
      let underWay = [
        "open_files", "waiting", "parts_in_flight", "requests_in_flight", "pinned_bytes",
      ]
      let file = try await rig.open("chunk")
      let read = rig.start(file, 5_000_000, 4096)
      #expect(read.isParked)
      #expect(try gauge("open_files") == 1)
      #expect(try gauge("waiting") == 1)
      try await until { store.requests.count >= 2 }
      for name in underWay { #expect(try gauge(name) ?? 0 > 0, "\(name)") }
      // The opening's bytes come, if they are given the time.
      try await until { try gauge("received_bytes") ?? 0 > 0 }
      read.interrupt()
      await #expect(throws: FileSystemError.interrupted) { try await read.value() }
      #expect(try gauge("waiting") == 0)
      rig.fileSystem.close(file)
      try await store.untilIdle()
      for name in underWay { #expect(try gauge(name) == 0, "\(name)") }
      #expect(try gauge("requests") == 2)
      let (bytes, size) = (try gauge("cache_bytes") ?? 0, try gauge("cache_size") ?? 0)
      #expect(0 < bytes && bytes <= size)
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
    let store = ScriptedStore()
    store.put([chunk])
    let rig = try Rig(store.connect(), [chunk], cachePath: folder.path, isCacheReady: false)
    defer { rig.fileSystem.shutDown() }
    let open = try rig.start("chunk")
    #expect(open.isParked)
    try rig.clock.advance(by: .seconds(50))
    #expect(store.requests.isEmpty)
    rig.fileSystem.prepareCache()
    rig.fileSystem.close(try await open.value())
    try await rig.check(chunk)
  }

  @Test("A reader that closes during a retry leaves nothing behind that hinders the next")
  func closeWhileRetrying() async throws {
    let slow = ScriptedStore.Rule(.status(503, code: "SlowDown"), skippingFirst: 1)
    let clock = ManualClock(retries: .onTime)
    try await Rig.run([chunk], faults: [slow], clock: clock) { rig, store in
      for _ in 0..<5 {
        let file = try await rig.open("chunk")
        let before = clock.planned(on: "retries").count
        let read = rig.start(file, 5_000_000, 4096)
        try await clock.untilPlanned(before + 1, on: "retries")
        read.interrupt()
        _ = try? await read.value()
        rig.fileSystem.close(file)
      }
      try await store.untilIdle()
      store.setRules([])
      // The attempts come due that nobody waits for any more.
      clock.advance(by: .seconds(5))
      try await rig.check(chunk)
    }
  }
}

/// The longest that a reader waits.
@Suite(.timeLimit(.minutes(2))) struct ReadTimeoutTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(8_000_000))

  /// A file system with the chunk, and what it logs.
  private func run(
    faults: [ScriptedStore.Rule], _ log: LogRecorder, clock: ManualClock = ManualClock(),
    _ body: (Rig, ScriptedStore) async throws -> Void
  ) async throws {
    let folder = try CacheFolder()
    let store = ScriptedStore(faults)
    store.put([chunk])
    let rig = try Rig(
      store.connect(), [chunk], cachePath: folder.path, clock: clock, logger: log.logger)
    defer { rig.fileSystem.shutDown() }
    try await body(rig, store)
  }

  @Test(
    "An open that the store does not answer fails, with and without an MD5",
    arguments: [true, false],
    [ScriptedStore.Fault.hold, .status(503, code: "SlowDown", retryAfter: 60)])
  func open(hasMD5: Bool, fault: ScriptedStore.Fault) async throws {
    var chunk = chunk
    chunk.hasMD5 = hasMD5
    try await Rig.run(
      [chunk], faults: [ScriptedStore.Rule(fault)], readTimeout: .seconds(5),
      clock: ManualClock(retries: .onTime)
    ) { rig, store in
      let open = try rig.start("chunk")
      #expect(open.isParked)
      try await store.untilIdle()
      try rig.clock.advance(by: .seconds(5))
      await #expect(throws: FileSystemError.inputOutput) { try await open.value() }
      store.setRules([])
      store.dropConnections()
      try await store.untilIdle()
      try await rig.check(chunk)
    }
  }

  @Test("So does asking for the ETag of a chunk that was never read")
  func eTag() async throws {
    let clock = ManualClock(retries: .onTime)
    try await Rig.run(
      [chunk], faults: [ScriptedStore.Rule(.hold)], readTimeout: .milliseconds(300), clock: clock
    ) { rig, _ in
      let answer = TestAttribute()
      let outcome = try rig.fileSystem.attribute(
        "user.s3.etag", of: rig.node("chunk"), parked: { answer })
      guard case .parked = outcome else {
        Issue.record("it was not parked")
        return
      }
      clock.advance(by: .milliseconds(300))
      #expect(throws: FileSystemError.noSuchAttribute) { try answer.wait() }
    }
  }

  @Test("A read fails at its time although another part of the chunk still comes in")
  func read() async throws {
    let silence = ScriptedStore.Rule(.hold, rangeOverlaps: 5_000_000..<5_000_001)
    try await Rig.run([chunk], faults: [silence], readTimeout: .seconds(5)) { rig, _ in
      let file = try await rig.open("chunk")
      let reads = (0..<5).map { rig.start(file, 5_000_000 + $0, 4096) }
      for read in reads { #expect(read.isParked) }
      try rig.clock.advance(by: .seconds(5))
      for read in reads {
        await #expect(throws: FileSystemError.inputOutput) { try await read.value() }
      }
      let start = try await rig.read(file, 0, 4096)
      #expect(start == Array(chunk.bytes[..<4096]))
      rig.fileSystem.close(file)
    }
  }

  @Test("What did not come in time is not waited for again at once; a little later it is")
  func askingAgain() async throws {
    let silence = ScriptedStore.Rule(.hold, rangeOverlaps: 5_000_000..<5_000_001)
    try await Rig.run([chunk], faults: [silence], readTimeout: .seconds(5)) { rig, store in
      let file = try await rig.open("chunk")
      let reader = ImpatientReader(rig.fileSystem, file)
      try reader.start(4_900_000, 200_000, thenAtOnce: 5_000_000, 4096)
      try rig.clock.advance(by: .seconds(5))
      #expect(reader.errors == [.inputOutput, .inputOutput])
      #expect(reader.parkedCount == 1, "only the first had to wait")
      let elsewhere = try await rig.read(file, 7_000_000, 4096)
      #expect(elsewhere == Array(chunk.bytes[7_000_000..<7_004_096]))
      try rig.clock.advance(by: .seconds(2))
      store.setRules([])
      store.dropConnections()
      try await rig.check(chunk)
      rig.fileSystem.close(file)
    }
  }

  @Test("A read within its time outlasts a store that is gone for a while")
  func outage() async throws {
    let gone = ScriptedStore.Rule(
      .fail(.connection(.refused, text: "nobody is there")), skippingFirst: 1)
    let clock = ManualClock(retries: .onTime)
    try await Rig.run([chunk], faults: [gone], readTimeout: .seconds(30), clock: clock) {
      rig, store in
      let isOver = Lock(false)
      let reading = Task {
        defer { isOver.withLock { $0 = true } }
        try await rig.check(chunk)
      }
      while clock.now < .milliseconds(2500) {
        try await clock.untilPlanned(on: "retries")
        clock.advanceToNext(within: .seconds(5))
      }
      let failed = store.faultCount
      store.setRules([])
      try await until {
        clock.advanceToNext(within: .seconds(5))
        return isOver.withLock { $0 }
      }
      try await reading.value
      #expect(failed >= 3)
    }
  }

  @Test("An open without an MD5 is interrupted while the object is asked about")
  func interruption() async throws {
    var chunk = chunk
    chunk.hasMD5 = false
    try await Rig.run([chunk], faults: [ScriptedStore.Rule(.hold)]) { rig, store in
      let open = try rig.start("chunk")
      #expect(open.isParked)
      #expect(store.requests.count == 1)
      open.interrupt()
      #expect(open.isAnswered)
      await #expect(throws: FileSystemError.interrupted) { try await open.value() }
      // Without being cancelled the request would be held for ever.
      try await store.untilIdle()
      #expect(store.requests.allSatisfy { $0.isFinished })
    }
  }

  @Test("A store that goes on failing while readers wait is warned of once")
  func warning() async throws {
    for (times, warnings) in [(2, 0), (8, 1)] {
      let log = LogRecorder()
      let rule = ScriptedStore.Rule(.status(500, code: "InternalError"), times: times)
      try await run(faults: [rule], log) { rig, store in
        try await rig.check(chunk)
        #expect(store.faultCount == times)
      }
      let told = log.messages.filter { $0.hasPrefix("warning: ") }
      #expect(told.count == warnings && told.allSatisfy { $0.contains("InternalError") }, "\(told)")
    }
  }

  @Test("A store that asks to wait is asked again no sooner, by any reader")
  func retryAfter() async throws {
    let busy = ScriptedStore.Rule(
      .status(503, code: "SlowDown", retryAfter: 2), skippingFirst: 1, times: 1)
    let clock = ManualClock(retries: .onTime)
    try await run(faults: [busy], LogRecorder(), clock: clock) { rig, store in
      let file = try await rig.open("chunk")
      let first = rig.start(file, 6_000_000, 4096)
      try await clock.untilPlanned(on: "retries")
      let others = [2_000_000, 4_000_000].map { rig.start(file, $0, 4096) }
      for other in others { #expect(other.isParked) }
      clock.advance(by: .milliseconds(1999))
      try await store.untilIdle()
      #expect(store.requests.last?.status == 503, "nothing is asked for afterwards")
      clock.advance(by: .milliseconds(1))
      let got = try await first.value()
      #expect(got == Array(chunk.bytes[6_000_000..<6_004_096]))
      for other in others { _ = try await other.value() }
      rig.fileSystem.close(file)
    }
  }

  @Test("After 503 fewer requests are under way at once")
  func throttling() async throws {
    let clock = ManualClock(retries: .onTime)
    let held = ScriptedStore.Rule(.hold, skippingFirst: 1)
    try await Rig.run([chunk], faults: [held], clock: clock) { rig, store in
      let file = try await rig.open("chunk")
      // The opening has left its connection free.
      try await store.untilIdle()
      let reads = (0..<8).map { rig.start(file, 1_500_000 + $0 * 800_000, 4096) }
      // The first answered the open.
      #expect(store.requests.count == 1 + 8)
      store.setRules([ScriptedStore.Rule(.hold)])
      store.release(.status(503, code: "SlowDown"))
      try await clock.untilPlanned(8, on: "retries")
      clock.advance(by: .seconds(5))
      #expect(store.requests.count == 1 + 8 + 4, "half of eight, until one is answered")
      store.setRules([])
      store.release()
      for read in reads { _ = try await read.value() }
      rig.fileSystem.close(file)
    }
  }

  @Test("An object with a weak ETag is read, and its replacement noticed")
  func weakETag() async throws {
    try await Rig.run([chunk]) { rig, store in
      store.put(key: "chunk", bytes: chunk.bytes, eTag: "W/\"1\"")
      let file = try await rig.open("chunk")
      let got = try await rig.read(file, 5_000_000, 4096)
      #expect(got == Array(chunk.bytes[5_000_000..<5_004_096]))
      store.put(key: "chunk", bytes: chunk.bytes, eTag: "W/\"2\"")
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 7_500_000, 4096) }
      rig.fileSystem.close(file)
    }
  }

  @Test("An object whose ETag the cache cannot store is not read", arguments: [true, false])
  func longETag(hasMD5: Bool) async throws {
    let chunk = Rig.Chunk(key: "chunk", bytes: content(1000), hasMD5: hasMD5)
    try await Rig.run([chunk]) { rig, store in
      for (length, failure): (Int, FileSystemError?) in [(1025, .inputOutput), (1024, nil)] {
        let eTag = "\"" + String(repeating: "x", count: length - 2) + "\""
        store.put(key: "chunk", bytes: chunk.bytes, eTag: eTag)
        let found = await rig.failure("chunk")
        #expect(found == failure, "\(length) bytes")
      }
    }
  }

  @Test("A part of read-ahead that is given up takes nothing else with it")
  func lostReadAhead() async throws {
    // Seven failures in a row for one range: more attempts than are made for what nobody waits for.
    let broken = ScriptedStore.Rule(
      .status(500, code: "InternalError"), rangeOverlaps: 6_000_000..<6_000_001, times: 7)
    try await Rig.run([chunk], faults: [broken]) { rig, store in
      try await rig.check(chunk)
      #expect(store.faultCount == 7)
    }
  }
}

/// Asks for other bytes in the very moment in which it is told that the first did not come.
private final class ImpatientReader: ParkedRead {
  private let fileSystem: InventoryFileSystem
  private let file: OpenFile
  private let state = Lock<(errors: [FileSystemError], parkedCount: Int, next: (Int, Int)?)>(
    ([], 0, nil))

  init(_ fileSystem: InventoryFileSystem, _ file: OpenFile) {
    self.fileSystem = fileSystem
    self.file = file
  }

  var errors: [FileSystemError] { state.withLock { $0.errors } }
  var parkedCount: Int { state.withLock { $0.parkedCount } }

  func start(
    _ byteOffset: Int, _ count: Int, thenAtOnce nextByteOffset: Int, _ nextCount: Int
  ) throws {
    state.withLock { $0.next = (nextByteOffset, nextCount) }
    try read(byteOffset, count)
  }

  private func read(_ byteOffset: Int, _ count: Int) throws(FileSystemError) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
    defer { buffer.deallocate() }
    _ = try fileSystem.read(file, byteOffset: byteOffset, into: buffer) {
      state.withLock { $0.parkedCount += 1 }
      return self
    }
  }

  func ready() { Issue.record("there is nothing to read") }

  func fail(_ error: FileSystemError) {
    let next = state.withLock { state in
      state.errors.append(error)
      return exchange(&state.next, with: nil)
    }
    guard let (byteOffset, count) = next else { return }
    do {
      try read(byteOffset, count)
    } catch {
      state.withLock { $0.errors.append(error) }
    }
  }
}
