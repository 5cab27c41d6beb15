import Glibc
import InventoryFileSystem
import Testing

/// What is opened is closed. Descriptors are counted by the process, but only those of the test's
/// own folder.
@Suite(.timeLimit(.minutes(2))) struct DescriptorTests {
  @Test("Readers that leave during a retry leave no files of the cache open")
  func closingDuringRetry() async throws {
    // More chunks than are kept ready for the next open.
    let chunks = (0..<45).map {
      Rig.Chunk(key: "chunk\($0)", bytes: content(5_000_000, seed: UInt64($0)))
    }
    let rule = ScriptedStore.Rule(
      .status(503, code: "SlowDown", retryAfter: 1), rangeOverlaps: 3_500_000..<5_000_000)
    let folder = try CacheFolder()
    let clock = ManualClock(retries: .onTime)
    let store = ScriptedStore([rule])
    store.put(chunks)
    let rig = try Rig(store.connect(), chunks, cachePath: folder.path, clock: clock)
    defer { rig.fileSystem.shutDown() }
    for chunk in chunks {
      let before = clock.planned(on: "retries").count
      let file = try await rig.open(chunk.key)
      let read = rig.start(file, 4_000_000, 100)
      try await clock.untilPlanned(before + 1, on: "retries")
      read.interrupt()
      _ = try? await read.value()
      rig.fileSystem.close(file)
    }
    #expect(clock.planned(on: "retries").count >= chunks.count)
    try await store.untilIdle()
    clock.advance(by: .seconds(10))
    #expect(clock.planned(on: "retries").isEmpty, "each retry has come due")
    try await store.untilIdle()
    // Files are closed on a queue of their own.
    try await until { openFiles(under: folder.path) <= 2 * 32 + 4 }
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
