import AWSCredentials
import Glibc
import ObjectStore
import TestSupport
import Testing

/// Answers that no orderly server gives, and that must neither hold a request for ever nor mislead
/// it.
@Suite(.timeLimit(.minutes(2))) struct OddAnswerTests {
  private static let object = S3Location(bucket: "bucket", key: "key")

  private func store(_ url: String) throws -> ObjectStore { try Self.store(url) }

  private static func store(_ url: String) throws -> ObjectStore {
    let configuration = ObjectStoreConfiguration(
      endpoint: try S3Endpoint(url: url), region: "us-east-1", maxConnections: 4,
      receiveBufferSizeInBytes: 64 << 10, readTimeout: .seconds(8))
    return try #require(ObjectStore(configuration, credentials: AnonymousCredentials()))
  }

  @Test("A refusal whose body never ends is a refusal")
  func endlessRefusal() async throws {
    let server = try #require(
      PlainServer { connection in
        connection.send("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
        let text = String(repeating: "no ", count: 4096)
        while connection.send(text) { usleep(1000) }
      })
    let store = try store("http://127.0.0.1:\(server.port)")
    defer { store.shutDown() }
    let receiver = Collector()
    _ = store.get(ObjectRequest(Self.object), to: receiver)
    let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
    #expect(error?.kind == .accessDenied)
  }

  @Test("A range of which every byte has come is complete, however the connection ends")
  func completeRange() async throws {
    let server = try #require(
      PlainServer { connection in
        // The last chunk, which says that the body is over, is missing.
        connection.send(
          "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
            + "Content-Range: bytes 0-2/3\r\nETag: \"x\"\r\n\r\n3\r\nabc\r\n")
      })
    let store = try store("http://127.0.0.1:\(server.port)")
    defer { store.shutDown() }
    let receiver = Collector()
    _ = store.get(ObjectRequest(Self.object, range: 0..<3, objectSizeInBytes: 3), to: receiver)
    let bytes = try await receiver.bytes()
    #expect(bytes == Array("abc".utf8))
  }

  @Test(
    "A range other than the one requested is refused, although it is as long",
    arguments: ["3-5/9", "1-3/9", "0-2/8"])
  func otherRange(range: String) async throws {
    let server = try #require(
      PlainServer { connection in
        connection.send(
          "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n"
            + "Content-Range: bytes \(range)\r\nETag: \"x\"\r\n\r\nabc")
      })
    let store = try store("http://127.0.0.1:\(server.port)")
    defer { store.shutDown() }
    let receiver = Collector()
    _ = store.get(ObjectRequest(Self.object, range: 0..<3, objectSizeInBytes: 9), to: receiver)
    await #expect(throws: StoreError.self) { try await receiver.bytes() }
  }

  @Test("A range that lacks a byte is not, and neither is one whose receiver refused it")
  func incompleteRange() async throws {
    let server = try #require(
      PlainServer { connection in
        connection.send(
          "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
            + "Content-Range: bytes 0-2/3\r\nETag: \"x\"\r\n\r\n2\r\nab\r\n")
      })
    let store = try store("http://127.0.0.1:\(server.port)")
    defer { store.shutDown() }
    let receiver = Collector()
    _ = store.get(ObjectRequest(Self.object, range: 0..<3, objectSizeInBytes: 3), to: receiver)
    let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
    #expect(error?.isRetryable == true)
    let refusing = Collector(takesBytes: false)
    _ = store.get(ObjectRequest(Self.object, range: 0..<3, objectSizeInBytes: 3), to: refusing)
    await #expect(throws: StoreError.self) { try await refusing.bytes() }
  }

  @Test("The whole object where a range was asked for is refused, also where it is just as long")
  func wholeObject() async throws {
    let server = try #require(
      PlainServer { connection in
        connection.send(
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"x\"\r\n\r\n"
            + "3\r\nabc\r\n0\r\n\r\n")
      })
    let store = try store("http://127.0.0.1:\(server.port)")
    defer { store.shutDown() }
    let receiver = Collector()
    _ = store.get(ObjectRequest(Self.object, range: 3..<6), to: receiver)
    let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
    guard case .malformedAnswer = error?.kind else {
      Issue.record("\(String(describing: error?.kind))")
      return
    }
  }

  @Test("A handshake in which the connection ends may succeed later", arguments: [true, false])
  func brokenHandshake(isReset: Bool) async throws {
    let server = try #require(
      PlainServer(readsRequest: false) { connection in
        // What is closed with bytes that nobody has read is reset.
        isReset ? connection.waitForBytes() : connection.sendEnd()
      })
    let store = try store("https://127.0.0.1:\(server.port)")
    defer { store.shutDown() }
    let receiver = Collector()
    _ = store.get(ObjectRequest(Self.object), to: receiver)
    let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
    guard case .connection(.handshake, _) = error?.kind else {
      Issue.record("\(String(describing: error?.kind))")
      return
    }
    #expect(error?.isRetryable == true)
  }

  @Test("A redirect to another host is not followed", arguments: [301, 302, 303, 307, 308])
  func redirect(status: Int) async throws {
    let other = try #require(PlainServer { _ in })
    let server = try #require(
      PlainServer { connection in
        connection.send(
          "HTTP/1.1 \(status) Elsewhere\r\nLocation: http://127.0.0.1:\(other.port)/bucket/key\r\n"
            + "Content-Length: 0\r\nConnection: close\r\n\r\n")
      })
    let store = try store("http://127.0.0.1:\(server.port)")
    defer { store.shutDown() }
    let receiver = Collector()
    _ = store.get(ObjectRequest(Self.object), to: receiver)
    await #expect(throws: StoreError.self) { try await receiver.bytes() }
    #expect(server.connectionCount == 1 && other.connectionCount == 0)
  }

  @Test("What a proxy answers to CONNECT is not taken for the store's answer")
  func proxy() async {
    // In a process of its own: the environment is all tests', and libcurl reads it while others are
    // changing it.
    await #expect(processExitsWith: .success) {
      let proxy = try #require(
        PlainServer { connection in
          #expect(connection.request.hasPrefix("CONNECT store.example:443 "))
          #expect(!connection.request.lowercased().contains("authorization"))
          connection.send("HTTP/1.1 200 Connection established\r\n\r\n")
        })
      setenv("https_proxy", "http://127.0.0.1:\(proxy.port)", 1)
      let store = try Self.store("https://store.example")
      defer { store.shutDown() }
      let receiver = Collector()
      _ = store.get(ObjectRequest(Self.object, range: 0..<3, objectSizeInBytes: 3), to: receiver)
      let error = await #expect(throws: StoreError.self) { try await receiver.bytes() }
      guard case .connection = error?.kind else {
        Issue.record("\(String(describing: error?.kind))")
        return
      }
      #expect(proxy.connectionCount == 1)
    }
  }
}
