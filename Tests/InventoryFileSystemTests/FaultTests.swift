import AWSCredentials
import EmbeddedS3Origin
import InventoryFileSystem
import ObjectStore
import Testing

/// What the store does wrong leads to the right bytes or to an error, never to wrong bytes and never to waiting.
@Suite(.timeLimit(.minutes(20))) struct FaultTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(5_000_000))

  @Test(
    "A fault that passes is not noticed by the reader",
    arguments: [
      Fault.cutBody(afterBytes: 0), .cutBody(afterBytes: 1), .cutBody(afterBytes: 200_000),
      .resetBody(afterBytes: 0), .resetBody(afterBytes: 70_000),
      .status(500, code: "InternalError"), .status(503, code: "SlowDown", retryAfter: 0),
      .status(503, code: "ServiceUnavailable"), .status(400, code: "RequestTimeout"),
      .delay(.milliseconds(50)), .refuse(.milliseconds(30)),
    ])
  func passingFaults(fault: Fault) async throws {
    let everyThird = FaultRule(fault, when: FaultMatch(nth: 3))
    let first = FaultRule(fault, when: FaultMatch(nth: 1))
    try await Rig.run([chunk], faults: [first, everyThird]) { rig, origin in
      try await rig.check(chunk)
      #expect(await origin.totals().faultsByKind.values.reduce(0, +) >= 1)
    }
  }

  @Test("What arrived before the connection broke is not asked for again")
  func resumption() async throws {
    try await Rig.run(
      [chunk], faults: [FaultRule(.cutBody(afterBytes: 200_000), when: FaultMatch(nth: 2))]
    ) { rig, origin in
      try await rig.check(chunk)
      #expect(await origin.bytesSentTwice(forKey: "chunk") == 0)
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
      try await Rig.run(
        [chunk], faults: [FaultRule(fault, when: FaultMatch(skippingFirst: first))]
      ) { rig, origin in
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

  @Test("Refusals are told apart")
  func refusals() async throws {
    for (fault, expected): (Fault, FileSystemError) in [
      (.status(404, code: "NoSuchKey"), .notFound), (.status(404, code: "NoSuchBucket"), .notFound),
      (.status(403, code: "AccessDenied"), .accessDenied),
      (.status(400, code: "ExpiredToken"), .accessDenied),
      (.status(403, code: "InvalidObjectState"), .inputOutput),
      (.status(501, code: "NotImplemented"), .inputOutput),
    ] {
      try await Rig.run([chunk], faults: [FaultRule(fault)]) { rig, origin in
        #expect(await rig.failure("chunk") == expected, "\(fault)")
        #expect(await origin.totals().requests == 1)
      }
    }
  }

  @Test(
    "An object that is not there is not found, with and without an MD5", arguments: [true, false])
  func missingObject(hasMD5: Bool) async throws {
    let missing = Rig.Chunk(key: "missing", bytes: content(1000), hasMD5: hasMD5)
    try await Rig.run([missing]) { rig, origin in
      origin.remove(bucket: Rig.bucket, key: "missing")
      #expect(await rig.failure("missing") == .notFound)
      origin.put([missing])
      try await rig.check(missing)
    }
  }

  @Test(
    "A chunk whose size is not the manifest's cannot be opened", arguments: [999, 1001, 5_000_000],
    [true, false])
  func wrongSize(stated: Int, hasMD5: Bool) async throws {
    let wrong = Rig.Chunk(
      key: "wrong", bytes: content(1000), hasMD5: hasMD5, statedSizeInBytes: stated)
    try await Rig.run([wrong]) { rig, _ in
      await #expect(throws: FileSystemError.inputOutput) { _ = try await rig.open("wrong") }
    }
  }

  @Test("Sizes that the cache cannot keep the books of cost nothing, and nobody else anything")
  func hugeSizes() async throws {
    let huge = (0..<40).map {
      Rig.Chunk(
        key: "huge\($0)", bytes: content(1000), hasMD5: $0 < 39,
        statedSizeInBytes: $0 < 38 ? 30 << 30 : 1 << 50)
    }
    try await Rig.run(huge + [chunk]) { rig, origin in
      for index in 0..<38 {
        await #expect(throws: FileSystemError.inputOutput) {
          _ = try await rig.open("huge\(index)")
        }
      }
      let asked = await origin.totals().requests
      for index in 38..<40 {
        await #expect(throws: FileSystemError.tooLarge) { _ = try await rig.open("huge\(index)") }
      }
      #expect(await origin.totals().requests == asked)
      try await rig.check(chunk)
    }
  }

  @Test(
    "A fault that stays ends in an error when the reader's time is over, after several attempts")
  func lastingFault() async throws {
    try await Rig.run(
      [chunk], faults: [FaultRule(.status(500, code: "InternalError"))], readTimeout: .seconds(6)
    ) { rig, origin in
      await #expect(throws: FileSystemError.inputOutput) { _ = try await rig.open("chunk") }
      let asked = await origin.totals().requests
      #expect((3...40).contains(asked), "\(asked) requests")
    }
  }

  @Test("Without credentials an open is refused, however many wait")
  func noCredentials() async throws {
    let folder = try CacheFolder()
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put([chunk])
      let rig = try Rig(
        origin, [chunk], cachePath: folder.path,
        credentials: EnvironmentCredentials(environment: ["AWS_ACCESS_KEY_ID": "half"]))
      defer { rig.fileSystem.shutDown() }
      await withTaskGroup(of: FileSystemError?.self) { group in
        for _ in 0..<50 { group.addTask { await rig.failure("chunk") } }
        for await failure in group { #expect(failure == .accessDenied) }
      }
      #expect(await origin.totals().requests == 0)
    }
  }
}
