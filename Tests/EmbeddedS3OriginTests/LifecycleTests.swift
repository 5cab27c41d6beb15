import EmbeddedS3Origin
import Testing

@Suite struct LifecycleTests {
  @Test("Several servers in one process do not know of each other")
  func several() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<4 {
        group.addTask {
          try await EmbeddedS3Origin.run(OriginConfiguration(threads: 2)) { origin in
            origin.put(bucket: "b", key: "o", bytes: [UInt8(number)])
            let answer = try origin.ask("GET", "/b/o")
            #expect(answer.body == [UInt8(number)])
            #expect(await origin.requests().count == 1)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test("Stopping ends idle, hanging and stalled connections, and frees the port")
  func stop() async throws {
    let plan = FaultPlan(rules: [
      FaultRule(.hangBeforeHead, when: FaultMatch(keySuffix: "hang")),
      FaultRule(.stallBody(afterBytes: 1), when: FaultMatch(keySuffix: "stall")),
    ])
    let origin = EmbeddedS3Origin(OriginConfiguration(faultPlan: plan))
    let port = try await origin.start()
    #expect(origin.endpointURL == "http://127.0.0.1:\(port)")
    for key in ["idle", "hang", "stall"] { origin.put(bucket: "b", key: key, bytes: [1, 2]) }
    let idle = try origin.client()
    idle.send("GET", "/b/idle")
    #expect(idle.receive().body == [1, 2])
    let hanging = try origin.client()
    hanging.send("GET", "/b/hang")
    let stalled = try origin.client()
    stalled.send("GET", "/b/stall")
    while await origin.requests().count < 3 { try await Task.sleep(for: .milliseconds(2)) }

    await origin.stop()
    #expect(origin.port == nil)
    for client in [idle, hanging, stalled] { #expect(client.end() != .timedOut) }
    #expect(await origin.requests().allSatisfy(\.isFinished))
    #expect(await origin.connections().live == 0)
    await origin.stop()

    try await origin.start()
    #expect(try origin.ask("GET", "/b/idle").body == [1, 2], "objects in memory are kept")
    await origin.stop()
  }

  @Test("Stopping in the middle of many requests neither crashes nor hangs", arguments: 0..<10)
  func stopUnderLoad(round: Int) async throws {
    let origin = EmbeddedS3Origin(OriginConfiguration(threads: 2))
    try await origin.start()
    origin.put(bucket: "b", key: "o", bytes: pattern(100_000))
    let clients = try (0..<16).map { _ in try origin.client() }
    for client in clients { client.send("GET", "/b/o") }
    for _ in 0..<round { await Task.yield() }
    await origin.stop()
    for client in clients {
      let answer = client.receive()
      #expect(answer.end != .timedOut)
    }
  }

  @Test("Stopping while the port is refused leaves nothing that listens again")
  func stopWhileRefusing() async throws {
    let origin = EmbeddedS3Origin(OriginConfiguration())
    try await origin.start()
    await origin.refuseConnections(for: .seconds(60))
    #expect(throws: WireClient.Refused.self) { try origin.client() }
    await origin.stop()
    try await origin.start()
    origin.put(bucket: "b", key: "o", bytes: [1])
    #expect(try origin.ask("GET", "/b/o").body == [1])
    await origin.stop()
  }

  @Test("A port in use, and a second start, are errors that say what to do")
  func startErrors() async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      let port = try #require(origin.port)
      await #expect(throws: OriginError.alreadyRunning) { try await origin.start() }
      let second = EmbeddedS3Origin(OriginConfiguration(port: port))
      let error = await #expect(throws: OriginError.self) { try await second.start() }
      #expect(error?.description.contains("127.0.0.1:\(port)") == true)
      await #expect(throws: OriginError.self) { try await second.start() }
    }
  }

  @Test("Dropped connections end, and new ones are served")
  func dropConnections() async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put(bucket: "b", key: "o", bytes: [1])
      let client = try origin.client()
      client.send("GET", "/b/o")
      _ = client.receive()
      await origin.dropConnections()
      #expect(client.end() != .timedOut)
      #expect(try origin.ask("GET", "/b/o").body == [1])
    }
  }

  @Test("A client that goes away in the middle of a body is noticed and written down")
  func clientGoesAway() async throws {
    let folder = try TemporaryFolder()
    try folder.write(pattern(20_000_000), to: "b/o")
    try await EmbeddedS3Origin.run(OriginConfiguration(rootFolder: folder.path)) { origin in
      var client: WireClient? = try origin.client()
      client?.send("GET", "/b/o")
      while await origin.totals().bodyBytesSent == 0 { try await Task.sleep(for: .milliseconds(2)) }
      client = nil
      while await origin.requests().contains(where: { !$0.isFinished }) {
        try await Task.sleep(for: .milliseconds(2))
      }
      let record = try #require(await origin.requests().first)
      #expect(record.bodyBytesSent < 20_000_000)
      #expect(try origin.ask("GET", "/b/o").body.count == 20_000_000)
    }
  }
}
