import FoundationEssentials
import TestSupport
import Testing

@testable import EmbeddedS3Origin

@Suite struct AccountTests {
  @Test("A record says what was asked for and what was sent")
  func record() async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put(bucket: "b", key: "o", bytes: pattern(1000))
      let client = try origin.client()
      client.send("GET", "/b/o", [("Range", "bytes=10-19"), ("If-Match", "*")])
      _ = client.receive()
      client.send("HEAD", "/b/o")
      let requestID = client.receive(toHead: true).headers["x-amz-request-id"]
      _ = try origin.ask("GET", "/b/none")

      let records = await origin.requests()
      #expect(records.map(\.number) == [1, 2, 3])
      #expect(records.map(\.connection) == [1, 1, 2])
      #expect(records.map(\.method) == ["GET", "HEAD", "GET"])
      #expect(records.map(\.operation) == [.getObject, .headObject, .getObject])
      #expect(records.map(\.key) == ["o", "o", "none"])
      #expect(records.map(\.status) == [206, 200, 404])
      #expect(records.allSatisfy { $0.isFinished && $0.bucket == "b" && $0.fault == nil })
      #expect(records[0].rangeAsked == "bytes=10-19")
      #expect(records[0].ifMatch == "*")
      #expect(records[0].objectBytesAsked == 10..<20)
      #expect(records[0].bodyBytesSent == 10)
      #expect(records[0].clientAddress.hasPrefix("127.0.0.1:"))
      #expect(records[1].objectBytesAsked == nil, "HEAD asks for no byte")
      #expect(records[1].requestID == requestID)
      #expect(records[2].bodyBytesSent > 0, "the error's XML")

      #expect(await origin.requests(forKey: "o").count == 2)
      #expect(await origin.requests(forKey: "o", bucket: "other").isEmpty)
      let totals = await origin.totals()
      #expect(totals.requests == 3)
      #expect(totals.requestsByStatus == [206: 1, 200: 1, 404: 1])
      #expect(totals.bodyBytesSent == 10 + records[2].bodyBytesSent)
    }
  }

  @Test("Bytes asked for twice are counted once, however often they were asked for")
  func bytesTwice() async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put(bucket: "b", key: "o", bytes: pattern(1000))
      for range in ["bytes=0-99", "bytes=100-199", "bytes=990-"] {
        _ = try origin.ask("GET", "/b/o", [("Range", range)])
      }
      _ = try origin.ask("HEAD", "/b/o", [("Range", "bytes=0-99")])
      _ = try origin.ask("GET", "/b/o", [("Range", "bytes=5000-")])
      _ = try origin.ask("GET", "/b/o", [("If-Match", "\"0\"")])
      #expect(await origin.bytesRequestedTwice(forKey: "o") == 0)
      for _ in 0..<3 { _ = try origin.ask("GET", "/b/o", [("Range", "bytes=50-149")]) }
      #expect(await origin.bytesRequestedTwice(forKey: "o") == 100)
      _ = try origin.ask("GET", "/b/o")
      #expect(await origin.bytesRequestedTwice(forKey: "o") == 210)
      #expect(await origin.bytesSentTwice(forKey: "o") == 210)
    }
  }

  @Test("What a broken answer did not bring was asked for twice, but not sent twice")
  func brokenAnswer() async throws {
    let plan = FaultPlan(rules: [FaultRule(.cutBody(afterBytes: 40), times: 1)])
    try await EmbeddedS3Origin.run(OriginConfiguration(faultPlan: plan)) { origin in
      origin.put(bucket: "b", key: "o", bytes: pattern(1000))
      _ = try origin.ask("GET", "/b/o", [("Range", "bytes=0-99")])
      _ = try origin.ask("GET", "/b/o", [("Range", "bytes=30-99")])
      #expect(await origin.bytesRequestedTwice(forKey: "o") == 70)
      #expect(await origin.bytesSentTwice(forKey: "o") == 10)
    }
  }

  @Test("Overlaps of random ranges agree with counting byte by byte")
  func randomOverlaps() {
    let seed = UInt64.random(in: .min ... .max)
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<500 {
      var counts = Array(repeating: 0, count: 60)
      var ranges: [Range<Int>] = []
      for _ in 0..<Int.random(in: 0...8, using: &generator) {
        let start = Int.random(in: 0...60, using: &generator)
        let range = start..<Int.random(in: start...60, using: &generator)
        ranges.append(range)
        for position in range { counts[position] += 1 }
      }
      #expect(
        [RequestRecord].bytesInSeveral(of: ranges) == counts.count { $0 >= 2 },
        "seed \(seed), ranges \(ranges)")
    }
  }

  @Test("The ledger keeps the last records in order, and its totals go on")
  func bound() {
    let ledger = RequestLedger(capacity: 3)
    for round in 0..<2 {
      for count in 1...7 {
        let record = ledger.open { Self.record(number: $0) }
        ledger.update(record.number) { $0.bodyBytesSent = 10 }
        #expect(ledger.records.map(\.number).last == round * 7 + count)
        #expect(ledger.records.count == min(count, 3))
        #expect(ledger.records.map(\.number) == ledger.records.map(\.number).sorted())
      }
      #expect(ledger.totals.requests == 7)
      #expect(ledger.totals.bodyBytesSent == 70)
      #expect(ledger.totals.recordsDropped == 4)
      #expect(ledger.update(round * 7 + 1) { $0.bodyBytesSent = 99 } == nil)
      ledger.reset()
      #expect(ledger.totals == RequestTotals())
      #expect(ledger.update(round * 7 + 7) { $0.bodyBytesSent = 99 } == nil)
    }
  }

  @Test("Connections are counted: accepted, live, most at once")
  func connections() async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put(bucket: "b", key: "o", bytes: [1])
      var clients: [WireClient] = []
      for _ in 0..<5 {
        let client = try origin.client()
        client.send("GET", "/b/o")
        _ = client.receive()
        clients.append(client)
      }
      #expect(await origin.connections() == ConnectionTotals(accepted: 5, live: 5, mostAtOnce: 5))
      clients.removeAll()
      while await origin.connections().live > 0 { try await Task.sleep(for: .milliseconds(5)) }
      _ = try origin.ask("GET", "/b/o")
      let totals = await origin.connections()
      #expect(totals.accepted == 6)
      #expect(totals.mostAtOnce == 5)
    }
  }

  @Test("The account is there over HTTP, can be reset, and takes a fault plan")
  func administration() async throws {
    let configuration = OriginConfiguration(credentials: ["AK": "SK"], allowsAnonymous: true)
    try await EmbeddedS3Origin.run(configuration) { origin in
      origin.put(bucket: "b", key: "o", bytes: pattern(1000))
      for _ in 0..<2 { _ = try origin.ask("GET", "/b/o", [("Range", "bytes=0-9")]) }

      struct Statistics: Decodable {
        let totals: RequestTotals
        let connections: ConnectionTotals
        let objects: [ObjectTotals]
        let records: [RequestRecord]?
      }
      func statistics(_ target: String) throws -> Statistics {
        try JSONDecoder().decode(
          Statistics.self, from: Data(try origin.ask("GET", target).body))
      }
      let first = try statistics("/-/stats?records=1")
      #expect(first.totals.requestsByStatus == [206: 2])
      #expect(first.connections.accepted == 3)
      #expect(first.objects.map(\.bytesRequestedTwice) == [10])
      #expect(first.records?.map(\.objectBytesAsked) == [0..<10, 0..<10])
      #expect(try statistics("/-/stats").records == nil)

      #expect(try origin.ask("POST", "/-/reset").status == 204)
      #expect(try statistics("/-/stats").totals == RequestTotals())

      let plan = #"{"rules": [{"fault": {"kind": "status", "status": 503, "code": "SlowDown"}}]}"#
      #expect(try origin.ask("PUT", "/-/faults", body: plan).status == 204)
      #expect(try origin.ask("GET", "/b/o").status == 503)
      #expect(try origin.ask("GET", "/-/faults").text.contains("SlowDown"))
      let refused = try origin.ask("PUT", "/-/faults", body: #"{"rulez": []}"#)
      #expect(refused.status == 400)
      #expect(refused.text.contains("rulez"))
      #expect(origin.faultPlan.rules.count == 1, "the plan before it stays")
      #expect(try origin.ask("GET", "/-/nothing").status == 404)
    }
  }

  private static func record(number: Int) -> RequestRecord {
    RequestRecord(
      number: number, connection: 1, clientAddress: "", method: "GET", operation: .getObject,
      bucket: "b", key: "k", rangeAsked: nil, ifMatch: nil)
  }
}
