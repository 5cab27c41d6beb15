import InventoryFileSystem
import ObjectStore
import Testing

/// What the store does wrong leads to the right bytes or to an error, never to wrong bytes and
/// never to waiting.
@Suite(.timeLimit(.minutes(2))) struct FaultTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(5_000_000))

  @Test(
    "A fault that passes is not noticed by the reader",
    arguments: [
      ScriptedStore.Fault.cut(afterBytes: 0), .cut(afterBytes: 1), .cut(afterBytes: 70_000),
      .cut(afterBytes: 200_000), .status(500, code: "InternalError"),
      .status(503, code: "SlowDown", retryAfter: 0), .status(503, code: "ServiceUnavailable"),
      .status(400, code: "RequestTimeout"), .fail(.connection(.refused, text: "refused")),
      .fail(.connection(.timeout, text: "nothing came")),
    ])
  func passingFaults(fault: ScriptedStore.Fault) async throws {
    try await Rig.run(
      [chunk], faults: [ScriptedStore.Rule(fault, nth: 1), ScriptedStore.Rule(fault, nth: 3)]
    ) { rig, store in
      try await rig.check(chunk)
      #expect(store.faultCount >= 1)
    }
  }

  @Test("What arrived before the connection broke is not asked for again")
  func resumption() async throws {
    try await Rig.run(
      [chunk], faults: [ScriptedStore.Rule(.cut(afterBytes: 200_000), nth: 2)]
    ) { rig, store in
      try await rig.check(chunk)
      #expect(store.bytesSentTwice(forKey: "chunk") == 0)
    }
  }

  @Test(
    "An answer that cannot be right is an error, or does no harm",
    arguments: [
      StoreError.Kind.malformedAnswer("status 200 with the whole object"),
      .wrongSize(expectedInBytes: 5_000_000, foundInBytes: 5_000_001),
      .rangeNotSatisfiable(objectSizeInBytes: 1000), .wrongRegion(expected: "eu-west-1"),
      .clockSkew(storeTime: nil),
    ])
  func wrongAnswers(kind: StoreError.Kind) async throws {
    for first in [0, 1] {
      try await Rig.run(
        [chunk], faults: [ScriptedStore.Rule(.fail(kind), skippingFirst: first)]
      ) { rig, store in
        await #expect(throws: FileSystemError.inputOutput) {
          let file = try await rig.open("chunk")
          defer { rig.fileSystem.close(file) }
          _ = try await rig.read(file, 2_000_000, 4096)
        }
        #expect(store.requests.count < 20, "it is not asked over and over")
        // Once the store is well again, so is the chunk.
        store.setRules([])
        try await rig.check(chunk)
      }
    }
  }

  @Test("Refusals are told apart")
  func refusals() async throws {
    for (fault, expected): (ScriptedStore.Fault, FileSystemError) in [
      (.status(404, code: "NoSuchKey"), .notFound), (.status(404, code: "NoSuchBucket"), .notFound),
      (.status(403, code: "AccessDenied"), .accessDenied),
      (.status(400, code: "ExpiredToken"), .accessDenied),
      (.status(403, code: "InvalidObjectState"), .inputOutput),
      (.status(501, code: "NotImplemented"), .inputOutput),
    ] {
      try await Rig.run([chunk], faults: [ScriptedStore.Rule(fault)]) { rig, store in
        #expect(await rig.failure("chunk") == expected, "\(fault)")
        #expect(store.requests.count == 1)
      }
    }
  }

  @Test(
    "An object that is not there is not found, with and without an MD5", arguments: [true, false])
  func missingObject(hasMD5: Bool) async throws {
    let missing = Rig.Chunk(key: "missing", bytes: content(1000), hasMD5: hasMD5)
    try await Rig.run([missing]) { rig, store in
      store.remove(key: "missing")
      #expect(await rig.failure("missing") == .notFound)
      store.put([missing])
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
    try await Rig.run(huge + [chunk]) { rig, store in
      for index in 0..<38 {
        await #expect(throws: FileSystemError.inputOutput) {
          _ = try await rig.open("huge\(index)")
        }
      }
      let asked = store.requests.count
      for index in 38..<40 {
        await #expect(throws: FileSystemError.tooLarge) { _ = try await rig.open("huge\(index)") }
      }
      #expect(store.requests.count == asked)
      try await rig.check(chunk)
    }
  }

  @Test(
    "A fault that stays ends in an error when the reader's time is over, after several attempts")
  func lastingFault() async throws {
    let clock = ManualClock(retries: .onTime)
    try await Rig.run(
      [chunk], faults: [ScriptedStore.Rule(.status(500, code: "InternalError"))],
      readTimeout: .seconds(6), clock: clock
    ) { rig, store in
      let open = try rig.start("chunk")
      while !open.isAnswered {
        try await clock.untilPlanned(on: "retries")
        clock.advanceToNext(within: .seconds(6))
      }
      await #expect(throws: FileSystemError.inputOutput) { try await open.value() }
      #expect(clock.now == .seconds(6))
      let asked = store.requests.count
      #expect((3...40).contains(asked), "\(asked) requests")
      #expect(store.requests.map(\.attempt) == Array(1...asked))
    }
  }
}
