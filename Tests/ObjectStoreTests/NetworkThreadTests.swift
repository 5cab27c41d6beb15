import AWSCredentials
import Dispatch
import EmbeddedS3Origin
import Locks
import Testing

@testable import ObjectStore

@Suite("Transfers shared out between the network's threads", .timeLimit(.minutes(2)))
struct NetworkThreadTests {
  private static let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }

  private func run(
    threadCount: Int, maxConnections: Int, faults: [FaultRule] = [],
    willAnswer: (@Sendable (RequestRecord) -> Void)? = nil,
    trace: (@Sendable (_ line: () -> String) -> Void)? = nil,
    _ body: (ObjectStore, EmbeddedS3Origin) async throws -> Void
  ) async throws {
    var configuration = OriginConfiguration(
      firstByteDelay: .milliseconds(5), faultPlan: FaultPlan(rules: faults))
    configuration.willAnswer = willAnswer
    try await EmbeddedS3Origin.run(configuration) { origin in
      origin.put(bucket: "b", key: "k", bytes: Self.bytes)
      let url = try #require(origin.endpointURL)
      var settings = ObjectStoreConfiguration(
        endpoint: try S3Endpoint(url: url), region: "us-east-1", maxConnections: maxConnections,
        networkThreadCount: threadCount, receiveBufferSizeInBytes: 32 << 10)
      settings.trace = trace
      let store = try #require(ObjectStore(settings, credentials: AnonymousCredentials()))
      defer { store.shutDown() }
      try await body(store, origin)
    }
  }

  private func request(_ range: Range<Int>) -> ObjectRequest {
    ObjectRequest(
      S3Location(bucket: "b", key: "k"), range: range, objectSizeInBytes: Self.bytes.count)
  }

  @Test(
    "Many requests over three threads bring their own bytes, within the cap", arguments: [1, 3])
  func many(threadCount: Int) async throws {
    try await run(threadCount: threadCount, maxConnections: 7) { store, origin in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for reader in 0..<7 {
          group.addTask {
            for part in 0..<8 {
              let start = (reader * 8 + part) * 50_001
              let range = start..<start + 50_001
              let receiver = Collector()
              _ = store.get(request(range), to: receiver)
              let isRight = try await receiver.bytes().elementsEqual(Self.bytes[range])
              #expect(isRight)
            }
          }
        }
        try await group.waitForAll()
      }
      #expect(await origin.connections().mostAtOnce <= 7)
      #expect(await origin.totals().requests == 56)
      #expect(store.engines.freeCount == 7)
    }
  }

  @Test("The time of a request that waits for a connection begins when it is sent")
  func waitsForConnection() async throws {
    // A connection that is busy for longer than a response may take to begin, once it is known what
    // is usual.
    let slow = FaultRule(
      .trickle(bytesPerSecond: 4_000), when: FaultMatch(rangeOverlaps: 2_000_000..<2_000_001))
    try await run(threadCount: 1, maxConnections: 1, faults: [slow]) { store, origin in
      for _ in 0..<10 {
        let receiver = Collector()
        _ = store.get(request(0..<10), to: receiver)
        _ = try await receiver.bytes()
      }
      let busy = Collector()
      _ = store.get(request(2_000_000..<2_010_000), to: busy)
      let waiting = (0..<5).map { _ in Collector() }
      for receiver in waiting { _ = store.get(request(5..<9), to: receiver) }
      let heads = Lock<[Result<ResponseHead, StoreError>]>([])
      for _ in 0..<5 {
        store.head(S3Location(bucket: "b", key: "k"), objectSizeInBytes: nil) { answer in
          heads.withLock { $0.append(answer) }
        }
      }
      for receiver in waiting {
        let bytes = try await receiver.bytes()
        #expect(bytes == Array(Self.bytes[5..<9]))
      }
      _ = try await busy.bytes()
      let last = Collector()
      _ = store.get(request(5..<9), to: last)
      _ = try await last.bytes()
      #expect(heads.withLock { $0.map(\.isSuccess) } == Array(repeating: true, count: 5))
      #expect(await origin.totals().requests == 22)
      #expect(await origin.connections().mostAtOnce == 1)
      #expect(store.engines.freeCount == 1)
    }
  }

  @Test("A request that is cancelled while it waits for a connection is not sent")
  func cancelledInQueue() async throws {
    let hang = FaultRule(.hangBeforeHead, times: 1)
    try await run(threadCount: 1, maxConnections: 1, faults: [hang]) { store, origin in
      let hanging = Collector()
      let first = store.get(request(0..<10), to: hanging)
      let waiting = Collector()
      store.cancel(store.get(request(0..<10), to: waiting))
      let error = await #expect(throws: StoreError.self) { try await waiting.bytes() }
      #expect(error?.kind == .cancelled)
      store.cancel(first)
      _ = try? await hanging.bytes()
      #expect(await origin.totals().requests <= 1)
      #expect(store.engines.freeCount == 1)
    }
  }

  @Test("The trace names each request and its end, and no secret")
  func trace() async throws {
    let lines = Lock<[String]>([])
    let fault = FaultRule(.status(503, code: "SlowDown"), when: FaultMatch(method: "HEAD"))
    try await run(
      threadCount: 1, maxConnections: 2, faults: [fault],
      trace: { line in
        let text = line()
        lines.withLock { $0.append(text) }
      }
    ) { store, _ in
      let receiver = Collector()
      _ = store.get(request(100..<200), to: receiver)
      _ = try await receiver.bytes()
      _ = await withCheckedContinuation { goOn in
        store.head(S3Location(bucket: "b", key: "k"), objectSizeInBytes: nil, attempt: 2) {
          goOn.resume(returning: $0)
        }
      }
      let traced = lines.withLock { $0 }
      #expect(traced.count == 4, "\(traced)")
      #expect(traced.first == "GET s3://b/k bytes 100-199: sent")
      #expect(traced[1].hasPrefix("GET s3://b/k bytes 100-199: HTTP 206, 100 bytes in "))
      #expect(traced[2] == "HEAD s3://b/k, attempt 2: sent")
      #expect(traced[3].hasPrefix("HEAD s3://b/k, attempt 2: HTTP 503, 0 bytes in "))
    }
  }

  @Test("A refused request, a corrected one and one that nobody wants leave their places")
  func failures() async throws {
    let faults = [
      FaultRule(.status(403, code: "AccessDenied"), times: 1),
      FaultRule(.cutBody(afterBytes: 100), times: 1),
      FaultRule(.clockSkew, times: 1),
    ]
    try await run(threadCount: 2, maxConnections: 3, faults: faults) { store, _ in
      for _ in 0..<4 {
        let receiver = Collector()
        _ = store.get(request(0..<1000), to: receiver)
        _ = try? await receiver.bytes()
        #expect(store.engines.freeCount == 3)
      }
      let refusing = Collector(takesBytes: false)
      _ = store.get(request(0..<1000), to: refusing)
      await #expect(throws: StoreError.self) { try await refusing.bytes() }
      #expect(store.engines.freeCount == 3)
    }
  }

  @Test("A cancelled request ends, on whichever thread it is, and leaves its place to the next")
  func cancelled() async throws {
    let hang = FaultRule(.hangBeforeHead, times: 4)
    let asked = DispatchSemaphore(value: 0)
    try await run(
      threadCount: 2, maxConnections: 4, faults: [hang], willAnswer: { _ in asked.signal() }
    ) { store, _ in
      let hanging = (0..<4).map { _ in Collector() }
      let transfers = hanging.map { store.get(request(0..<10), to: $0) }
      // Not by a task, which may have to wait for a thread longer than a request may hang.
      DispatchQueue(label: "cancel").async {
        for _ in transfers { asked.wait() }
        for transfer in transfers { store.cancel(transfer) }
      }
      for receiver in hanging {
        let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
        #expect(error?.kind == .cancelled)
      }
      #expect(store.engines.freeCount == 4)
      let after = (0..<4).map { _ in Collector() }
      for receiver in after { _ = store.get(request(5..<9), to: receiver) }
      for receiver in after {
        let bytes = try await receiver.bytes()
        #expect(bytes == Array(Self.bytes[5..<9]))
      }
    }
  }
}

extension Result {
  fileprivate var isSuccess: Bool { (try? get()) != nil }
}
