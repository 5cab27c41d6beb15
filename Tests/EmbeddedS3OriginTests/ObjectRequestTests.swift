import EmbeddedS3Origin
import FoundationEssentials
import Glibc
import NIOConcurrencyHelpers
import Testing

@Suite struct ObjectRequestTests {
  @Test("An object comes whole, with the headers that S3 sends")
  func wholeObject() async throws {
    let folder = try TemporaryFolder()
    try folder.write("hello", to: "bucket/data/greeting.txt")
    try await EmbeddedS3Origin.run(OriginConfiguration(rootFolder: folder.path)) { origin in
      let answer = try origin.ask("GET", "/bucket/data/greeting.txt")
      #expect(answer.status == 200)
      #expect(answer.text == "hello")
      #expect(answer.headers["etag"] == "\"5d41402abc4b2a76b9719d911017c592\"")
      #expect(answer.headers["content-length"] == "5")
      #expect(answer.headers["accept-ranges"] == "bytes")
      #expect(answer.headers["content-type"] == "binary/octet-stream")
      #expect(answer.headers["x-amz-bucket-region"] == "us-east-1")
      #expect(answer.headers["x-amz-request-id"]?.isEmpty == false)
      #expect(answer.headers["last-modified"]?.hasSuffix(" GMT") == true)
      #expect(answer.headers["date"]?.hasSuffix(" GMT") == true)
      #expect(answer.headers["server"] != nil)

      let head = try origin.ask("HEAD", "/bucket/data/greeting.txt")
      #expect(head.status == 200)
      for name in ["etag", "content-length", "last-modified"] {
        #expect(head.headers[name] == answer.headers[name])
      }
    }
  }

  @Test(
    "A range brings its bytes and says which they are",
    arguments: [
      ("bytes=0-0", 0..<1), ("bytes=10-19", 10..<20), ("bytes=990-", 990..<1000),
      ("bytes=990-5000", 990..<1000), ("bytes=-10", 990..<1000), ("bytes=-5000", 0..<1000),
      ("bytes=0-99999999999999999999999", 0..<1000),
    ])
  func range(header: String, expected: Range<Int>) async throws {
    try await withObject { origin, bytes in
      let answer = try origin.ask("GET", "/b/o", [("Range", header)])
      #expect(answer.status == 206)
      #expect(answer.body == Array(bytes[expected]))
      let contentRange = "bytes \(expected.lowerBound)-\(expected.upperBound - 1)/1000"
      #expect(answer.headers["content-range"] == contentRange)
      let head = try origin.ask("HEAD", "/b/o", [("Range", header)])
      #expect(head.status == 206)
      #expect(head.headers["content-range"] == contentRange)
      #expect(head.headers["content-length"] == "\(expected.count)")
    }
  }

  @Test(
    "A range that S3 does not honour brings the whole object",
    arguments: [
      "bytes=0-1,5-6", "bytes=5-3", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "items=0-1",
      "bytes=0x1-2",
    ])
  func ignoredRange(header: String) async throws {
    try await withObject { origin, bytes in
      let answer = try origin.ask("GET", "/b/o", [("Range", header)])
      #expect(answer.status == 200)
      #expect(answer.body == bytes)
      #expect(answer.headers["content-range"] == nil)
    }
  }

  @Test(
    "A range without a byte in the object is 416 with the object's size",
    arguments: [
      ("o", "bytes=1000-"), ("o", "bytes=-0"), ("empty", "bytes=0-"), ("empty", "bytes=-1"),
    ])
  func unsatisfiableRange(key: String, header: String) async throws {
    try await withObject { origin, _ in
      origin.put(bucket: "b", key: "empty", bytes: [])
      let answer = try origin.ask("GET", "/b/\(key)", [("Range", header)])
      #expect(answer.status == 416)
      #expect(answer.errorCode == "InvalidRange")
      #expect(answer.headers["content-range"] == "bytes */\(key == "o" ? 1000 : 0)")
    }
  }

  @Test("If-Match lets its version pass and refuses another")
  func ifMatch() async throws {
    try await withObject { origin, bytes in
      let eTag = try #require(try origin.ask("HEAD", "/b/o").headers["etag"])
      for header in [eTag, "*", String(eTag.dropFirst().dropLast()), "\"other\", \(eTag)"] {
        #expect(try origin.ask("GET", "/b/o", [("If-Match", header)]).body == bytes)
      }
      let refused = try origin.ask("GET", "/b/o", [("If-Match", "\"0\""), ("Range", "bytes=0-1")])
      #expect(refused.status == 412)
      #expect(refused.errorCode == "PreconditionFailed")
      origin.put(bucket: "b", key: "o", bytes: [1])
      #expect(try origin.ask("GET", "/b/o", [("If-Match", eTag)]).status == 412)
    }
  }

  @Test("If-None-Match is 304 for the same version, on a connection that goes on")
  func ifNoneMatch() async throws {
    try await withObject { origin, bytes in
      let client = try origin.client()
      client.send("HEAD", "/b/o")
      let eTag = try #require(client.receive(toHead: true).headers["etag"])
      client.send("GET", "/b/o", [("If-None-Match", eTag)])
      let same = client.receive()
      #expect(same.status == 304)
      #expect(same.headers["etag"] == eTag)
      client.send("GET", "/b/o", [("If-None-Match", "\"other\"")])
      #expect(client.receive().body == bytes)
    }
  }

  @Test("The ETag stays while the file does, and changes with its content")
  func eTagOfFile() async throws {
    let folder = try TemporaryFolder()
    try folder.write("one", to: "b/o")
    try await EmbeddedS3Origin.run(OriginConfiguration(rootFolder: folder.path)) { origin in
      let first = try origin.ask("HEAD", "/b/o").headers["etag"]
      #expect(try origin.ask("HEAD", "/b/o").headers["etag"] == first)
      // Times on disk may be no finer than a clock tick.
      usleep(20_000)
      try folder.write("two", to: "b/o")
      #expect(try origin.ask("HEAD", "/b/o").headers["etag"] != first)
    }
  }

  @Test("A large file comes through sendfile unchanged, also in ranges across its pieces")
  func largeFile() async throws {
    let folder = try TemporaryFolder()
    let bytes = pattern(3_000_017)
    try folder.write(bytes, to: "b/o")
    try await EmbeddedS3Origin.run(OriginConfiguration(rootFolder: folder.path)) { origin in
      let client = try origin.client()
      client.send("GET", "/b/o")
      #expect(client.receive().body == bytes)
      client.send("GET", "/b/o", [("Range", "bytes=262143-2097153")])
      #expect(client.receive().body == Array(bytes[262143...2_097_153]))
    }
  }

  @Test("Requests sent ahead on one connection are answered in their order")
  func pipelining() async throws {
    try await withObject { origin, bytes in
      let client = try origin.client()
      for first in 0..<5 { client.send("GET", "/b/o", [("Range", "bytes=\(first)-\(first)")]) }
      for first in 0..<5 { #expect(client.receive().body == [bytes[first]]) }
      #expect(await origin.connections().accepted == 1)
    }
  }

  @Test("A connection that asks to be closed is")
  func connectionClose() async throws {
    try await withObject { origin, bytes in
      let client = try origin.client()
      client.send("GET", "/b/o", [("Connection", "close")])
      #expect(client.receive().body == bytes)
      #expect(client.end() == .closed)
    }
  }

  @Test(
    "A key is what its bytes say",
    arguments: [
      ("/b/a+b", "a+b"), ("/b/a%2Bb", "a+b"), ("/b/a%20b", "a b"), ("/b/%C3%BC", "\u{FC}"),
      ("/b/u%CC%88", "u\u{308}"), ("/b/100%25", "100%"), ("/b//lead", "/lead"), ("/b/a//c", "a//c"),
      ("/b/tail/", "tail/"), ("/b/..%2Fup", "../up"), ("/b/a/../c", "a/../c"),
      ("/b/%00%01", "\0\u{1}"),
      ("/b/a%3Fb%26c%3Dd", "a?b&c=d"),
    ])
  func oddKeys(target: String, key: String) async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put(bucket: "b", key: key, bytes: Array(key.utf8))
      let answer = try origin.ask("GET", target)
      #expect(answer.text.utf8.elementsEqual(key.utf8))
    }
  }

  @Test("A letter composed and the same letter decomposed are two keys")
  func canonicallyEquivalentKeys() async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put(bucket: "b", key: "\u{FC}", bytes: Array("composed".utf8))
      origin.put(bucket: "b", key: "u\u{308}", bytes: Array("decomposed".utf8))
      let composed = try origin.ask("GET", "/b/%C3%BC")
      #expect(composed.text == "composed")
      let decomposed = try origin.ask("GET", "/b/u%CC%88")
      #expect(decomposed.text == "decomposed")
      #expect(await origin.requests(forKey: "\u{FC}").count == 1)
    }
  }

  @Test(
    "No key leads out of the bucket's folder",
    arguments: [
      "/b/../secret", "/b/%2e%2e/secret", "/b/..%2fsecret", "/b/sub/../../secret", "/../secret",
      "/%2e%2e/secret", "/b//etc/hostname", "/b/%2fetc%2fhostname", "/b/./o", "/b/sub/../o",
      "/b/sub",
      "/b/o%00", "/b/o/", "/./secret", "/b/fifo",
    ])
  func traversal(target: String) async throws {
    let folder = try TemporaryFolder()
    try folder.write("secret", to: "secret")
    try folder.write("o", to: "root/b/o")
    try folder.write("o", to: "root/b/sub/o")
    mkfifo(folder.path + "/root/b/fifo", 0o600)
    try await EmbeddedS3Origin.run(
      OriginConfiguration(rootFolder: folder.path + "/root")
    ) { origin in
      #expect(try origin.ask("GET", "/b/sub/o").text == "o")
      let answer = try origin.ask("GET", target)
      #expect(answer.status == 404)
      #expect(["NoSuchKey", "NoSuchBucket"].contains(answer.errorCode))
    }
  }

  @Test("What is not there, not allowed or not served is an error in S3's words")
  func errors() async throws {
    try await withObject { origin, _ in
      #expect(try origin.ask("GET", "/b/none").errorCode == "NoSuchKey")
      #expect(try origin.ask("GET", "/none/none").errorCode == "NoSuchBucket")
      #expect(try origin.ask("GET", "/b/%zz").errorCode == "InvalidURI")
      #expect(try origin.ask("GET", "/b/%ff").errorCode == "InvalidURI")
      #expect(try origin.ask("GET", "/b/o?acl").errorCode == "NotImplemented")
      for method in ["PUT", "POST", "DELETE"] {
        let answer = try origin.ask(method, "/b/o", body: "new")
        #expect(answer.status == 405)
        #expect(answer.errorCode == "MethodNotAllowed")
      }
      let client = try origin.client()
      client.send("HEAD", "/b/none")
      #expect(client.receive(toHead: true).status == 404)
      client.send("GET", "/b/o")
      #expect(client.receive().status == 200, "an error to HEAD has no body")
    }
  }

  @Test("A write that waits to be told to continue is refused at once")
  func expectContinue() async throws {
    try await withObject { origin, _ in
      let client = try origin.client()
      client.send("PUT", "/b/o", [("Expect", "100-continue"), ("Content-Length", "1000000")])
      #expect(client.receive().status == 405)
      #expect(client.end() == .closed)
    }
  }

  @Test(
    "The bucket may be in the host's name",
    arguments: [
      "b.localhost:8000", "b.s3.amazonaws.com", "b.s3.eu-west-1.amazonaws.com", "b.example.org",
    ])
  func virtualHost(host: String) async throws {
    try await withObject { origin, bytes in
      let answer = try origin.ask("GET", "/o", [("Host", host)])
      #expect(answer.body == bytes)
    }
  }

  @Test(
    "A host that names no bucket leaves it to the path",
    arguments: ["127.0.0.1:8000", "localhost", "s3.amazonaws.com", "other.example.org"])
  func pathStyle(host: String) async throws {
    try await withObject { origin, bytes in
      let answer = try origin.ask("GET", "/b/o", [("Host", host)])
      #expect(answer.body == bytes)
    }
  }

  @Test("Objects in memory hide files, can be removed, and give way again")
  func overlay() async throws {
    let folder = try TemporaryFolder()
    try folder.write("file", to: "here")
    let configuration = OriginConfiguration(bucketFolders: ["b": folder.path])
    try await EmbeddedS3Origin.run(configuration) { origin in
      #expect(try origin.ask("GET", "/b/here").text == "file")
      origin.put(bucket: "b", key: "here", bytes: Array("memory".utf8), eTag: "mine-2")
      let answer = try origin.ask("GET", "/b/here")
      #expect(answer.text == "memory")
      #expect(answer.headers["etag"] == "\"mine-2\"")
      origin.remove(bucket: "b", key: "here")
      #expect(try origin.ask("GET", "/b/here").errorCode == "NoSuchKey")
      origin.revert(bucket: "b", key: "here")
      #expect(try origin.ask("GET", "/b/here").text == "file")
    }
  }

  @Test("An object replaced between two reads is seen by the second")
  func replacedBetweenReads() async throws {
    let origins = OriginReference()
    var configuration = OriginConfiguration()
    configuration.willAnswer = { record in
      if record.number == 2 { origins.origin?.put(bucket: "b", key: "o", bytes: [2, 2]) }
    }
    try await EmbeddedS3Origin.run(configuration) { origin in
      origins.origin = origin
      origin.put(bucket: "b", key: "o", bytes: [1, 1])
      let first = try origin.ask("GET", "/b/o", [("Range", "bytes=0-0")])
      let eTag = try #require(first.headers["etag"])
      let second = try origin.ask("GET", "/b/o", [("Range", "bytes=1-1"), ("If-Match", eTag)])
      #expect(second.status == 412)
      #expect(try origin.ask("GET", "/b/o").body == [2, 2])
    }
  }

  private func withObject(
    _ body: (EmbeddedS3Origin, [UInt8]) async throws -> Void
  ) async throws {
    let bytes = pattern(1000)
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put(bucket: "b", key: "o", bytes: bytes)
      try await body(origin, bytes)
    }
  }
}

/// Lets a callback that is configured before there is a server reach the server.
private final class OriginReference: Sendable {
  private let held = NIOLockedValueBox<EmbeddedS3Origin?>(nil)

  var origin: EmbeddedS3Origin? {
    get { held.withLockedValue { $0 } }
    set { held.withLockedValue { $0 = newValue } }
  }
}
