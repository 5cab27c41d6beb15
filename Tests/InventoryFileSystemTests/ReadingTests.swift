import Glibc
import InventoryFileSystem
import TestSupport
import Testing

/// Reads against what a flat file would give.
@Suite(.timeLimit(.minutes(2))) struct ReadingTests {
  @Test(
    "Any program of opens, reads and closes by several readers sees the flat bytes",
    arguments: [16 << 20, Rig.largeCache], [UInt64(1), 2])
  func randomProgram(cacheSizeInBytes: Int, seed: UInt64) async throws {
    var chunks: [Rig.Chunk] = []
    for (index, size) in [9_000_001, 12 << 20, 65_536, 700_000].enumerated() {
      chunks.append(
        Rig.Chunk(
          key: "chunk\(index)", bytes: content(size, seed: seed &+ UInt64(index)),
          hasMD5: index != 3))
    }
    let all = chunks
    try await Rig.run(all, cacheSizeInBytes: cacheSizeInBytes) { rig, store in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for reader in 0..<6 {
          group.addTask {
            var generator = SeededGenerator(seed: seed &* 1000 &+ UInt64(reader))
            for _ in 0..<5 {
              let chunk = all[Int.random(in: 0..<all.count, using: &generator)]
              let file = try await rig.open(chunk.key)
              var offset = Int.random(in: 0..<chunk.bytes.count, using: &generator)
              let isSequential = Bool.random(using: &generator)
              for _ in 0..<12 {
                let count = Int.random(in: 1...600_000, using: &generator)
                let got = try await rig.read(file, offset, count)
                let end = min(offset + count, chunk.bytes.count)
                let isRight = isSame(got, chunk.bytes[min(offset, end)..<end])
                #expect(isRight, "seed \(seed), \(chunk.key) at \(offset), \(count) bytes")
                if isSequential, end < chunk.bytes.count {
                  offset = end
                } else {
                  offset = Int.random(in: 0..<chunk.bytes.count, using: &generator)
                }
              }
              rig.fileSystem.close(file)
            }
          }
        }
        try await group.waitForAll()
      }
      if cacheSizeInBytes == Rig.largeCache {
        for chunk in all {
          #expect(store.bytesSentTwice(forKey: chunk.key) == 0, "seed \(seed)")
        }
      }
    }
  }

  @Test("An object that the manifest lists twice is two chunks, each with bytes of its own")
  func listedTwice() async throws {
    let chunk = Rig.Chunk(key: "chunk", bytes: content(5_000_000))
    var again = chunk
    again.name = "again"
    let big = Rig.Chunk(key: "big", bytes: content(20_000_000, seed: 2))
    try await Rig.run([chunk, again, big], cacheSizeInBytes: 16 << 20) { rig, _ in
      let files = [try await rig.open("chunk"), try await rig.open("again")]
      func check(_ occasion: String) async throws {
        for file in files {
          for offset in stride(from: 0, to: chunk.bytes.count, by: 1 << 20) {
            let bytes = try await rig.read(file, offset, 1 << 20)
            let isRight = bytes == Array(chunk.bytes[offset...].prefix(1 << 20))
            #expect(isRight, "\(occasion), from \(offset)")
          }
        }
      }
      try await check("as they come")
      // What one of them loses is not what the other one has.
      try await rig.check(big)
      try await check("once others have taken their place")
      for file in files { rig.fileSystem.close(file) }
    }
  }

  @Test("Many readers of one chunk ask for no byte twice, and never without the version")
  func sharedReading() async throws {
    let chunk = Rig.Chunk(key: "shared", bytes: content(20_000_000))
    try await Rig.run([chunk]) { rig, store in
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for reader in 0..<8 {
          group.addTask {
            try await rig.contents("shared", pieceInBytes: 100_000 + reader * 31_111) == chunk.bytes
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
      #expect(store.bytesRequestedTwice(forKey: "shared") == 0)
      let gets = store.gets("shared")
      #expect(gets.count > 1)
      #expect(gets.first?.ifMatch == nil)
      #expect(gets.dropFirst().allSatisfy { $0.ifMatch != nil })
      #expect(gets.reduce(0) { $0 + $1.bodyBytesSent } == chunk.bytes.count)
    }
  }

  @Test("A small cache stays within its size while a larger chunk goes through it")
  func bound() async throws {
    let chunk = Rig.Chunk(key: "large", bytes: content(40 << 20))
    let folder = try CacheFolder()
    let store = ScriptedStore()
    store.put([chunk])
    let rig = try Rig(store.connect(), [chunk], cachePath: folder.path, cacheSizeInBytes: 16 << 20)
    defer { rig.fileSystem.shutDown() }
    let file = try await rig.open("large")
    var largest = 0
    for offset in stride(from: 0, to: chunk.bytes.count, by: 1 << 20) {
      let got = try await rig.read(file, offset, 1 << 20)
      let isRight = got == Array(chunk.bytes[offset..<offset + got.count])
      #expect(isRight && got.count == 1 << 20)
      var taken = 0
      for path in try folder.chunkFiles(endingIn: "") {
        var info = stat()
        if lstat(path, &info) == 0 { taken += Int(info.st_blocks) * 512 }
      }
      largest = max(largest, taken)
    }
    rig.fileSystem.close(file)
    #expect(largest <= 16 << 20)
    #expect(largest > 8 << 20, "the test would not see a cache that keeps nothing")
  }

  @Test("After a restart with the same cache nothing is fetched again")
  func restart() async throws {
    let chunks = [
      Rig.Chunk(key: "plain", bytes: content(3_000_000)),
      Rig.Chunk(key: "no-md5", bytes: content(2_000_000, seed: 2), hasMD5: false),
    ]
    let folder = try CacheFolder()
    let store = ScriptedStore()
    store.put(chunks)
    for run in 0..<2 {
      store.resetAccount()
      let rig = try await untilFree { try Rig(store.connect(), chunks, cachePath: folder.path) }
      for chunk in chunks { try await rig.check(chunk) }
      rig.fileSystem.shutDown()
      let gets = store.requests.filter { $0.method == "GET" }
      #expect(gets.isEmpty == (run == 1))
      // Without an MD5 the store has to be asked which version it has.
      #expect(store.requests(forKey: "no-md5").first?.method == "HEAD")
    }
  }

  @Test("Cached bytes that were damaged on disk are noticed and fetched again")
  func damage() async throws {
    let chunk = Rig.Chunk(key: "damaged", bytes: content(1_000_000))
    let folder = try CacheFolder()
    let store = ScriptedStore()
    store.put([chunk])
    do {
      let first = try Rig(store.connect(), [chunk], cachePath: folder.path)
      _ = try await first.contents("damaged")
      first.fileSystem.shutDown()
    }
    let file = try #require(try folder.chunkFiles(endingIn: ".data").first)
    let descriptor = open(file, O_WRONLY)
    pwrite(descriptor, [UInt8](repeating: 0, count: 3000), 3000, 100_000)
    close(descriptor)
    store.resetAccount()
    let rig = try await untilFree { try Rig(store.connect(), [chunk], cachePath: folder.path) }
    defer { rig.fileSystem.shutDown() }
    try await rig.check(chunk)
    #expect(store.gets("damaged").compactMap(\.range) == [65536..<131_072])
  }
}
