import AWSCredentials
import InventoryFileSystem
import InventoryManifest
import Locks
import ObjectStore
import Posix
import TestSupport
import Testing

/// Manifests that are loaded from stores which do odd things.
@Suite(.timeLimit(.minutes(2))) struct StoreLoadingTests {
  private static let location = S3Location(bucket: "bucket", key: "i/manifest.json")

  private func load(
    _ store: ScriptedStore, readTimeout: Duration = .seconds(60),
    clock: ManualClock = ManualClock(),
    recorder: LogRecorder = LogRecorder()
  ) throws -> Inventory {
    let connection = store.connect()
    defer { connection.shutDown() }
    return try InventoryLoader(
      bucketOverride: nil, readTimeout: readTimeout, clock: clock, logger: recorder.logger
    ).load(Self.location, from: connection, maxRequests: 4)
  }

  /// Has a manifest with one chunk whose size it does not tell; a HEAD for that is answered with
  /// these lines.
  private func store(head: [String]) -> ScriptedStore {
    let store = ScriptedStore()
    store.put(key: Self.location.key, bytes: Array(manifest(#"{"key":"k"}"#).utf8))
    store.put(key: "k", head: head)
    return store
  }

  private func manifest(_ files: String) -> String {
    #"{"destinationBucket":"bucket","fileFormat":"CSV","files":[\#(files)]}"#
  }

  @Test(
    "A size that the store does not tell, or that no object has, is no size",
    arguments: [
      [], ["Content-Length: 9223372036854775807"], ["Content-Length: 54975581388801"],
    ])
  func uselessSize(header: [String]) throws {
    let store = store(head: ["ETag: \"x\""] + header)
    let recorder = LogRecorder()
    let chunk = try #require(try load(store, recorder: recorder).chunks.first)
    #expect(chunk.failure == .inputOutput && chunk.sizeInBytes == 0)
    #expect(
      recorder.messages.contains {
        $0.hasPrefix("error: s3://bucket/k: ")
          && $0.contains("Content-Length of at most 54975581388800")
      }, "\(recorder.messages)")
  }

  @Test("The largest object that there is has its size")
  func largestSize() throws {
    let store = store(head: ["ETag: \"x\"", "Content-Length: 54975581388800"])
    let chunk = try #require(try load(store).chunks.first)
    #expect(chunk.failure == nil && chunk.sizeInBytes == 50 << 40 && chunk.eTag == "\"x\"")
  }

  @Test("An ETag that the cache cannot store is not taken")
  func longETag() throws {
    for (length, isTaken) in [(1024, true), (1025, false)] {
      let eTag = String(repeating: "x", count: length)
      let store = store(head: ["ETag: \(eTag)", "Content-Length: 7"])
      #expect(try load(store).chunks.first?.eTag == (isTaken ? eTag : nil))
    }
  }

  @Test("A store that nobody can reach ends the loading after 5 s, and no sooner")
  func unreachable() async throws {
    let store = ScriptedStore([ScriptedStore.Rule(.fail(.connection(.handshake, text: "no TLS")))])
    let clock = ManualClock(retries: .onTime)
    let isOver = Lock(false)
    // It waits without letting its thread go, which is therefore none of those that tasks share.
    let thread = PosixThread(named: "loading") {
      // Who waited for `--read-timeout` would have the time of a day pass.
      #expect(throws: InventoryLoadError.self) {
        try load(store, readTimeout: .seconds(24 * 3600), clock: clock)
      }
      isOver.withLock { $0 = true }
    }
    try await until {
      // Each request that has failed is planned anew by then.
      try await store.untilIdle()
      clock.advanceToNext(within: .seconds(5))
      return isOver.withLock { $0 }
    }
    thread?.join()
    #expect(clock.now == .seconds(5), "it may be there before they are over")
    #expect(store.requests.count > 2, "the two files are asked for again")
  }
}
