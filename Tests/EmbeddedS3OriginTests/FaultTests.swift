import EmbeddedS3Origin
import Testing

/// Each fault as a client on the wire sees it.
@Suite struct FaultTests {
  private static let sizeInBytes = 1_000_000
  private let bytes = pattern(sizeInBytes)

  @Test(
    "cutBody ends the connection in order, short of Content-Length", arguments: [0, 1, 300_000])
  func cutBody(afterBytes: Int) async throws {
    try await withFault(.cutBody(afterBytes: afterBytes)) { origin in
      let answer = try origin.ask("GET", "/b/o")
      #expect(answer.status == 200)
      #expect(answer.headers["content-length"] == "\(Self.sizeInBytes)")
      #expect(answer.body == Array(bytes[..<afterBytes]))
      #expect(answer.end == .closed)
      #expect(await origin.requests().map(\.bodyBytesSent) == [afterBytes])
    }
  }

  @Test("resetBody resets the connection after its bytes", arguments: [0, 1, 300_000])
  func resetBody(afterBytes: Int) async throws {
    try await withFault(.resetBody(afterBytes: afterBytes)) { origin in
      let answer = try origin.ask("GET", "/b/o", [("Range", "bytes=10-999999")])
      #expect(answer.status == 206)
      #expect(answer.body == Array(bytes[10..<10 + afterBytes]))
      #expect(answer.end == .reset)
    }
  }

  @Test("resetBody waits for a client that is slow to read, whose window is closed meanwhile")
  func resetBodyOfSlowReader() async throws {
    try await withFault(.resetBody(afterBytes: 900_000)) { origin in
      let client = try origin.client()
      client.send("GET", "/b/o", [("Range", "bytes=10-999999")])
      try await Task.sleep(for: .milliseconds(300))
      let answer = client.receive()
      #expect(answer.body.count == 900_000)
      let isRight = answer.body.elementsEqual(bytes[10..<900_010])
      #expect(isRight)
      #expect(answer.end == .reset)
    }
  }

  @Test("stallBody goes silent after its bytes and leaves the connection open")
  func stallBody() async throws {
    try await withFault(.stallBody(afterBytes: 1000)) { origin in
      let client = try origin.client()
      client.send("GET", "/b/o")
      #expect(client.receive(toHead: true).status == 200)
      #expect(client.take(1000) == Array(bytes[..<1000]))
      client.setTimeout(inMilliseconds: 300)
      #expect(client.take(1) == [])
      #expect(client.end() == .timedOut)
    }
  }

  @Test("ignoreRange answers 200 with the whole object")
  func ignoreRange() async throws {
    try await withFault(.ignoreRange) { origin in
      let answer = try origin.ask("GET", "/b/o", [("Range", "bytes=5-9")])
      #expect(answer.status == 200)
      #expect(answer.headers["content-range"] == nil)
      #expect(answer.body == bytes)
      let record = try #require(await origin.requests().first)
      #expect(record.objectBytesAsked == 5..<10)
      #expect(record.objectBytesAnswered == 0..<Self.sizeInBytes)
    }
  }

  @Test("wrongContentRange names other bytes than it sends")
  func wrongContentRange() async throws {
    try await withFault(.wrongContentRange(shiftedBy: 3)) { origin in
      let answer = try origin.ask("GET", "/b/o", [("Range", "bytes=5-9")])
      #expect(answer.status == 206)
      #expect(answer.headers["content-range"] == "bytes 8-12/\(Self.sizeInBytes)")
      #expect(answer.body == Array(bytes[5...9]))
    }
  }

  @Test("wrongLength makes the object seem longer or shorter", arguments: [7, -7])
  func wrongLength(difference: Int) async throws {
    try await withFault(.wrongLength(differingBy: difference)) { origin in
      let claimed = Self.sizeInBytes + difference
      let part = try origin.ask("GET", "/b/o", [("Range", "bytes=5-9")])
      #expect(part.headers["content-range"] == "bytes 5-9/\(claimed)")
      #expect(part.headers["content-length"] == "5")
      #expect(part.body == Array(bytes[5...9]))

      let head = try origin.ask("HEAD", "/b/o")
      #expect(head.headers["content-length"] == "\(claimed)")

      let whole = try origin.ask("GET", "/b/o")
      #expect(whole.headers["content-length"] == "\(claimed)")
      #expect(whole.body == Array(bytes.prefix(claimed)))
      #expect(whole.end == (difference > 0 ? .closed : .complete))
    }
  }

  @Test(
    "wrongBytes flips one bit of one byte", arguments: [0, 262_143, 262_144, 999_999, 5_000_000])
  func wrongBytes(offset: Int) async throws {
    let folder = try TemporaryFolder()
    try folder.write(bytes, to: "b/file")
    try await withFault(.wrongBytes(atOffset: offset), rootFolder: folder.path) { origin in
      for key in ["o", "file"] {
        let answer = try origin.ask("GET", "/b/\(key)")
        let differing = bytes.indices.filter { answer.body[$0] != bytes[$0] }
        #expect(answer.body.count == bytes.count)
        #expect(differing == [min(offset, Self.sizeInBytes - 1)])
      }
    }
  }

  @Test("hangBeforeHead takes the request and never answers")
  func hangBeforeHead() async throws {
    try await withFault(.hangBeforeHead) { origin in
      let client = try origin.client()
      client.send("GET", "/b/o")
      while await origin.requests().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
      client.setTimeout(inMilliseconds: 300)
      #expect(client.receive().end == .timedOut)
      let record = try #require(await origin.requests().first)
      #expect(record.status == 0)
      #expect(record.fault == "hangBeforeHead")
      #expect(!record.isFinished)
      #expect(await origin.connections().live == 1)
    }
  }

  @Test(
    "trickle and bytesPerSecond bring everything, no faster than told",
    arguments: [(20_000, 5000, 250), (10, 3, 300)])
  func trickle(bytesPerSecond: Int, count: Int, milliseconds: Int) async throws {
    for isFault in [true, false] {
      var configuration = OriginConfiguration()
      if isFault {
        configuration.faultPlan.rules = [FaultRule(.trickle(bytesPerSecond: bytesPerSecond))]
      } else {
        configuration.bytesPerSecond = bytesPerSecond
      }
      try await EmbeddedS3Origin.run(configuration) { origin in
        origin.put(bucket: "b", key: "o", bytes: bytes)
        let start = ContinuousClock.now
        let answer = try origin.ask("GET", "/b/o", [("Range", "bytes=0-\(count - 1)")])
        #expect(answer.body == Array(bytes[..<count]))
        // A lower bound, which a slow machine cannot break.
        #expect(start.duration(to: .now) >= .milliseconds(milliseconds))
      }
    }
  }

  @Test("At a set pace the head does not wait for the first byte that is due")
  func headAtOnce() async throws {
    try await withFault(.trickle(bytesPerSecond: 1)) { origin in
      // Where we are late in seeing the head, the byte is there too, which shows nothing.
      let isSeen = try (0..<20).contains { _ in
        let client = try origin.client()
        client.send("GET", "/b/o", [("Range", "bytes=0-0"), ("Connection", "close")])
        #expect(client.receive(toHead: true).status == 206)
        let head = ContinuousClock.now
        #expect(client.end() == .closed)
        return head.duration(to: .now) >= .milliseconds(100)
      }
      #expect(isSeen)
    }
  }

  @Test(
    "status answers with S3's XML, and with Retry-After if asked",
    arguments: [
      (500, "InternalError", nil), (503, "SlowDown", 2), (403, "ExpiredToken", nil),
      (404, "NoSuchKey", nil), (412, "PreconditionFailed", nil), (429, "TooManyRequests", 1),
    ])
  func status(status: Int, code: String, retryAfter: Int?) async throws {
    try await withFault(.status(status, code: code, retryAfter: retryAfter)) { origin in
      let client = try origin.client()
      client.send("GET", "/b/o")
      let answer = client.receive()
      #expect(answer.status == status)
      #expect(answer.errorCode == code)
      #expect(answer.headers["retry-after"] == retryAfter.map { "\($0)" })
      client.send("HEAD", "/b/o")
      #expect(client.receive(toHead: true).status == status)
      #expect(await origin.connections().accepted == 1, "the connection goes on")
    }
  }

  @Test("redirect and wrongRegion both name the region")
  func wrongRegions() async throws {
    try await withFault(.redirect(region: "eu-west-3")) { origin in
      let answer = try origin.ask("GET", "/b/o")
      #expect(answer.status == 301)
      #expect(answer.errorCode == "PermanentRedirect")
      #expect(answer.headers["x-amz-bucket-region"] == "eu-west-3")
      #expect(answer.element("Endpoint") == "b.s3.eu-west-3.amazonaws.com")
      origin.setFaultPlan(FaultPlan(rules: [FaultRule(.wrongRegion(expecting: "eu-west-3"))]))
      let malformed = try origin.ask("GET", "/b/o")
      #expect(malformed.status == 400)
      #expect(malformed.errorCode == "AuthorizationHeaderMalformed")
      #expect(malformed.element("Region") == "eu-west-3")
    }
  }

  @Test("clockSkew answers RequestTimeTooSkewed with the server's time")
  func clockSkew() async throws {
    try await withFault(.clockSkew) { origin in
      let answer = try origin.ask("GET", "/b/o")
      #expect(answer.status == 403)
      #expect(answer.errorCode == "RequestTimeTooSkewed")
      #expect(answer.element("ServerTime") != nil)
    }
  }

  @Test("delay and firstByteDelay hold the right answer back")
  func delay() async throws {
    for fault in [Fault.delay(.milliseconds(100)), nil] {
      var configuration = OriginConfiguration()
      if let fault {
        configuration.faultPlan.rules = [FaultRule(fault)]
      } else {
        configuration.firstByteDelay = .milliseconds(100)
      }
      try await EmbeddedS3Origin.run(configuration) { origin in
        origin.put(bucket: "b", key: "o", bytes: bytes)
        let start = ContinuousClock.now
        let answer = try origin.ask("GET", "/b/o")
        #expect(answer.body == bytes)
        #expect(start.duration(to: .now) >= .milliseconds(99))
      }
    }
  }

  @Test("refuse closes this connection and the port for a while, and spares other connections")
  func refuse() async throws {
    try await withFault(.refuse(.seconds(5)), times: 1, nth: 2) { origin in
      let bystander = try origin.client()
      bystander.send("GET", "/b/o")
      #expect(bystander.receive().body == bytes)
      let unlucky = try origin.client()
      unlucky.send("GET", "/b/o")
      #expect(unlucky.receive().end == .closed)
      #expect(throws: WireClient.Refused.self) { try origin.client() }
      bystander.send("GET", "/b/o")
      #expect(bystander.receive().body == bytes)

      var isBack = false
      for _ in 0..<2000 where !isBack {
        try await Task.sleep(for: .milliseconds(10))
        isBack = (try? origin.ask("GET", "/b/o").status) == 200
      }
      #expect(isBack)
    }
  }

  @Test("A spent rule and a plan replaced while running leave the server well again")
  func recovery() async throws {
    try await withFault(.status(503, code: "SlowDown"), times: 2) { origin in
      let statuses = try (0..<4).map { _ in try origin.ask("GET", "/b/o").status }
      #expect(statuses == [503, 503, 200, 200])
      origin.setFaultPlan(FaultPlan(rules: [FaultRule(.hangBeforeHead, when: .init(nth: 2))]))
      #expect(try origin.ask("GET", "/b/o").status == 200)
      origin.setFaultPlan(FaultPlan())
      #expect(try origin.ask("GET", "/b/o").status == 200)
      #expect(await origin.totals().faultsByKind == ["status": 2])
      #expect(await origin.requests().map(\.fault) == ["status", "status", nil, nil, nil, nil])
    }
  }

  private func withFault(
    _ fault: Fault, times: Int? = nil, nth: Int? = nil, rootFolder: String? = nil,
    _ body: (EmbeddedS3Origin) async throws -> Void
  ) async throws {
    let rule = FaultRule(fault, when: FaultMatch(nth: nth), times: times)
    let configuration = OriginConfiguration(
      rootFolder: rootFolder, faultPlan: FaultPlan(rules: [rule]))
    try await EmbeddedS3Origin.run(configuration) { origin in
      origin.put(bucket: "b", key: "o", bytes: bytes)
      try await body(origin)
    }
  }
}
