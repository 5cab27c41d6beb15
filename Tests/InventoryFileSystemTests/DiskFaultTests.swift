import Foundation
import InventoryFileSystem
import Locks
import ReadPlanning
import SystemPackage
import TestSupport
import Testing

@testable import BlockCache

/// The cache's disk fails: every read is answered with the right bytes all the same.
@Suite(.timeLimit(.minutes(2))) struct DiskFaultTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(9_000_000))
  private let third = Rig.Chunk(key: "third", bytes: content(12_000_000, seed: 3))
  private let other = Rig.Chunk(key: "other", bytes: content(3_000_000, seed: 2))

  /// What fails, for whoever changes it while the cache is used.
  private final class Disk: Sendable {
    private struct Failing {
      var steps: Set<CacheStep> = []
      var code = Errno.ioError
      var successesLeft = 0
      var failureCount = 0
    }

    private let failing = Lock(Failing())

    /// How often a step has failed since `fail` was called last.
    var failureCount: Int { failing.withLock { $0.failureCount } }

    /// - Parameter successes: how many of the steps succeed before.
    func fail(_ steps: Set<CacheStep>, _ code: Errno = .ioError, afterSuccesses successes: Int = 0)
    {
      failing.withLock { $0 = Failing(steps: steps, code: code, successesLeft: successes) }
    }

    var hook: CacheStepHook {
      { step in
        self.failing.withLock { failing in
          guard failing.steps.contains(step) else { return nil }
          failing.successesLeft -= 1
          guard failing.successesLeft < 0 else { return nil }
          failing.failureCount += 1
          return failing.code
        }
      }
    }
  }

  private func run(
    cacheSizeInBytes: Int = Rig.largeCache, readTimeout: Duration = .seconds(60),
    verify: VerificationMode = .off,
    _ body: (Rig, ScriptedStore, Disk, LogRecorder, CacheFolder) async throws -> Void
  ) async throws {
    let (disk, log, folder) = (Disk(), LogRecorder(), try CacheFolder())
    let store = ScriptedStore()
    store.put([chunk, other, third])
    let rig = try Rig(
      store.connect(), [chunk, other, third], cachePath: folder.path,
      cacheSizeInBytes: cacheSizeInBytes, readTimeout: readTimeout, hook: disk.hook, verify: verify,
      logger: log.logger)
    defer { rig.fileSystem.shutDown() }
    try await body(rig, store, disk, log, folder)
  }

  /// Warnings and errors, once there is one: what it tells of is known before its line is written.
  private func warnings(in log: LogRecorder) async throws -> [String] {
    var found: [String] = []
    try await until {
      found = log.messages.filter { $0.hasPrefix("warning") || $0.hasPrefix("error") }
      return !found.isEmpty
    }
    return found
  }

  /// Mends the disk, and moves the time on to when that is found out.
  private func mend(
    _ disk: Disk, _ rig: Rig, _ store: ScriptedStore, _ log: LogRecorder
  ) async throws {
    // What a request could not write is known once it has ended.
    try await store.untilIdle()
    disk.fail([])
    try await until {
      try rig.clock.advance(by: .seconds(2))
      return log.messages.contains { $0.hasPrefix("notice") }
    }
  }

  @Test(
    "Whatever step of writing fails, reads are served, and one warning is logged",
    arguments: [
      [CacheStep.writeData], [.writeEntries], [.writeHeader], [.createData], [.createIndex],
      [.sizeIndex], [.openFiles], CacheStep.allCases,
    ], [Errno.noSpace, .ioError, .diskQuotaExceeded, .fileTooLarge])
  func failingWrites(steps: [CacheStep], code: Errno) async throws {
    try await run { rig, _, disk, log, _ in
      disk.fail(Set(steps), code)
      try await rig.check(chunk)
      try await rig.check(other)
      let warnings = try await warnings(in: log)
      #expect(warnings.count == 1, "\(warnings)")
    }
  }

  @Test("A disk that fails in the middle of a chunk, and is well again later, is used again")
  func resuming() async throws {
    try await run { rig, store, disk, log, _ in
      disk.fail([.writeData, .writeProbe], .noSpace, afterSuccesses: 30)
      let file = try await rig.open("chunk")
      for offset in stride(from: 0, to: chunk.bytes.count, by: 1 << 20) {
        let count = min(1 << 20, chunk.bytes.count - offset)
        let isRight =
          try await rig.read(file, offset, 1 << 20) == Array(chunk.bytes[offset..<offset + count])
        #expect(isRight, "at \(offset)")
      }
      rig.fileSystem.close(file)
      try await mend(disk, rig, store, log)
      try await rig.check(chunk)
      let requests = store.requests.count
      try await rig.check(chunk)
      #expect(store.requests.count == requests, "all is in the cache now")
      #expect(try await warnings(in: log).count == 1)
    }
  }

  @Test("A cache that cannot be listed is not taken for an empty one")
  func failingList() async throws {
    let (disk, log, folder) = (Disk(), LogRecorder(), try CacheFolder())
    let store = ScriptedStore()
    store.put([chunk, third])
    func mount() throws -> Rig {
      try Rig(
        store.connect(), [chunk, third], cachePath: folder.path, hook: disk.hook,
        logger: log.logger)
    }
    func cacheBytes(_ rig: Rig) throws -> Int {
      let value = try rig.fileSystem.attribute("user.inventoryfs.cache_bytes", of: .root)
      return Int(String(decoding: value, as: UTF8.self)) ?? 0
    }
    let used: Int
    do {
      let rig = try mount()
      try await rig.check(chunk)
      used = try cacheBytes(rig)
      #expect(used >= chunk.bytes.count)
      rig.fileSystem.shutDown()
    }
    disk.fail([.listEntries])
    let rig = try mount()
    defer { rig.fileSystem.shutDown() }
    let warnings = try await warnings(in: log)
    #expect(warnings.count == 1 && warnings[0].contains("cannot list"), "\(warnings)")
    // More than memory keeps.
    for _ in 0..<2 { try await rig.check(third) }
    #expect(store.bytesRequestedTwice(forKey: third.key) > 0, "nothing is stored beside it")
    try await mend(disk, rig, store, log)
    #expect(try cacheBytes(rig) >= used, "what the earlier run left is counted")
  }

  private func verified(_ rig: Rig) throws -> String {
    let value = try rig.fileSystem.attribute("user.inventoryfs.verified", of: try rig.node("chunk"))
    return String(decoding: value, as: UTF8.self)
  }

  @Test(
    "Strict: read unverified while the disk fails, a chunk is compared as soon as it does not",
    arguments: [0, 40])
  func strict(successes: Int) async throws {
    try await run(verify: .strict) { rig, store, disk, log, _ in
      disk.fail([.writeData, .writeProbe], .noSpace, afterSuccesses: successes)
      let file = try await rig.open("chunk")
      let end = chunk.bytes.count - 300_000
      let isEndRight = try await rig.read(file, end, 300_000) == Array(chunk.bytes[end...])
      #expect(isEndRight)
      #expect(try verified(rig) == "unverifiable")
      try await until {
        log.messages.contains { $0.contains("is read without verification until the disk") }
      }
      // The same reader goes on once the disk works, and gets the last byte after the comparison.
      try await mend(disk, rig, store, log)
      #expect(try verified(rig) == "pending")
      let isLastRight = try await rig.read(file, end, 300_000) == Array(chunk.bytes[end...])
      #expect(isLastRight)
      #expect(try verified(rig) == "ok")
      rig.fileSystem.close(file)
      try await rig.check(chunk)
    }
  }

  @Test("Strict: stored bytes that cannot be read do not keep the last one from its reader")
  func strictUnreadable() async throws {
    try await run(verify: .strict) { rig, _, disk, _, _ in
      disk.fail([.readData])
      try await rig.check(chunk)
      disk.fail([])
      try await rig.check(chunk)
      #expect(try verified(rig) == "ok")
    }
  }

  @Test("Strict: many readers while the disk comes and goes all get to the end")
  func strictComesAndGoes() async throws {
    // The time of many failures of the disk passes while one of them waits.
    try await run(
      cacheSizeInBytes: 40 << 20, readTimeout: .seconds(24 * 3600), verify: .strict
    ) { rig, _, disk, _, _ in
      let isOver = Lock(false)
      let switching = Task {
        while !isOver.withLock({ $0 }) {
          disk.fail([.writeData, .writeEntries, .punch], .noSpace, afterSuccesses: 60)
          try await until { disk.failureCount > 0 || isOver.withLock { $0 } }
          disk.fail([])
          try rig.clock.advance(by: .seconds(2))
        }
      }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for reader in 0..<8 {
          group.addTask {
            for round in 0..<4 {
              let chunk = [self.chunk, self.other, self.third][(reader + round) % 3]
              let isRight = try await rig.contents(chunk.key) == chunk.bytes
              #expect(isRight, "reader \(reader), round \(round)")
            }
          }
        }
        try await group.waitForAll()
      }
      isOver.withLock { $0 = true }
      try await switching.value
    }
  }

  @Test("Many readers of a chunk through memory each get their bytes")
  func manyReaders() async throws {
    try await run { rig, _, disk, _, _ in
      disk.fail([.writeData, .writeProbe])
      try await withThrowingTaskGroup(of: Void.self) { group in
        for reader in 0..<16 {
          group.addTask {
            let chunk = reader % 2 == 0 ? self.chunk : self.other
            let isRight =
              try await rig.contents(chunk.key, pieceInBytes: 100_000 + 60_000 * reader)
              == chunk.bytes
            #expect(isRight, "reader \(reader)")
          }
        }
        try await group.waitForAll()
      }
    }
  }

  @Test("Bytes that cannot be read from the cache are fetched again", arguments: [1, 1000])
  func failingReads(failures: Int) async throws {
    let folder = try CacheFolder()
    let store = ScriptedStore()
    store.put([other])
    let left = Lock(0)
    let rig = try Rig(
      store.connect(), [other], cachePath: folder.path,
      hook: { step in
        guard step == .readData else { return nil }
        return left.withLock { left in
          defer { left -= 1 }
          return left > 0 ? .ioError : nil
        }
      })
    defer { rig.fileSystem.shutDown() }
    try await rig.check(other)
    left.withLock { $0 = failures }
    try await rig.check(other)
    left.withLock { $0 = 0 }
    // The next to open it has the cache again.
    try await rig.check(other)
    let requests = store.requests.count
    try await rig.check(other)
    #expect(store.requests.count == requests)
  }

  @Test("A hole that cannot be punched keeps its place in the books, and reads go on")
  func failingPunch() async throws {
    try await run(cacheSizeInBytes: 16 << 20) { rig, store, disk, log, folder in
      // Files can be written all the time: what keeps the bound is that nothing is booked as gone
      // that is not.
      disk.fail([.punch])
      // The second time what was never there comes first, into what would be wrongly believed to be
      // free.
      for chunks in [[chunk, third], [other, chunk, third]] {
        for chunk in chunks { try await rig.check(chunk) }
        let allocated = try folder.chunkFiles(endingIn: "").reduce(0) {
          var info = stat()
          return lstat($1, &info) == 0 ? $0 + Int(info.st_blocks) * 512 : $0
        }
        #expect(allocated <= 16 << 20)
        // Meanwhile it is tried whether the disk is well.
        let clock = try rig.clock
        try await clock.untilPlanned(on: "background")
        clock.advance(by: .seconds(3))
      }
      try await mend(disk, rig, store, log)
      for chunk in [chunk, third, other] { try await rig.check(chunk) }
      #expect(log.messages.filter { $0.hasPrefix("error") } == [])
    }
  }

  @Test("A cache directory deleted underneath costs nobody a byte")
  func deletedDirectory() async throws {
    try await run { rig, store, _, log, folder in
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 1 << 20)
      try FileManager.default.removeItem(atPath: "\(folder.path)/inventoryfs-cache")
      try await rig.check(chunk)
      try await rig.check(other)
      rig.fileSystem.close(file)
      try await rig.check(other)
      #expect(
        store.bytesRequestedTwice(forKey: other.key) == 0,
        "it is cached in the new directory")
      #expect(try await warnings(in: log).count == 1, "\(log.messages)")
    }
  }
}
