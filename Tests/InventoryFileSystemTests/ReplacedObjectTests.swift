import EmbeddedS3Origin
import InventoryFileSystem
import Testing

/// The object behind a chunk becomes another one.
@Suite(.timeLimit(.minutes(5))) struct ReplacedObjectTests {
  private let old = Rig.Chunk(key: "chunk", bytes: content(6_000_000, seed: 1))
  private let new = Rig.Chunk(key: "chunk", bytes: content(6_000_000, seed: 2))

  @Test("An object replaced while it is read is stale; who opens it anew reads the new one")
  func replacedWhileRead() async throws {
    try await Rig.run([old]) { rig, origin in
      let file = try await rig.open("chunk")
      let start = try await rig.read(file, 0, 4096)
      #expect(start == Array(old.bytes[..<4096]))
      origin.put([new])
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 5_500_000, 4096) }
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 0, 4096) }
      await #expect(throws: FileSystemError.stale) { _ = try await rig.open("chunk") }
      rig.fileSystem.close(file)
      try await rig.checkOnceSettled(new)
    }
  }

  @Test("So it is where the ETag was asked for beforehand", arguments: [true, false])
  func askedBeforehand(hasMD5: Bool) async throws {
    var old = old
    old.hasMD5 = hasMD5
    try await Rig.run([old]) { rig, origin in
      _ = try rig.fileSystem.attribute("user.s3.etag", of: rig.node("chunk"))
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      origin.put([new])
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 5_500_000, 4096) }
      rig.fileSystem.close(file)
      try await rig.checkOnceSettled(new)
    }
  }

  @Test("The same bytes under another ETag are another version")
  func anotherETag() async throws {
    try await Rig.run([old]) { rig, origin in
      let file = try await rig.open("chunk")
      origin.put(bucket: Rig.bucket, key: "chunk", bytes: old.bytes, eTag: "another")
      await #expect(throws: FileSystemError.stale) { try await rig.read(file, 5_500_000, 4096) }
      rig.fileSystem.close(file)
    }
  }
}

extension Rig {
  /// Reads the chunk, whose last reader has just closed it: transfers for that one may still be ending.
  fileprivate func checkOnceSettled(_ chunk: Chunk) async throws {
    for _ in 0..<100 {
      do {
        return try await check(chunk)
      } catch FileSystemError.stale {
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    try await check(chunk)
  }
}
