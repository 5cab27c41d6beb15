import Dispatch
import EmbeddedS3Origin
import Glibc
import InventoryFileSystem
import Locks
import TestSupport
import Testing

@testable import BlockCache

/// A log or a disk that hangs, and all those who need not wait for it.
@Suite(.timeLimit(.minutes(20)), .serialized) struct HangingTests {
  private struct NotParked: Error {}

  private let chunk = Rig.Chunk(key: "chunk", bytes: content(8_000_000))
  private let other = Rig.Chunk(key: "other", bytes: content(7_000_000, seed: 2))

  @Test(
    "A log that hangs keeps nobody from what is in the cache",
    arguments: [
      ("; trying again", Fault.status(500, code: "InternalError")),
      ("AccessDenied", .status(403, code: "AccessDenied")),
      ("took longer than --read-timeout", .hangBeforeHead),
      ("as fetched have the MD5", nil),
    ] as [(String, Fault?)])
  func log(line: String, fault: Fault?) async throws {
    let gate = Gate()
    defer { gate.open() }
    let log = LogRecorder { if $0.contains(line) { gate.pass() } }
    let folder = try CacheFolder()
    let faults = fault.map {
      [FaultRule($0, when: FaultMatch(rangeOverlaps: 5_000_000..<5_000_001))]
    }
    try await EmbeddedS3Origin.run(
      OriginConfiguration(faultPlan: FaultPlan(rules: faults ?? []))
    ) { origin in
      origin.put([chunk])
      origin.put(bucket: Rig.bucket, key: "other", bytes: content(7_000_000, seed: 3))
      let rig = try Rig(
        origin, [chunk, other], cachePath: folder.path,
        readTimeout: line.contains("--read-timeout") ? .seconds(6) : .seconds(60),
        verify: fault == nil ? .background : .off, logger: log.logger)
      defer { rig.fileSystem.shutDown() }
      defer { gate.open() }
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      gate.close()
      if fault == nil { _ = try await rig.contents("other") }
      let read = rig.start(file, 5_000_000, 4096)
      try await gate.hasCaught()
      #expect(try await rig.read(file, 0, 4096) == Array(chunk.bytes[..<4096]))
      if line.contains("--read-timeout") {
        await #expect(throws: FileSystemError.inputOutput) { try await read.value() }
      }
      #expect(gate.isHolding)
      gate.open()
      read.interrupt()
      _ = try? await read.value()
      rig.fileSystem.close(file)
    }
  }

  @Test("Asking for what the cache holds while it is looked through waits without a thread")
  func attributes() async throws {
    func run(readTimeout: Duration = .seconds(60), _ body: (Rig) throws -> Void) async throws {
      let folder = try CacheFolder()
      try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
        origin.put([chunk])
        let rig = try Rig(
          origin, [chunk], cachePath: folder.path, isCacheReady: false, readTimeout: readTimeout)
        defer { rig.fileSystem.shutDown() }
        try body(rig)
      }
    }
    func ask(
      _ rig: Rig, _ name: String, of node: NodeID? = nil
    ) throws -> (TestAttribute, Interruption?) {
      let answer = TestAttribute()
      let outcome = try rig.fileSystem.attribute(
        "user.inventoryfs.\(name)", of: node ?? rig.node("chunk"), parked: { answer })
      guard case .parked(let interruption) = outcome else { throw NotParked() }
      return (answer, interruption)
    }
    try await run { rig in
      let (interrupted, interruption) = try ask(rig, "cached_bytes")
      interruption?.interrupt()
      #expect(throws: FileSystemError.interrupted) { try interrupted.wait() }
      let (bytes, path) = (try ask(rig, "cached_bytes").0, try ask(rig, "read_path").0)
      let (all, _) = try ask(rig, "cache_bytes", of: .root)
      rig.fileSystem.prepareCache()
      #expect(try String(decoding: all.wait(), as: UTF8.self) == "0")
      #expect(try String(decoding: bytes.wait(), as: UTF8.self) == "0")
      #expect(try String(decoding: path.wait(), as: UTF8.self) == "network")
    }
    try await run(readTimeout: .seconds(1)) { rig in
      let (late, _) = try ask(rig, "read_path")
      #expect(throws: FileSystemError.inputOutput, "after --read-timeout") { try late.wait() }
    }
    try await run { rig in
      let (answer, _) = try ask(rig, "cached_bytes")
      rig.fileSystem.shutDown()
      #expect(throws: FileSystemError.shuttingDown) { try answer.wait() }
    }
  }

  /// A file system whose cache hangs at a step, for the first who comes to it once the gate is closed.
  private func run(
    _ step: CacheStep, _ chunks: [Rig.Chunk], cacheSizeInBytes: Int = Rig.largeCache,
    faults: [FaultRule] = [], readTimeout: Duration = .seconds(60),
    willTake: @escaping @Sendable (CacheStep) -> Void = { _ in },
    _ body: (Rig, EmbeddedS3Origin, Gate) async throws -> Void
  ) async throws {
    let folder = try CacheFolder()
    let gate = Gate()
    try await EmbeddedS3Origin.run(
      OriginConfiguration(faultPlan: FaultPlan(rules: faults))
    ) { origin in
      origin.put(chunks)
      let rig = try Rig(
        origin, chunks, cachePath: folder.path, cacheSizeInBytes: cacheSizeInBytes,
        readTimeout: readTimeout,
        hook: {
          willTake($0)
          if $0 == step { gate.pass() }
          return nil
        })
      defer { rig.fileSystem.shutDown() }
      defer { gate.open() }
      try await body(rig, origin, gate)
    }
  }

  @Test("Opening a chunk that is loaded does not wait for another whose files a hung disk keeps")
  func opening() async throws {
    try await run(.openFiles, [chunk, other]) { rig, _, gate in
      rig.fileSystem.close(try await rig.open("chunk"))
      gate.close()
      let opened = rig.openElsewhere("other")
      try await gate.hasCaught()
      rig.fileSystem.close(try await rig.open("chunk"))
      #expect(gate.isHolding)
      gate.open()
      rig.fileSystem.close(try await opened.value)
    }
  }

  @Test(
    "Whatever step of the cache hangs, who waits for the store is told in time",
    arguments: [CacheStep.readData, .writeData, .punch, .openFiles])
  func expiry(step: CacheStep) async throws {
    let silence = FaultRule(
      .hangBeforeHead, when: FaultMatch(keyPrefix: "chunk", rangeOverlaps: 5_000_000..<5_000_001))
    let big = Rig.Chunk(key: "big", bytes: content(20_000_000, seed: 3))
    try await run(
      step, [chunk, other, big], cacheSizeInBytes: 16 << 20, faults: [silence],
      readTimeout: .seconds(6)
    ) { rig, _, gate in
      let file = try await rig.open("chunk")
      gate.close()
      let hung = Task.detached {
        _ = try? await rig.contents("other")
        _ = try? await rig.contents("big")
      }
      try await gate.hasCaught()
      await #expect(throws: FileSystemError.inputOutput) {
        try await rig.read(file, 5_000_000, 4096)
      }
      #expect(gate.isHolding)
      gate.open()
      await hung.value
      rig.fileSystem.close(file)
    }
  }

  @Test("A request whose reader has gone before it was sent is ended too")
  func goneBeforeSent() async throws {
    let gate = Gate()
    defer { gate.open() }
    let log = LogRecorder { if $0.hasSuffix(": asked for") { gate.pass() } }
    let folder = try CacheFolder()
    let slow = FaultRule(
      .trickle(bytesPerSecond: 2000), when: FaultMatch(rangeOverlaps: 5_000_000..<5_000_001))
    try await EmbeddedS3Origin.run(
      OriginConfiguration(faultPlan: FaultPlan(rules: [slow]))
    ) { origin in
      origin.put([chunk])
      let rig = try Rig(origin, [chunk], cachePath: folder.path, logger: log.logger)
      defer { rig.fileSystem.shutDown() }
      defer { gate.open() }
      let file = try await rig.open("chunk")
      _ = try await rig.read(file, 0, 4096)
      gate.close()
      let read = Task.detached { rig.start(file, 5_000_000, 4096) }
      try await gate.hasCaught()
      rig.fileSystem.close(file)
      gate.open()
      _ = await read.value
      // Perhaps it was not even sent.
      try await Task.sleep(for: .seconds(1))
      func isOver() async -> Bool {
        await origin.requests(forKey: "chunk").allSatisfy { $0.isFinished }
      }
      // At its pace a block takes half a minute.
      for _ in 0..<1000 where await !isOver() { try await Task.sleep(for: .milliseconds(10)) }
      #expect(await isOver())
    }
  }

  @Test("However many opens the disk keeps, who waits for the store is told in time")
  func opensWithoutMD5() async throws {
    let chunks = (0..<64).map { Rig.Chunk(key: "\($0)", bytes: content(100), hasMD5: false) }
    let silent = ["silent", "interrupted"].map {
      Rig.Chunk(key: $0, bytes: content(100), hasMD5: false)
    }
    let rules = silent.map { FaultRule(.hangBeforeHead, when: FaultMatch(keyPrefix: $0.key)) }
    let folder = try CacheFolder()
    let barrier = Barrier()
    try await EmbeddedS3Origin.run(
      OriginConfiguration(faultPlan: FaultPlan(rules: rules))
    ) { origin in
      origin.put(chunks + silent)
      let rig = try Rig(
        origin, chunks + silent, cachePath: folder.path, maxConnections: 64,
        readTimeout: .seconds(3),
        hook: {
          if $0 == .openFiles { barrier.pass() }
          return nil
        })
      defer { rig.fileSystem.shutDown() }
      defer { barrier.open() }
      // Nothing is awaited: the threads that tasks run on may be kept too.
      func check() throws {
        for chunk in chunks {
          _ = try rig.fileSystem.open(rig.node(chunk.key)) { TestOpen { _ in } }
        }
        barrier.hasCaughtAll()
        #expect(throws: FileSystemError.inputOutput) {
          try rig.fileSystem.attribute("user.s3.etag", of: rig.node("silent"))
        }
        let answer = Lock<Result<OpenFile, any Error>?>(nil)
        let isAnswered = DispatchSemaphore(value: 0)
        let outcome = try rig.fileSystem.open(rig.node("interrupted")) {
          TestOpen { result in
            answer.withLock { $0 = result }
            isAnswered.signal()
          }
        }
        guard case .parked(let interruption) = outcome else { throw NotParked() }
        interruption?.interrupt()
        isAnswered.wait()
        #expect(throws: FileSystemError.interrupted) { try answer.withLock { $0 }?.get() }
        #expect(barrier.isHolding)
      }
      try check()
    }
  }

  @Test("An open that fails at its time does not wait until the disk has taken the entry away")
  func unloading() async throws {
    let chunks = (0..<40).map { Rig.Chunk(key: "\($0)", bytes: content(5_000_000)) }
    let made = Lock(0)
    try await run(
      .removeIndex, chunks, faults: [FaultRule(.hangBeforeHead)], readTimeout: .seconds(6),
      willTake: { if $0 == .writeHeader { made.withLock { $0 += 1 } } }
    ) { rig, _, gate in
      let opened = chunks.dropLast().map { rig.openElsewhere($0.key) }
      // Their files are made, for which others of the same name are removed.
      while made.withLock({ $0 }) < opened.count { try await Task.sleep(for: .milliseconds(5)) }
      gate.close()
      // More than linger: what nobody has read of is removed with its last reader.
      for open in opened {
        await #expect(throws: FileSystemError.inputOutput) { try await open.value }
      }
      try await gate.hasCaught()
      await #expect(throws: FileSystemError.inputOutput) { try await rig.open("39") }
      #expect(gate.isHolding)
    }
  }

  @Test("A disk that hangs keeps nobody waiting longer, and no request from being tried again")
  func probe() async throws {
    let isHung = Lock(false)
    let isMended = DispatchSemaphore(value: 0)
    let folder = try CacheFolder()
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      origin.put([chunk])
      // Nothing can be written, and the attempt to find out whether it can be again does not come back.
      let rig = try Rig(
        origin, [chunk], cachePath: folder.path, readTimeout: .seconds(6),
        hook: { step in
          guard step == .writeProbe else { return step == .writeData ? .noSpace : nil }
          isHung.withLock { $0 = true }
          isMended.wait()
          return nil
        })
      defer { rig.fileSystem.shutDown() }
      defer { isMended.signal() }
      let file = try await rig.open("chunk")
      while !isHung.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(20)) }
      origin.setFaultPlan(FaultPlan(rules: [FaultRule(.status(500, code: "Once"), times: 1)]))
      let got = try await rig.read(file, 2_000_000, 4096)
      #expect(got == Array(chunk.bytes[2_000_000..<2_004_096]))
      origin.setFaultPlan(FaultPlan(rules: [FaultRule(.hangBeforeHead)]))
      await #expect(throws: FileSystemError.inputOutput) {
        try await rig.read(file, 5_000_000, 4096)
      }
      rig.fileSystem.close(file)
    }
  }
}

extension Rig {
  /// Opens a chunk on a thread of its own, which may be kept.
  fileprivate func openElsewhere(_ name: String) -> Task<OpenFile, any Error> {
    Task.detached {
      try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global().async {
          do {
            let outcome = try self.fileSystem.open(try self.node(name)) {
              TestOpen { continuation.resume(with: $0) }
            }
            if case .opened(let file) = outcome { continuation.resume(returning: file) }
          } catch {
            continuation.resume(throwing: error)
          }
        }
      }
    }
  }
}

/// Catches the first thread that comes by once it is closed, until it is opened.
private final class Gate: Sendable {
  private enum State { case open, closed, holding, givenUp }

  private let state = Lock(State.open)
  private let opening = DispatchSemaphore(value: 0)

  /// Whether a thread is kept: what has happened meanwhile did not wait for it.
  var isHolding: Bool { state.withLock { $0 == .holding } }

  func close() { state.withLock { $0 = .closed } }

  func open() {
    let wasHolding = state.withLock { state in
      defer { state = .open }
      return state == .holding
    }
    if wasHolding { opening.signal() }
  }

  func pass() {
    let isCaught = state.withLock { state in
      guard state == .closed else { return false }
      state = .holding
      return true
    }
    guard isCaught else { return }
    // For so long, so that a test that fails comes to an end.
    if opening.wait(timeout: .now() + 120) == .timedOut {
      state.withLock { if $0 == .holding { $0 = .givenUp } }
    }
  }

  func hasCaught() async throws {
    for _ in 0..<6000 {
      if isHolding { return }
      try await Task.sleep(for: .milliseconds(20))
    }
    Issue.record("nobody came to the step")
  }
}

/// Catches all threads that come by, until it is opened.
private final class Barrier: Sendable {
  private let state = Lock((caught: 0, isHolding: true))
  private let opening = DispatchSemaphore(value: 0)

  var isHolding: Bool { state.withLock { $0.isHolding } }

  func open() {
    state.withLock { $0.isHolding = false }
    opening.signal()
  }

  func pass() {
    let isCaught = state.withLock { state in
      state.caught += 1
      return state.isHolding
    }
    guard isCaught else { return }
    // For so long, so that a test that fails comes to an end.
    _ = opening.wait(timeout: .now() + 120)
    open()
  }

  /// Waits until somebody was caught, and then nobody for a while.
  func hasCaughtAll() {
    var before = 0
    for _ in 0..<20 {
      sleep(2)
      let now = state.withLock { $0.caught }
      if now > 0, now == before { return }
      before = now
    }
    Issue.record("nobody came to the step")
  }
}
