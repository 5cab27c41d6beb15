import AWSCredentials
import Dispatch
import EmbeddedS3Origin
import Locks
import ObjectStore
import Testing

/// Refusals that say what to do better: the request is sent again, once, and what was learnt stays.
@Suite(.timeLimit(.minutes(2))) struct CorrectionTests {
  private static let object = S3Location(bucket: "bucket", key: "key")

  /// A store with one object of three bytes, and who asks it.
  private func run(
    _ configuration: OriginConfiguration,
    credentials: any CredentialsProvider = StaticCredentials(
      Credentials(accessKeyID: "AK", secretAccessKey: "SK")),
    region: String = "us-east-1",
    _ body: (ObjectStore, EmbeddedS3Origin) async throws -> Void
  ) async throws {
    try await EmbeddedS3Origin.run(configuration) { origin in
      origin.put(bucket: "bucket", key: "key", bytes: [1, 2, 3])
      let url = try #require(origin.endpointURL)
      let configuration = ObjectStoreConfiguration(
        endpoint: try S3Endpoint(url: url), region: region, maxConnections: 4,
        receiveBufferSizeInBytes: 64 << 10)
      let store = try #require(ObjectStore(configuration, credentials: credentials))
      defer { store.shutDown() }
      try await body(store, origin)
    }
  }

  @Test(
    "A clock that is hours off is corrected by the store's, for GET and for HEAD",
    arguments: [true, false])
  func clockSkew(headFirst: Bool) async throws {
    let configuration = OriginConfiguration(
      credentials: ["AK": "SK"], clockOffset: .seconds(5 * 3600))
    try await run(configuration) { store, origin in
      if headFirst { try await store.expectFacts() }
      try await store.expectObject()
      try await store.expectFacts()
      #expect(await origin.totals().requests == (headFirst ? 4 : 3), "only the first was refused")
    }
  }

  @Test("The region that the store names is signed for from then on")
  func region() async throws {
    let configuration = OriginConfiguration(credentials: ["AK": "SK"], region: "eu-south-1")
    try await run(configuration) { store, origin in
      try await store.expectObject()
      try await store.expectObject()
      #expect(await origin.totals().requests == 3)
    }
  }

  @Test("A store that keeps naming other regions is asked twice, and nobody else is")
  func redirects() async throws {
    let configuration = OriginConfiguration(
      credentials: ["AK": "SK"],
      faultPlan: FaultPlan(rules: [FaultRule(.redirect(region: "eu-west-1"))]))
    try await run(configuration) { store, origin in
      let error = await #expect(throws: StoreError.self) { try await store.bytes() }
      #expect(error?.kind == .wrongRegion(expected: "eu-west-1"))
      #expect(await origin.totals().requests == 2)
    }
  }

  @Test(
    "Renewed credentials are found when the old ones have expired, for GET and for HEAD",
    arguments: [true, false])
  func expiredToken(headFirst: Bool) async throws {
    let renewing = RenewingCredentials()
    let accounts: [String: OriginCredential] = [
      "AK1": OriginCredential(secretKey: "S1", sessionToken: "T1", expiresAt: 1),
      "AK2": OriginCredential(secretKey: "S2", sessionToken: "T2"),
    ]
    try await run(
      OriginConfiguration(credentials: accounts), credentials: renewing
    ) { store, origin in
      await #expect(throws: StoreError.self) { try await store.bytes() }
      renewing.renew()
      // No sooner is a source asked again for what was refused.
      try await Task.sleep(for: .seconds(1))
      if headFirst { try await store.expectFacts() }
      try await store.expectObject()
      #expect(await origin.totals().requests == (headFirst ? 4 : 3), "one more was refused")
    }
  }

  @Test("Credentials that a refresh does not change are not tried again")
  func expiredForGood() async throws {
    let accounts: [String: OriginCredential] = [
      "AK1": OriginCredential(secretKey: "S1", sessionToken: "T1", expiresAt: 1)
    ]
    try await run(
      OriginConfiguration(credentials: accounts), credentials: RenewingCredentials()
    ) { store, origin in
      let error = await #expect(throws: StoreError.self) { try await store.bytes() }
      #expect(error?.kind == .expiredToken)
      #expect(await origin.totals().requests == 1)
    }
  }

  @Test(
    "What cannot succeed is asked for once",
    arguments: [
      .status(403, code: "AccessDenied"), .status(404, code: "NoSuchKey"),
      .status(412, code: "PreconditionFailed"), .status(400, code: "InvalidRequest"),
    ] as [Fault])
  func refusals(fault: Fault) async throws {
    let configuration = OriginConfiguration(
      credentials: ["AK": "SK"], faultPlan: FaultPlan(rules: [FaultRule(fault)]))
    try await run(configuration) { store, origin in
      await #expect(throws: StoreError.self) { try await store.bytes() }
      await #expect(throws: StoreError.self) { try await store.head() }
      #expect(await origin.totals().requests == 2)
    }
  }

  @Test("A weak ETag is not sent in If-Match, which it could never match")
  func weakETag() async throws {
    try await run(OriginConfiguration(credentials: ["AK": "SK"])) { store, origin in
      origin.put(bucket: "bucket", key: "key", bytes: [4], eTag: "W/\"x\"")
      let weak = try await store.bytes(ifMatch: "W/\"x\"")
      #expect(weak == [4])
      origin.put(bucket: "bucket", key: "key", bytes: [4], eTag: "x")
      let strong = try await store.bytes(ifMatch: "\"x\"")
      #expect(strong == [4])
      await #expect(throws: StoreError.self) { try await store.bytes(ifMatch: "\"y\"") }
      #expect(await origin.requests().map(\.ifMatch) == [nil, "\"x\"", "\"y\""])
    }
  }

  @Test("A request that is cancelled while it is being corrected ends, and once")
  func cancellation() async throws {
    let rules = [
      FaultRule(.wrongRegion(expecting: "eu-west-1"), times: 1), FaultRule(.hangBeforeHead),
    ]
    var configuration = OriginConfiguration(
      credentials: ["AK": "SK"], faultPlan: FaultPlan(rules: rules))
    let second = DispatchSemaphore(value: 0)
    configuration.willAnswer = { if $0.number == 2 { second.signal() } }
    try await run(configuration) { store, _ in
      let receiver = Collector()
      let transfer = store.get(ObjectRequest(Self.object), to: receiver)
      // Not by a task, which may have to wait for a thread longer than a request may hang.
      DispatchQueue(label: "cancel").async {
        second.wait()
        store.cancel(transfer)
      }
      let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
      #expect(error?.kind == .cancelled)
    }
  }
}

/// A source of credentials may take long, and nobody has to wait for it.
@Suite(.timeLimit(.minutes(2))) struct WaitingForCredentialsTests {
  private final class Hung: CredentialsProvider {
    let gate = DispatchSemaphore(value: 0)
    /// How often it answers before it hangs.
    let answers: Lock<Int>
    var whereItLooks: String { "the test" }

    init(answers: Int) { self.answers = Lock(answers) }

    func credentials() -> Credentials? {
      let left = answers.withLock { left in
        left -= 1
        return left
      }
      if left < 0 { gate.wait() }
      return Credentials(accessKeyID: "AK\(left)", secretAccessKey: "SK")
    }
  }

  @Test(
    "A request that is cancelled while its credentials are looked for ends at once, and once",
    arguments: [0, 1])
  func cancellation(answers: Int) async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration(credentials: ["AK": "SK"])) { origin in
      let configuration = ObjectStoreConfiguration(
        endpoint: try S3Endpoint(url: try #require(origin.endpointURL)), region: "us-east-1",
        maxConnections: 1, receiveBufferSizeInBytes: 64 << 10)
      let hung = Hung(answers: answers)
      let store = try #require(ObjectStore(configuration, credentials: hung))
      let receiver = Collector()
      let transfer = store.get(
        ObjectRequest(S3Location(bucket: "bucket", key: "key")), to: receiver)
      while hung.answers.withLock({ $0 }) >= 0 { try await Task.sleep(for: .milliseconds(2)) }
      store.cancel(transfer)
      let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
      #expect(error?.kind == .cancelled)
      hung.gate.signal()
      try await Task.sleep(for: .milliseconds(50))
      store.shutDown()
      #expect(await origin.totals().requests == answers)
    }
  }
}

extension ObjectStore {
  fileprivate func expectObject(at location: SourceLocation = #_sourceLocation) async throws {
    let found = try await bytes()
    #expect(found == [1, 2, 3], sourceLocation: location)
  }

  fileprivate func expectFacts(at location: SourceLocation = #_sourceLocation) async throws {
    let found = try await head()
    #expect(found.contentLength == 3, sourceLocation: location)
  }

  fileprivate func bytes(ifMatch: String? = nil) async throws -> [UInt8] {
    let receiver = Collector()
    _ = get(
      ObjectRequest(S3Location(bucket: "bucket", key: "key"), ifMatch: ifMatch), to: receiver)
    return try await receiver.bytes()
  }

  fileprivate func head() async throws -> ResponseHead {
    try await withCheckedThrowingContinuation { continuation in
      head(S3Location(bucket: "bucket", key: "key"), objectSizeInBytes: nil) {
        continuation.resume(with: $0)
      }
    }
  }
}

/// The first credentials, until somebody has renewed them.
private final class RenewingCredentials: CredentialsProvider {
  private let isRenewed = Lock(false)
  var whereItLooks: String { "the test" }

  func renew() { isRenewed.withLock { $0 = true } }

  func credentials() -> Credentials? {
    isRenewed.withLock { renewed in
      renewed
        ? Credentials(accessKeyID: "AK2", secretAccessKey: "S2", sessionToken: "T2")
        : Credentials(accessKeyID: "AK1", secretAccessKey: "S1", sessionToken: "T1")
    }
  }
}
