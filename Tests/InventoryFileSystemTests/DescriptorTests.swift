import EmbeddedS3Origin
import Glibc
import InventoryFileSystem
import Testing

/// What is opened is closed. Serial, because descriptors are counted by the process.
@Suite(.serialized, .timeLimit(.minutes(20))) struct DescriptorTests {
  @Test("Readers that leave during a retry leave no files of the cache open")
  func closingDuringRetry() async throws {
    // More chunks than are kept ready for the next open.
    let chunks = (0..<45).map {
      Rig.Chunk(key: "chunk\($0)", bytes: content(5_000_000, seed: UInt64($0)))
    }
    let rule = FaultRule(
      .status(503, code: "SlowDown", retryAfter: 1),
      when: FaultMatch(rangeOverlaps: 3_500_000..<5_000_000))
    let folder = try CacheFolder()
    try await EmbeddedS3Origin.run(OriginConfiguration(faultPlan: FaultPlan(rules: [rule]))) {
      origin in
      origin.put(chunks)
      let rig = try Rig(origin, chunks, cachePath: folder.path)
      defer { rig.fileSystem.shutDown() }
      for chunk in chunks {
        let before = await origin.totals().requestsByStatus[503] ?? 0
        let file = try await rig.open(chunk.key)
        let read = rig.start(file, 4_000_000, 100)
        while (await origin.totals().requestsByStatus[503] ?? 0) == before {
          try await Task.sleep(for: .milliseconds(2))
        }
        // The answer has left the store; the retry is planned a moment later.
        try await Task.sleep(for: .milliseconds(20))
        read.interrupt()
        _ = try? await read.value()
        rig.fileSystem.close(file)
      }
      let most = 2 * 32 + 4
      // By then each retry has come due. What ends then may take a busy machine longer.
      try await Task.sleep(for: .milliseconds(1500))
      for _ in 0..<3000 where openFiles(under: folder.path) > most {
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(openFiles(under: folder.path) <= most)
    }
  }
}

private func openFiles(under path: String) -> Int {
  var count = 0
  for descriptor in 0..<4096 {
    var target = [CChar](repeating: 0, count: 4096)
    let length = readlink("/proc/self/fd/\(descriptor)", &target, target.count - 1)
    guard length > 0 else { continue }
    let text = String(decoding: target[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    if text.hasPrefix(path) { count += 1 }
  }
  return count
}
