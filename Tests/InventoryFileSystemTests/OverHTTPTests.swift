import AWSCredentials
import EmbeddedS3Origin
import InventoryFileSystem
import Logging
import ObjectStore
import ReadPlanning
import TestSupport
import Testing

/// The file system with the HTTP client and a server, by the machine's time: what the other tests
/// of this target, which have a `ScriptedStore`, take for granted.
///
/// Serial, because the client measures the pace of the store, and a test that runs beside another
/// one would make that slow.
@Suite(.serialized, .timeLimit(.minutes(2))) struct OverHTTPTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(8_000_000))

  /// Runs a server with the chunk, and a file system over it.
  private func run(
    faults: [FaultRule] = [], credentials: any CredentialsProvider = AnonymousCredentials(),
    readTimeout: Duration = .seconds(60), log: LogRecorder = LogRecorder(),
    _ body: (Rig, EmbeddedS3Origin) async throws -> Void
  ) async throws {
    let folder = try CacheFolder()
    try await EmbeddedS3Origin.run(
      OriginConfiguration(faultPlan: FaultPlan(rules: faults))
    ) { origin in
      origin.put(bucket: Rig.bucket, key: chunk.key, bytes: chunk.bytes)
      let url = try #require(origin.endpointURL)
      let store = try #require(
        ObjectStore(
          ObjectStoreConfiguration(
            endpoint: try S3Endpoint(url: url), region: "us-east-1", maxConnections: 8,
            networkThreadCount: 2, receiveBufferSizeInBytes: 64 << 10, readTimeout: readTimeout),
          credentials: credentials))
      let rig = try Rig(
        store, [chunk], cachePath: folder.path, readTimeout: readTimeout, clock: SystemClock(),
        logger: log.logger)
      defer { rig.fileSystem.shutDown() }
      try await body(rig, origin)
    }
  }

  @Test("Many readers of one chunk ask for no byte twice, and never without the version")
  func sharedReading() async throws {
    try await run { rig, origin in
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for reader in 0..<4 {
          group.addTask {
            try await rig.contents("chunk", pieceInBytes: 100_000 + reader * 31_111) == chunk.bytes
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
      #expect(await origin.bytesRequestedTwice(forKey: "chunk") == 0)
      let gets = await origin.requests(forKey: "chunk").filter { $0.method == "GET" }
      #expect(gets.count > 1)
      #expect(gets.first?.ifMatch == nil)
      #expect(gets.dropFirst().allSatisfy { $0.ifMatch != nil })
      #expect(gets.reduce(0) { $0 + $1.bodyBytesSent } == chunk.bytes.count)
    }
  }

  @Test(
    "A fault that passes is not noticed by the reader",
    arguments: [
      Fault.cutBody(afterBytes: 0), .cutBody(afterBytes: 200_000), .resetBody(afterBytes: 70_000),
      .status(503, code: "SlowDown", retryAfter: 0), .delay(.milliseconds(50)),
      .refuse(.milliseconds(30)),
    ])
  func passingFaults(fault: Fault) async throws {
    let third = FaultRule(fault, when: FaultMatch(nth: 3))
    let first = FaultRule(fault, when: FaultMatch(nth: 1))
    try await run(faults: [first, third]) { rig, origin in
      try await rig.check(chunk)
      #expect(await origin.totals().faultsByKind.values.reduce(0, +) >= 1)
    }
  }

  @Test("An object replaced while it is read is stale; who opens it anew reads the new one")
  func replacedWhileRead() async throws {
    let new = Rig.Chunk(key: "chunk", bytes: content(8_000_000, seed: 2))
    try await run { rig, origin in
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      origin.put(bucket: Rig.bucket, key: "chunk", bytes: new.bytes)
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 7_500_000, 4096) }
      rig.fileSystem.close(file)
      // Requests for the last reader may still be ending.
      try await until { await rig.failure("chunk") != .stale }
      try await rig.check(new)
    }
  }

  @Test(
    "An answer that cannot be right is an error, or does no harm",
    arguments: [
      Fault.ignoreRange, .wrongContentRange(shiftedBy: 65536), .wrongContentRange(shiftedBy: 1),
      .wrongLength(differingBy: 1), .wrongLength(differingBy: -1), .status(206, code: "Odd"),
      .redirect(region: "eu-west-1"), .wrongRegion(expecting: "eu-west-1"), .clockSkew,
    ])
  func wrongAnswers(fault: Fault) async throws {
    for first in [0, 1] {
      try await run(faults: [FaultRule(fault, when: FaultMatch(skippingFirst: first))]) {
        rig, origin in
        // Bytes far from the end: a range that was shifted past that would be noticed in any case.
        await #expect(throws: FileSystemError.inputOutput) {
          let file = try await rig.open("chunk")
          defer { rig.fileSystem.close(file) }
          _ = try await rig.read(file, 2_000_000, 4096)
        }
        let asked = await origin.totals().requests
        #expect(asked < 20, "it is not asked over and over")
        // Once the store is well again, so is the chunk.
        origin.setFaultPlan(FaultPlan())
        try await rig.check(chunk)
      }
    }
  }

  @Test("Without credentials an open is refused, however many wait")
  func noCredentials() async throws {
    let half = EnvironmentCredentials(environment: ["AWS_ACCESS_KEY_ID": "half"])
    try await run(credentials: half) { rig, origin in
      await withTaskGroup(of: FileSystemError?.self) { group in
        for _ in 0..<50 { group.addTask { await rig.failure("chunk") } }
        for await failure in group { #expect(failure == .accessDenied) }
      }
      #expect(await origin.totals().requests == 0)
    }
  }

  @Test("Shutting down ends a request that the store does not answer")
  func shutDown() async throws {
    try await run(faults: [FaultRule(.hangBeforeHead)]) { rig, origin in
      let open = try rig.start("chunk")
      try await until { await origin.totals().requests > 0 }
      rig.fileSystem.shutDown()
      await #expect(throws: FileSystemError.shuttingDown) { try await open.value() }
    }
  }

  @Test("One byte a second is a stall: the request is made anew")
  func trickle() async throws {
    let slow = FaultRule(.trickle(bytesPerSecond: 1), when: FaultMatch(nth: 2))
    try await run(faults: [slow], readTimeout: .seconds(20)) { rig, origin in
      try await rig.check(chunk)
      #expect(await origin.totals().faultsByKind["trickle"] == 1)
    }
  }

  @Test("An answer that does not begin is asked for again long before the reader gives up")
  func lostRequest() async throws {
    let lost = FaultRule(
      .hangBeforeHead, when: FaultMatch(rangeOverlaps: 6_000_000..<6_000_001), times: 1)
    let log = LogRecorder()
    try await run(faults: [lost], log: log) { rig, origin in
      let file = try await rig.open("chunk")
      // The store's usual pace becomes known.
      for index in 0..<10 { _ = try await rig.read(file, 2_000_000 + index * 131_072, 10) }
      let got = try await rig.read(file, 6_000_000, 4096)
      #expect(got == Array(chunk.bytes[6_000_000..<6_004_096]))
      rig.fileSystem.close(file)
    }
    let waits = log.messages.filter { $0.contains("no response within ") }
    #expect(
      waits.contains { !$0.contains("no response within 15 s") },
      "not the limit that holds without samples: \(waits)")
  }

  @Test("A store that has become slow is given more time with each attempt")
  func slowStore() async throws {
    let slow = FaultRule(
      .delay(.milliseconds(2500)), when: FaultMatch(rangeOverlaps: 6_000_000..<6_000_001))
    try await run(faults: [slow], readTimeout: .seconds(25)) { rig, _ in
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
    try await run(faults: [lost], readTimeout: .seconds(8)) { rig, _ in
      let file = try await rig.open("chunk")
      let got = try await rig.read(file, 6_000_000, 4096)
      #expect(got == Array(chunk.bytes[6_000_000..<6_004_096]))
      rig.fileSystem.close(file)
    }
  }

  @Test("An endpoint that does not speak TLS ends the loading after 5 s, and no sooner")
  func plainEndpoint() throws {
    let server = try #require(PlainServer(readsRequest: false) { $0.waitForBytes() })
    let store = try #require(
      ObjectStore(
        ObjectStoreConfiguration(
          endpoint: try S3Endpoint(url: "https://127.0.0.1:\(server.port)"), region: "us-east-1",
          maxConnections: 4, receiveBufferSizeInBytes: 64 << 10),
        credentials: AnonymousCredentials()))
    defer { store.shutDown() }
    let start = SuspendingClock.now
    // Who waited for `--read-timeout` would be waiting when the suite's time is over.
    let loader = InventoryLoader(
      bucketOverride: nil, readTimeout: .seconds(24 * 3600), logger: LogRecorder().logger)
    #expect(throws: InventoryLoadError.self) {
      try loader.load(
        S3Location(bucket: "bucket", key: "i/manifest.json"), from: store, maxRequests: 4)
    }
    #expect(SuspendingClock.now - start >= .seconds(5), "it may be there before they are over")
    #expect(server.connectionCount > 2, "the two files are asked for again")
  }
}
