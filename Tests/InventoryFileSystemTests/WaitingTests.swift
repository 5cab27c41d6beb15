import EmbeddedS3Origin
import InventoryFileSystem
import Locks
import TestSupport
import Testing

/// Readers that wait, and what ends their waiting.
@Suite(.timeLimit(.minutes(20))) struct WaitingTests {
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

  @Test("Shutting down does not wait for the next attempt of an open without an MD5")
  func shutDownBetweenAttempts() async throws {
    var chunk = chunk
    chunk.hasMD5 = false
    let busy = FaultRule(.status(503, code: "SlowDown", retryAfter: 60))
    try await Rig.run([chunk], faults: [busy]) { rig, origin in
      let answer = Lock<Result<OpenFile, any Error>?>(nil)
      _ = try rig.fileSystem.open(rig.node("chunk")) {
        TestOpen { result in answer.withLock { $0 = result } }
      }
      while await origin.totals().requests == 0 { try await Task.sleep(for: .milliseconds(5)) }
      try await Task.sleep(for: .milliseconds(100))
      rig.fileSystem.shutDown()
      // The next attempt is thirty seconds away.
      for _ in 0..<4000 where answer.withLock({ $0 == nil }) {
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(throws: FileSystemError.shuttingDown) { try #require(answer.withLock { $0 }).get() }
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

  @Test("The gauges of what is under way count it, and fall to 0 once it is given up")
  func gauges() async throws {
    try await Rig.run([chunk], faults: silence) { rig, origin in
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
      while await origin.totals().requests < 2 { try await Task.sleep(for: .milliseconds(5)) }
      for name in underWay { #expect(try gauge(name) ?? 0 > 0, "\(name)") }
      read.interrupt()
      await #expect(throws: FileSystemError.interrupted) { try await read.value() }
      #expect(try gauge("waiting") == 0)
      rig.fileSystem.close(file)
      for name in underWay {
        while try gauge(name) != 0 { try await Task.sleep(for: .milliseconds(5)) }
      }
      #expect(try gauge("requests") == 2)
      #expect(try gauge("received_bytes") ?? 0 > 0)
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

/// The longest that a reader waits.
@Suite(.timeLimit(.minutes(20))) struct ReadTimeoutTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(8_000_000))

  /// A file system with the chunk, and what it logs.
  private func run(
    faults: [FaultRule], _ log: LogRecorder,
    _ body: (Rig, EmbeddedS3Origin) async throws -> Void
  ) async throws {
    let folder = try CacheFolder()
    try await EmbeddedS3Origin.run(
      OriginConfiguration(faultPlan: FaultPlan(rules: faults))
    ) { origin in
      origin.put([chunk])
      let rig = try Rig(origin, [chunk], cachePath: folder.path, logger: log.logger)
      defer { rig.fileSystem.shutDown() }
      try await body(rig, origin)
    }
  }

  @Test(
    "An open that the store does not answer fails, with and without an MD5",
    arguments: [true, false],
    [Fault.hangBeforeHead, .status(503, code: "SlowDown", retryAfter: 60)])
  func open(hasMD5: Bool, fault: Fault) async throws {
    var chunk = chunk
    chunk.hasMD5 = hasMD5
    try await Rig.run([chunk], faults: [FaultRule(fault)], readTimeout: .seconds(5)) {
      rig, origin in
      await #expect(throws: FileSystemError.inputOutput) { _ = try await rig.open("chunk") }
      origin.setFaultPlan(FaultPlan())
      await origin.dropConnections()
      try await rig.check(chunk)
    }
  }

  @Test("So does asking for the ETag of a chunk that was never read")
  func eTag() async throws {
    try await Rig.run(
      [chunk], faults: [FaultRule(.hangBeforeHead)], readTimeout: .milliseconds(300)
    ) { rig, _ in
      let node = try rig.node("chunk")
      #expect(throws: FileSystemError.inputOutput) {
        try rig.fileSystem.attribute("user.s3.etag", of: node)
      }
    }
  }

  @Test("A read fails at its time although another part of the chunk still comes in")
  func read() async throws {
    let silence = FaultRule(.hangBeforeHead, when: FaultMatch(rangeOverlaps: 5_000_000..<5_000_001))
    try await Rig.run([chunk], faults: [silence], readTimeout: .seconds(5)) { rig, _ in
      let file = try await rig.open("chunk")
      let reads = (0..<5).map { rig.start(file, 5_000_000 + $0, 4096) }
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
    let silence = FaultRule(.hangBeforeHead, when: FaultMatch(rangeOverlaps: 5_000_000..<5_000_001))
    try await Rig.run([chunk], faults: [silence], readTimeout: .seconds(5)) { rig, origin in
      let file = try await rig.open("chunk")
      let reader = ImpatientReader(rig.fileSystem, file)
      try reader.start(4_900_000, 200_000, thenAtOnce: 5_000_000, 4096)
      while reader.errors.count < 2 { try await Task.sleep(for: .milliseconds(20)) }
      #expect(reader.errors == [.inputOutput, .inputOutput])
      #expect(reader.parkedCount == 1, "only the first had to wait")
      let elsewhere = try await rig.read(file, 7_000_000, 4096)
      #expect(elsewhere == Array(chunk.bytes[7_000_000..<7_004_096]))
      try await Task.sleep(for: .seconds(2))
      origin.setFaultPlan(FaultPlan())
      await origin.dropConnections()
      try await rig.check(chunk)
      rig.fileSystem.close(file)
    }
  }

  @Test("A read within its time outlasts a store that is gone for a while")
  func outage() async throws {
    let gone = FaultRule(.refuse(.milliseconds(2500)), when: FaultMatch(nth: 2))
    try await Rig.run([chunk], faults: [gone], readTimeout: .seconds(30)) { rig, origin in
      try await rig.check(chunk)
      #expect(await origin.totals().faultsByKind["refuse"] == 1)
    }
  }

  @Test("An open without an MD5 is interrupted while the object is asked about")
  func interruption() async throws {
    var chunk = chunk
    chunk.hasMD5 = false
    try await Rig.run([chunk], faults: [FaultRule(.hangBeforeHead)]) { rig, origin in
      let answer = Lock<Result<OpenFile, any Error>?>(nil)
      let outcome = try rig.fileSystem.open(rig.node("chunk")) {
        TestOpen { result in answer.withLock { $0 = result } }
      }
      guard case .parked(let interruption) = outcome else {
        Issue.record("it was not parked")
        return
      }
      while await origin.totals().requests == 0 { try await Task.sleep(for: .milliseconds(5)) }
      interruption?.interrupt()
      while answer.withLock({ $0 == nil }) { try await Task.sleep(for: .milliseconds(5)) }
      #expect(throws: FileSystemError.interrupted) { try answer.withLock { $0 }?.get() }
      // Without being cancelled the request hangs for fifteen seconds.
      let end = SuspendingClock.now + .seconds(12)
      while await origin.connections().live > 0, SuspendingClock.now < end {
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(await origin.connections().live == 0)
    }
  }

  @Test("A store that goes on failing while readers wait is warned of once")
  func warning() async throws {
    for (times, warnings) in [(2, 0), (8, 1)] {
      let log = LogRecorder()
      let rule = FaultRule(.status(500, code: "InternalError"), times: times)
      try await run(faults: [rule], log) { rig, origin in
        try await rig.check(chunk)
        #expect(await origin.totals().faultsByKind["status"] == times)
      }
      let told = log.messages.filter { $0.hasPrefix("warning: ") }
      #expect(told.count == warnings && told.allSatisfy { $0.contains("InternalError") }, "\(told)")
    }
  }

  @Test("One byte a second is a stall: the request is made anew")
  func trickle() async throws {
    let slow = FaultRule(.trickle(bytesPerSecond: 1), when: FaultMatch(nth: 2))
    try await Rig.run([chunk], faults: [slow], readTimeout: .seconds(20)) { rig, origin in
      try await rig.check(chunk)
      #expect(await origin.totals().faultsByKind["trickle"] == 1)
    }
  }

  @Test("An answer that does not begin is asked for again long before the reader gives up")
  func lostRequest() async throws {
    let lost = FaultRule(
      .hangBeforeHead, when: FaultMatch(rangeOverlaps: 6_000_000..<6_000_001), times: 1)
    let log = LogRecorder()
    try await run(faults: [lost], log) { rig, origin in
      let file = try await rig.open("chunk")
      // The store's usual pace becomes known.
      for index in 0..<10 { _ = try await rig.read(file, 2_000_000 + index * 131_072, 10) }
      let got = try await rig.read(file, 6_000_000, 4096)
      #expect(got == Array(chunk.bytes[6_000_000..<6_004_096]))
      rig.fileSystem.close(file)
    }
    let waits = log.messages.filter { $0.contains("no answer within ") }
    #expect(
      waits.contains { !$0.contains("no answer within 15.0 seconds") },
      "not the limit that holds without samples: \(waits)")
  }

  @Test("A store that has become slow is given more time with each attempt")
  func slowStore() async throws {
    let slow = FaultRule(
      .delay(.milliseconds(2500)), when: FaultMatch(rangeOverlaps: 6_000_000..<6_000_001))
    try await Rig.run([chunk], faults: [slow], readTimeout: .seconds(25)) { rig, _ in
      let file = try await rig.open("chunk")
      for index in 0..<10 { _ = try await rig.read(file, 2_000_000 + index * 131_072, 10) }
      let got = try await rig.read(file, 6_000_000, 4096)
      #expect(got == Array(chunk.bytes[6_000_000..<6_004_096]))
      rig.fileSystem.close(file)
    }
  }

  @Test("A short time to read leaves time for more than one attempt")
  func shortTime() async throws {
    let lost = FaultRule(.hangBeforeHead, when: FaultMatch(skippingFirst: 1), times: 1)
    try await Rig.run([chunk], faults: [lost], readTimeout: .seconds(8)) { rig, _ in
      let file = try await rig.open("chunk")
      let got = try await rig.read(file, 6_000_000, 4096)
      #expect(got == Array(chunk.bytes[6_000_000..<6_004_096]))
      rig.fileSystem.close(file)
    }
  }

  @Test("A store that asks to wait is asked again no sooner, by any reader")
  func retryAfter() async throws {
    let busy = FaultRule(
      .status(503, code: "SlowDown", retryAfter: 2), when: FaultMatch(skippingFirst: 1), times: 1)
    let log = LogRecorder()
    try await run(faults: [busy], log) { rig, origin in
      let file = try await rig.open("chunk")
      let first = rig.start(file, 6_000_000, 4096)
      while !log.messages.contains(where: { $0.contains("trying again in") }) {
        try await Task.sleep(for: .milliseconds(5))
      }
      let others = [2_000_000, 4_000_000].map { rig.start(file, $0, 4096) }
      let got = try await first.value()
      #expect(got == Array(chunk.bytes[6_000_000..<6_004_096]))
      for other in others { _ = try await other.value() }
      rig.fileSystem.close(file)
      let requests = await origin.requests()
      let refused = try #require(requests.first { $0.status == 503 })
      let next = try #require(requests.first { $0.number > refused.number })
      #expect(next.receivedAtInMilliseconds - refused.receivedAtInMilliseconds >= 1990)
    }
  }

  @Test("After 503 fewer requests are under way at once")
  func throttling() async throws {
    let busy = FaultRule(
      .status(503, code: "SlowDown"), when: FaultMatch(skippingFirst: 1), times: 8)
    try await Rig.run([chunk], faults: [busy], firstByteDelay: .milliseconds(400)) { rig, origin in
      let file = try await rig.open("chunk")
      let reads = (0..<8).map { rig.start(file, 1_500_000 + $0 * 800_000, 4096) }
      for read in reads { _ = try await read.value() }
      rig.fileSystem.close(file)
      // The first answered the open; half of eight may be asked for together until one is answered.
      let times = await origin.requests().filter { $0.status == 206 }.dropFirst()
        .map(\.receivedAtInMilliseconds).sorted()
      try #require(times.count >= 8)
      #expect(times[4] - times[0] >= 390)
    }
  }

  @Test("An object with a weak ETag is read, and its replacement noticed")
  func weakETag() async throws {
    try await Rig.run([chunk]) { rig, origin in
      origin.put(bucket: Rig.bucket, key: "chunk", bytes: chunk.bytes, eTag: "W/\"1\"")
      let file = try await rig.open("chunk")
      let got = try await rig.read(file, 5_000_000, 4096)
      #expect(got == Array(chunk.bytes[5_000_000..<5_004_096]))
      origin.put(bucket: Rig.bucket, key: "chunk", bytes: chunk.bytes, eTag: "W/\"2\"")
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 7_500_000, 4096) }
      rig.fileSystem.close(file)
    }
  }

  @Test("An object whose ETag the cache cannot store is not read", arguments: [true, false])
  func longETag(hasMD5: Bool) async throws {
    let chunk = Rig.Chunk(key: "chunk", bytes: content(1000), hasMD5: hasMD5)
    try await Rig.run([chunk]) { rig, origin in
      for (length, failure): (Int, FileSystemError?) in [(1025, .inputOutput), (1024, nil)] {
        // With the quotes.
        origin.put(
          bucket: Rig.bucket, key: "chunk", bytes: chunk.bytes,
          eTag: String(repeating: "x", count: length - 2))
        let found = await rig.failure("chunk")
        #expect(found == failure, "\(length) bytes")
      }
    }
  }

  @Test("A part of read-ahead that is given up takes nothing else with it")
  func lostReadAhead() async throws {
    // Seven failures in a row for one range: more attempts than are made for what nobody waits for.
    let broken = FaultRule(
      .status(500, code: "InternalError"),
      when: FaultMatch(rangeOverlaps: 6_000_000..<6_000_001), times: 7)
    try await Rig.run([chunk], faults: [broken]) { rig, origin in
      try await rig.check(chunk)
      #expect(await origin.totals().faultsByKind["status"] == 7)
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
