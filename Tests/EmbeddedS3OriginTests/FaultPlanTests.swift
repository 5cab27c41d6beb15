import FoundationEssentials
import NIOHTTP1
import Testing

@testable import EmbeddedS3Origin

/// Which request gets which fault, decided without a socket.
@Suite struct FaultPlanTests {
  @Test("Every condition of a match must hold")
  func conditions() throws {
    let request = try Self.request("GET", "/bucket/data/part.csv.gz", range: "bytes=100-199")
    let accepting: [FaultMatch] = [
      FaultMatch(), FaultMatch(bucket: "bucket"), FaultMatch(keyPrefix: "data/"),
      FaultMatch(keySuffix: ".csv.gz"), FaultMatch(method: "GET"),
      FaultMatch(operation: .getObject), FaultMatch(rangeOverlaps: 0..<101),
      FaultMatch(rangeOverlaps: 199..<200),
      FaultMatch(bucket: "bucket", keyPrefix: "data/", keySuffix: ".gz", method: "GET"),
    ]
    let declining: [FaultMatch] = [
      FaultMatch(bucket: "other"), FaultMatch(keyPrefix: "part"), FaultMatch(keySuffix: ".csv"),
      FaultMatch(method: "HEAD"), FaultMatch(operation: .listObjects),
      FaultMatch(rangeOverlaps: 0..<100), FaultMatch(rangeOverlaps: 200..<300),
      FaultMatch(keySuffix: ".gz", method: "HEAD"),
    ]
    for match in accepting {
      #expect(Self.faults(match, [request]) == [true], "\(match)")
    }
    for match in declining {
      #expect(Self.faults(match, [request]) == [false], "\(match)")
    }
  }

  @Test("A range overlaps by its ends; none at all overlaps everything; a suffix nothing")
  func rangeOverlap() throws {
    let match = FaultMatch(rangeOverlaps: 1000..<2000)
    let ranges = ["bytes=0-", "bytes=2000-", "bytes=-5", "bytes=1999-1999", nil]
    let requests = try ranges.map { try Self.request("GET", "/b/o", range: $0) }
    #expect(Self.faults(match, requests) == [true, false, false, true, true])
  }

  @Test("nth, skippingFirst and times count the requests that match the rest")
  func counting() throws {
    let wanted = try Self.request("GET", "/b/x.gz")
    let other = try Self.request("GET", "/b/manifest.json")
    let requests = [other, wanted, wanted, other, wanted, wanted]
    #expect(
      Self.faults(FaultMatch(keySuffix: ".gz", nth: 2), requests)
        == [false, false, true, false, false, false])
    #expect(
      Self.faults(FaultMatch(keySuffix: ".gz", skippingFirst: 1), requests)
        == [false, false, true, false, true, true])
    #expect(
      Self.faults(FaultMatch(keySuffix: ".gz"), requests, times: 3)
        == [false, true, true, false, true, false])
  }

  @Test("The first rule that applies decides, and the rules behind it still count")
  func orderOfRules() throws {
    let request = try Self.request("GET", "/b/o")
    var schedule = FaultSchedule(
      FaultPlan(rules: [
        FaultRule(.clockSkew, times: 1), FaultRule(.ignoreRange, when: FaultMatch(nth: 1)),
        FaultRule(.hangBeforeHead, when: FaultMatch(nth: 2)),
      ]))
    let faults = (0..<3).map { _ in schedule.fault(for: request) }
    #expect(faults == [.clockSkew, .hangBeforeHead, nil])
  }

  @Test("The same seed draws the same faults, about as many as the probability says")
  func probability() throws {
    let request = try Self.request("GET", "/b/o")
    let requests = Array(repeating: request, count: 10_000)
    let seed = UInt64.random(in: .min ... .max)
    let drawn = Self.faults(FaultMatch(probability: 0.1), requests, seed: seed)
    #expect(Self.faults(FaultMatch(probability: 0.1), requests, seed: seed) == drawn)
    #expect(Self.faults(FaultMatch(probability: 0.1), requests, seed: seed &+ 1) != drawn)
    // Ten standard deviations.
    #expect((700...1300).contains(drawn.count { $0 }), "seed \(seed)")
    #expect(!Self.faults(FaultMatch(probability: 0), requests, seed: seed).contains(true))
    #expect(!Self.faults(FaultMatch(probability: 1), requests, seed: seed).contains(false))
  }

  @Test("A plan survives being written as JSON and read again")
  func json() throws {
    let faults: [Fault] = [
      .cutBody(afterBytes: 1), .resetBody(afterBytes: 2), .stallBody(afterBytes: 3), .ignoreRange,
      .wrongContentRange(shiftedBy: -4), .wrongLength(differingBy: 5), .wrongBytes(atOffset: 6),
      .hangBeforeHead, .trickle(bytesPerSecond: 7), .status(503, code: "SlowDown", retryAfter: 8),
      .status(500, code: "InternalError"), .redirect(region: "r"), .wrongRegion(expecting: "r"),
      .clockSkew, .delay(.milliseconds(1500)), .refuse(.seconds(2)),
    ]
    let match = FaultMatch(
      bucket: "b", keyPrefix: "p", keySuffix: "s", method: "GET", operation: .getObject,
      rangeOverlaps: 1..<2, nth: 3, skippingFirst: 4, probability: 0.5)
    let plan = FaultPlan(
      seed: 9, rules: faults.map { FaultRule($0, when: match, times: 2) })
    #expect(try FaultPlan(json: JSONEncoder().encode(plan)) == plan)
  }

  @Test("The JSON of the documentation means what it says")
  func documentedJSON() throws {
    let json = """
      {"seed": 7, "rules": [
        {"match": {"keySuffix": ".csv.gz", "method": "GET", "nth": 2}, "times": 1,
         "fault": {"kind": "cutBody", "afterBytes": 65536}},
        {"match": {"probability": 0.05},
         "fault": {"kind": "status", "status": 503, "code": "SlowDown", "retryAfter": 1}}]}
      """
    let plan = FaultPlan(
      seed: 7,
      rules: [
        FaultRule(
          .cutBody(afterBytes: 65536),
          when: FaultMatch(keySuffix: ".csv.gz", method: "GET", nth: 2), times: 1),
        FaultRule(
          .status(503, code: "SlowDown", retryAfter: 1), when: FaultMatch(probability: 0.05)),
      ])
    #expect(try FaultPlan(json: Data(json.utf8)) == plan)
  }

  @Test(
    "A misspelt field, an unknown fault and a missing number are errors",
    arguments: [
      #"{"rule": []}"#, #"{"rules": [{"fault": {"kind": "cutbody", "afterBytes": 1}}]}"#,
      #"{"rules": [{"fault": {"kind": "cutBody"}}]}"#, #"{"rules": [{}]}"#,
      #"{"rules": [{"fault": {"kind": "cutBody", "afterbytes": 1}}]}"#,
      #"{"rules": [{"match": {"key": "x"}, "fault": {"kind": "clockSkew"}}]}"#, "[", "",
    ])
  func badJSON(json: String) {
    #expect(throws: (any Error).self) { try FaultPlan(json: Data(json.utf8)) }
  }

  // MARK: Helpers

  private static func request(
    _ method: String, _ uri: String, range: String? = nil
  ) throws -> S3Request {
    let headers = HTTPHeaders(range.map { [("Range", $0)] } ?? [])
    return try S3Request(
      HTTPRequestHead(
        version: .http1_1, method: HTTPMethod(rawValue: method), uri: uri, headers: headers)
    ) { _ in false }
  }

  /// Which of the requests get the fault of the one rule.
  private static func faults(
    _ match: FaultMatch, _ requests: [S3Request], times: Int? = nil, seed: UInt64 = 0
  ) -> [Bool] {
    var schedule = FaultSchedule(
      FaultPlan(seed: seed, rules: [FaultRule(.clockSkew, when: match, times: times)]))
    return requests.map { schedule.fault(for: $0) != nil }
  }
}
