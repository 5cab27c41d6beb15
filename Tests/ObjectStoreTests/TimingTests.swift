import Testing

@testable import ObjectStore

@Suite struct HTTPDateTests {
  @Test(
    "Dates are read, leap days included",
    arguments: [
      ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
      ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
      ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
      ("Thu, 31 Dec 2099 23:59:59 GMT", 4_102_444_799),
    ] as [(String, Int64)])
  func valid(text: String, seconds: Int64) {
    #expect(HTTPDate(parsing: text)?.secondsSinceEpoch == seconds)
  }

  @Test(
    "Anything else is nil",
    arguments: [
      "", "120", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
      "Sun, 31 Feb 2024 00:00:00 GMT", "Sun, 29 Feb 2100 00:00:00 GMT",
      "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET",
      "Sun, 06 nov 1994 08:49:37 GMT", "Sun, +6 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1969 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT ",
    ])
  func invalid(text: String) { #expect(HTTPDate(parsing: text) == nil) }
}

@Suite struct FirstBytePatienceTests {
  @Test(
    "While little is known, as long as may be; then eight times what is usual, at least a second")
  func usual() {
    var patience = FirstBytePatience(longest: .seconds(15))
    #expect(patience.timeout(attempt: 1) == .seconds(15))
    for _ in 0..<100 { patience.note(.milliseconds(30)) }
    #expect(patience.timeout(attempt: 1) == .seconds(1))
    for _ in 0..<32 { patience.note(.milliseconds(300)) }
    #expect(patience.timeout(attempt: 1) == .milliseconds(2400))
  }

  @Test("Each attempt is given twice the time, up to the longest")
  func patienceGrows() {
    var patience = FirstBytePatience(longest: .seconds(15))
    for _ in 0..<8 { patience.note(.milliseconds(30)) }
    let timeouts = (1...6).map { patience.timeout(attempt: $0) }
    #expect(timeouts == [1, 2, 4, 8, 15, 15].map { .seconds($0) })
    #expect(patience.timeout(attempt: .max) == .seconds(15))
  }

  @Test("A few stragglers do not change what is usual")
  func stragglers() {
    var patience = FirstBytePatience(longest: .seconds(15))
    for round in 0..<32 { patience.note(round % 4 == 0 ? .seconds(9) : .milliseconds(30)) }
    #expect(patience.timeout(attempt: 1) == .seconds(1))
  }
}

@Suite struct UsualSpeedTests {
  private func isStraggler(_ speed: inout UsualSpeed, _ byteCount: Int, attempt: Int = 1) -> Bool {
    speed.isStraggler(byteCount, in: .seconds(1), attempt: attempt)
  }

  @Test("A straggler brings less than a 32nd of what is usual, and less than 256 KiB/s")
  func usual() {
    var speed = UsualSpeed()
    #expect(!isStraggler(&speed, 1), "nothing is known")
    for _ in 0..<32 { speed.noteBody(3_200_000, in: .seconds(1)) }
    #expect(!isStraggler(&speed, 100_000))
    #expect(isStraggler(&speed, 99_999))
    for _ in 0..<32 { speed.noteBody(100_000_000, in: .seconds(1)) }
    #expect(!isStraggler(&speed, 256 << 10))
    #expect(isStraggler(&speed, (256 << 10) - 1))
  }

  @Test("Each attempt is allowed half the speed of the last")
  func attempts() {
    var speed = UsualSpeed()
    for _ in 0..<32 { speed.noteBody(3_200_000, in: .seconds(1)) }
    #expect(isStraggler(&speed, 50_001, attempt: 1) && !isStraggler(&speed, 50_001, attempt: 2))
    #expect(isStraggler(&speed, 0, attempt: .max))
  }

  @Test("Where all have become slow, no more is ended than it takes to know")
  func slowLine() {
    var speed = UsualSpeed()
    for _ in 0..<32 { speed.noteBody(100_000_000, in: .seconds(1)) }
    let ended = (0..<1000).filter { _ in isStraggler(&speed, 10_000) }.count
    #expect(ended == 17, "then more than half of the last 32 are slow")
  }

  @Test("Small bodies say nothing")
  func small() {
    var speed = UsualSpeed()
    for _ in 0..<32 { speed.noteBody(60_000, in: .milliseconds(1)) }
    #expect(!isStraggler(&speed, 1))
  }
}

@Suite struct RetryAfterTests {
  private func delay(_ headers: [String]) -> StoreError.Kind {
    var head = ResponseHead()
    for line in ["HTTP/1.1 503 Slow Down"] + headers { head.take(line: Array(line.utf8)) }
    return StoreError.answer(to: S3Location(bucket: "b", key: "k"), head: head, body: []).kind
  }

  @Test("Retry-After is seconds, or a date that is compared with the answer's")
  func forms() {
    #expect(delay(["Retry-After: 7"]) == .throttled(retryAfterInSeconds: 7))
    let then = "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"
    #expect(
      delay([then, "Date: Sun, 06 Nov 1994 08:49:07 GMT"]) == .throttled(retryAfterInSeconds: 30))
    #expect(
      delay([then, "Date: Sun, 06 Nov 1994 09:49:07 GMT"]) == .throttled(retryAfterInSeconds: 0))
    #expect(delay([then]) == .throttled(retryAfterInSeconds: nil))
    #expect(delay(["Retry-After: soon"]) == .throttled(retryAfterInSeconds: nil))
  }
}

@Suite struct RegionEndpointTests {
  @Test("Only AWS's endpoint is exchanged for that of another region, within the same partition")
  func endpoints() throws {
    let aws = try S3Endpoint(region: "eu-west-1")
    #expect(aws.endpoint(inRegion: "us-east-2").description == "https://s3.us-east-2.amazonaws.com")
    for region in ["cn-north-1", "evil.example", "a/b", ""] {
      #expect(aws.endpoint(inRegion: region) == aws, "\(region)")
    }
    for url in ["https://store.example:9000/base", "https://s3.eu-west-1.amazonaws.com"] {
      let other = try S3Endpoint(url: url)
      #expect(other.endpoint(inRegion: "us-east-2") == other)
    }
  }
}
