import AWSCredentials
import InventoryFileSystem
import InventoryManifest
import Logging
import ObjectStore
import TestSupport
import Testing

/// Manifests that are loaded from stores which do odd things.
@Suite(.timeLimit(.minutes(20))) struct StoreLoadingTests {
  private func load(
    _ server: PlainServer, scheme: String = "http", readTimeout: Duration = .seconds(60),
    recorder: LogRecorder = LogRecorder()
  ) throws -> Inventory {
    let store = try #require(
      ObjectStore(
        ObjectStoreConfiguration(
          endpoint: try S3Endpoint(url: "\(scheme)://127.0.0.1:\(server.port)"),
          region: "us-east-1", maxConnections: 4, receiveBufferSizeInBytes: 64 << 10),
        credentials: AnonymousCredentials()))
    defer { store.shutDown() }
    return try InventoryLoader(
      bucketOverride: nil, readTimeout: readTimeout, logger: recorder.logger
    ).load(S3Location(bucket: "bucket", key: "i/manifest.json"), from: store, maxRequests: 4)
  }

  /// Says what `head` is for every HEAD, and the manifest otherwise.
  private func server(
    manifest: String, head: String = "HTTP/1.1 404 Not Found\r\n"
  ) throws -> PlainServer {
    try #require(
      PlainServer { connection in
        let isHead = connection.request.hasPrefix("HEAD ")
        let isManifest = connection.request.contains("manifest.json")
        connection.send(
          isHead
            ? head + "Connection: close\r\n\r\n"
            : (isManifest ? "HTTP/1.1 200 OK" : "HTTP/1.1 404 Not Found")
              + "\r\nConnection: close\r\nContent-Length: \(manifest.utf8.count)\r\n\r\n"
              + manifest)
      })
  }

  private func manifest(_ files: String) -> String {
    #"{"destinationBucket":"bucket","fileFormat":"CSV","files":[\#(files)]}"#
  }

  @Test(
    "A size that the store does not tell, or that no object has, is no size",
    arguments: [
      "", "Content-Length: 9223372036854775807\r\n", "Content-Length: 54975581388801\r\n",
    ])
  func uselessSize(header: String) throws {
    let server = try server(
      manifest: manifest(#"{"key":"k"}"#), head: "HTTP/1.1 200 OK\r\nETag: \"x\"\r\n" + header)
    let recorder = LogRecorder()
    let chunk = try #require(try load(server, recorder: recorder).chunks.first)
    #expect(chunk.failure == .inputOutput && chunk.sizeInBytes == 0)
    #expect(
      recorder.messages.contains {
        $0.hasPrefix("error: s3://bucket/k: ")
          && $0.contains("Content-Length of at most 54975581388800")
      }, "\(recorder.messages)")
  }

  @Test("The largest object that there is has its size")
  func largestSize() throws {
    let server = try server(
      manifest: manifest(#"{"key":"k"}"#),
      head: "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 54975581388800\r\n")
    let chunk = try #require(try load(server).chunks.first)
    #expect(chunk.failure == nil && chunk.sizeInBytes == 50 << 40 && chunk.eTag == "\"x\"")
  }

  @Test("An ETag that the cache cannot store is not taken")
  func longETag() throws {
    for (length, isTaken) in [(1024, true), (1025, false)] {
      let eTag = String(repeating: "x", count: length)
      let server = try server(
        manifest: manifest(#"{"key":"k"}"#),
        head: "HTTP/1.1 200 OK\r\nETag: \(eTag)\r\nContent-Length: 7\r\n")
      #expect(try load(server).chunks.first?.eTag == (isTaken ? eTag : nil))
    }
  }

  @Test("An endpoint that does not speak TLS ends the loading after 5 s, and no sooner")
  func plainEndpoint() throws {
    let server = try #require(PlainServer(readsRequest: false) { $0.waitForBytes() })
    let start = SuspendingClock.now
    // Who waited for `--read-timeout` would be waiting when the suite's time is over.
    #expect(throws: InventoryLoadError.self) {
      try load(server, scheme: "https", readTimeout: .seconds(24 * 3600))
    }
    #expect(SuspendingClock.now - start >= .seconds(5), "it may be there before they are over")
    #expect(server.connectionCount > 2, "the two files are asked for again")
  }
}
