import InventoryFileSystem
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct TreeTests {
  private let chunks = [
    Rig.Chunk(key: "one.csv.gz", bytes: content(1000)), Rig.Chunk(key: "two.csv.gz", bytes: []),
  ]

  @Test("The tree has the manifest and the chunks, by name and in order")
  func names() async throws {
    try await Rig.run(chunks) { rig, _ in
      let fileSystem = rig.fileSystem
      let root = try (0..<fileSystem.itemCount(of: .root)).map {
        try fileSystem.item(at: $0, of: .root)
      }
      #expect(root.map(\.name) == ["manifest.json", "data"])
      let data = try fileSystem.lookUp("data", in: .root).node
      #expect(try fileSystem.itemCount(of: data) == 2)
      for (index, chunk) in chunks.enumerated() {
        let item = try fileSystem.item(at: index, of: data)
        #expect(item.name == chunk.key)
        #expect(item.attributes.sizeInBytes == chunk.bytes.count)
        #expect(item.attributes.kind == .file)
        #expect(item.attributes.mode == 0o444)
        #expect(item.attributes.userID == 7)
        #expect(item.attributes.groupID == 8)
        #expect(item.attributes.modificationTimeInMilliseconds == 1_700_000_000_123)
        #expect(try fileSystem.lookUp(chunk.key, in: data) == item.attributes)
      }
      #expect(throws: FileSystemError.notFound) { try fileSystem.lookUp("three", in: data) }
      #expect(throws: FileSystemError.notFound) {
        try fileSystem.lookUp("manifest.checksum", in: .root)
      }
      #expect(throws: FileSystemError.nameTooLong) {
        try fileSystem.lookUp(String(repeating: "x", count: 256), in: data)
      }
      let chunk = try rig.node("one.csv.gz")
      #expect(throws: FileSystemError.notADirectory) { try fileSystem.lookUp("x", in: chunk) }
      #expect(throws: FileSystemError.notFound) {
        try fileSystem.attributes(of: NodeID(inode: 1 << 40))
      }
    }
  }

  @Test("Looking around asks the store for nothing")
  func noRequests() async throws {
    try await Rig.run(chunks) { rig, store in
      let node = try rig.node("one.csv.gz")
      _ = try rig.fileSystem.attributes(of: node)
      _ = try rig.fileSystem.attribute("user.s3.key", of: node)
      #expect(store.requests.isEmpty)
    }
  }

  @Test("Extended attributes tell where a chunk comes from, and how much of it is here")
  func extendedAttributes() async throws {
    try await Rig.run(chunks) { rig, store in
      let node = try rig.node("one.csv.gz")
      func text(_ name: String) throws -> String {
        String(decoding: try rig.fileSystem.attribute(name, of: node), as: UTF8.self)
      }
      #expect(try text("user.s3.bucket") == "bucket")
      #expect(try text("user.s3.key") == "one.csv.gz")
      #expect(try text("user.inventoryfs.cached_bytes") == "0")
      let eTag = try text("user.s3.etag")
      #expect(eTag.count == 34)
      #expect(store.requests.map(\.method) == ["HEAD"])
      #expect(try text("user.s3.etag") == eTag)
      _ = try await rig.contents("one.csv.gz")
      #expect(try text("user.inventoryfs.cached_bytes") == "1000")
      #expect(store.requests.count == 2)
      #expect(throws: FileSystemError.noSuchAttribute) { try text("user.other") }
    }
  }

  @Test("The manifest is read as it is, and past its end there is nothing")
  func manifest() async throws {
    try await Rig.run(chunks) { rig, _ in
      let node = try rig.fileSystem.lookUp("manifest.json", in: .root).node
      guard case .opened(let file) = try rig.fileSystem.open(node, parked: { TestOpen() })
      else {
        Issue.record("the manifest waits for something")
        return
      }
      #expect(try await rig.read(file, 0, 100) == Array("{}".utf8))
      #expect(try await rig.read(file, 1, 1) == Array("}".utf8))
      #expect(try await rig.read(file, 2, 100) == [])
      #expect(throws: FileSystemError.isADirectory) {
        try rig.fileSystem.open(.root, parked: { TestOpen() })
      }
    }
  }

  @Test("An empty chunk is opened and read without a request")
  func emptyChunk() async throws {
    try await Rig.run(chunks) { rig, store in
      let bytes = try await rig.contents("two.csv.gz")
      #expect(bytes == [])
      #expect(store.requests.isEmpty)
    }
  }
}
