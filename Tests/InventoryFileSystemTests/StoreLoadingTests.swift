import InventoryFileSystem
import InventoryManifest
import Logging
import ObjectStore
import TestSupport
import Testing

/// Manifests that are loaded from stores which do odd things.
@Suite(.timeLimit(.minutes(1))) struct StoreLoadingTests {
  private func load(
    _ server: PlainServer, scheme: String = "http", recorder: LogRecorder = LogRecorder()
  ) throws -> Inventory {
    let store = try #require(
      ObjectStore(
        ObjectStoreConfiguration(
          endpoint: try S3Endpoint(url: "\(scheme)://127.0.0.1:\(server.port)"),
          region: "us-east-1", maxConnections: 4, receiveBufferSizeInBytes: 64 << 10),
        credentials: AnonymousCredentials()))
    defer { store.shutDown() }
    return try InventoryLoader(bucketOverride: nil, logger: recorder.logger)
      .load(S3Location(bucket: "bucket", key: "i/manifest.json"), from: store, maxRequests: 4)
  }

  @Test("An endpoint that does not speak TLS ends the loading within 5 s")
  func plainEndpoint() throws {
    let server = try #require(PlainServer(readsRequest: false) { $0.waitForBytes() })
    let start = SuspendingClock.now
    #expect(throws: InventoryLoadError.self) { try load(server, scheme: "https") }
    #expect(SuspendingClock.now - start < .seconds(9))
    #expect(server.connectionCount > 2, "the two files are asked for again")
  }
}
