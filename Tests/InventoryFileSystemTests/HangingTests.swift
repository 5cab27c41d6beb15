import Dispatch
import InventoryFileSystem
import Locks
import ObjectStore
import TestSupport
import Testing

@testable import BlockCache

/// A log or a disk that hangs, and all those who need not wait for it.
@Suite(.timeLimit(.minutes(2))) struct HangingTests {
  private struct NotParked: Error {}

  private let chunk = Rig.Chunk(key: "chunk", bytes: content(8_000_000))
  private let other = Rig.Chunk(key: "other", bytes: content(7_000_000, seed: 2))

  @Test(
    "A log that hangs keeps nobody from what is in the cache",
    arguments: [
      ("retrying in", ScriptedStore.Fault.status(500, code: "InternalError")),
      ("AccessDenied", .status(403, code: "AccessDenied")),
      ("took longer than --read-timeout", .hold),
      ("as fetched have the MD5", nil),
    ] as [(String, ScriptedStore.Fault?)])
  func log(line: String, fault: ScriptedStore.Fault?) async throws {
    let gate = Gate()
    defer { gate.open() }
    let log = LogRecorder { if $0.contains(line) { gate.pass() } }
    let folder = try CacheFolder()
    let clock = ManualClock(retries: .onTime)
    let store = ScriptedStore(
      fault.map { [ScriptedStore.Rule($0, rangeOverlaps: 5_000_000..<5_000_001)] } ?? [])
    store.put([chunk])
    store.put(key: "other", bytes: content(7_000_000, seed: 3))
    let rig = try Rig(
      store.connect(), [chunk, other], cachePath: folder.path, clock: clock,
      verify: fault == nil ? .background : .off, logger: log.logger)
    defer { rig.fileSystem.shutDown() }
    defer { gate.open() }
    let file = try await rig.open("chunk")
    _ = try await rig.read(file, 0, 4096)
    gate.close()
    if fault == nil { _ = try await rig.contents("other") }
    let read = rig.start(file, 5_000_000, 4096)
    if line.contains("--read-timeout") { clock.advance(by: .seconds(60)) }
    try await until {
      // What is read no more is compared after a quiet time.
      if fault == nil { clock.advance(by: .milliseconds(20)) }
      return gate.isHolding
    }
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

  @Test("Asking for what the cache holds while it is looked through waits without a thread")
  func attributes() async throws {
    func run(readTimeout: Duration = .seconds(60), _ body: (Rig) throws -> Void) async throws {
      let folder = try CacheFolder()
      let store = ScriptedStore()
      store.put([chunk])
      let rig = try Rig(
        store.connect(), [chunk], cachePath: folder.path, isCacheReady: false,
        readTimeout: readTimeout)
      defer { rig.fileSystem.shutDown() }
      try body(rig)
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
      try rig.clock.advance(by: .seconds(1))
      #expect(throws: FileSystemError.inputOutput, "after --read-timeout") { try late.wait() }
    }
    try await run { rig in
      let (answer, _) = try ask(rig, "cached_bytes")
      rig.fileSystem.shutDown()
      #expect(throws: FileSystemError.shuttingDown) { try answer.wait() }
    }
  }

  /// A file system whose cache hangs at a step, for the first who comes to it once the gate is
  /// closed.
  private func run(
    _ step: CacheStep, _ chunks: [Rig.Chunk], cacheSizeInBytes: Int = Rig.largeCache,
    faults: [ScriptedStore.Rule] = [], readTimeout: Duration = .seconds(60),
    willTake: @escaping @Sendable (CacheStep) -> Void = { _ in },
    _ body: (Rig, Gate) async throws -> Void
  ) async throws {
    let folder = try CacheFolder()
    let gate = Gate()
    let store = ScriptedStore(faults)
    store.put(chunks)
    let rig = try Rig(
      store.connect(), chunks, cachePath: folder.path, cacheSizeInBytes: cacheSizeInBytes,
      readTimeout: readTimeout, clock: ManualClock(retries: .onTime),
      hook: {
        willTake($0)
        if $0 == step { gate.pass() }
        return nil
      })
    defer { rig.fileSystem.shutDown() }
    defer { gate.open() }
    try await body(rig, gate)
  }

  @Test("Opening a chunk that is loaded does not wait for another whose files a hung disk keeps")
  func opening() async throws {
    try await run(.openFiles, [chunk, other]) { rig, gate in
      rig.fileSystem.close(try await rig.open("chunk"))
      gate.close()
      let opened = rig.openElsewhere("other")
      try await until { gate.isHolding }
      rig.fileSystem.close(try await rig.open("chunk"))
      #expect(gate.isHolding)
      gate.open()
      rig.fileSystem.close(try await opened.value)
    }
  }

  @Test("Looking for the cache's folder keeps only those who need it")
  func findingTheFolder() async throws {
    try await run(.findFolder, [chunk, other]) { rig, gate in
      let file = try await rig.open("chunk")
      gate.close()
      let opened = rig.openElsewhere("other")
      try await until { gate.isHolding }
      // The disk's room is looked at before the next request.
      try rig.clock.advance(by: .seconds(2))
      let piece = try await rig.read(file, 5_000_000, 4096)
      #expect(piece == Array(chunk.bytes[5_000_000..<5_004_096]))
      #expect(gate.isHolding)
      gate.open()
      rig.fileSystem.close(try await opened.value)
      rig.fileSystem.close(file)
    }
  }

  @Test("Asking who has a chunk's file open keeps only those who open that chunk")
  func findingUsers() async throws {
    try await run(.findUsers, [chunk, other]) { rig, gate in
      try await rig.check(chunk)
      try await rig.check(other)
      let (file, second) = (try await rig.open("chunk"), try await rig.open("other"))
      gate.close()
      let lent = Task.detached(executorPreference: OwnQueue()) { rig.fileSystem.lend(file) }
      try await until { gate.isHolding }
      #expect(try await rig.read(file, 0, 4096) == Array(chunk.bytes[..<4096]))
      #expect(rig.fileSystem.lend(second) != nil)
      rig.fileSystem.takeBack(second)
      #expect(gate.isHolding)
      gate.open()
      #expect(await lent.value != nil)
      // The end of a loan asks too.
      gate.close()
      let takenBack = Task.detached(executorPreference: OwnQueue()) {
        rig.fileSystem.takeBack(file)
      }
      try await until { gate.isHolding }
      #expect(try await rig.read(second, 0, 4096) == Array(other.bytes[..<4096]))
      #expect(gate.isHolding)
      gate.open()
      await takenBack.value
      rig.fileSystem.close(file)
      rig.fileSystem.close(second)
    }
  }

  @Test(
    "Whatever step of the cache hangs, who waits for the store is told in time",
    arguments: [CacheStep.readData, .writeData, .punch, .openFiles])
  func expiry(step: CacheStep) async throws {
    let silence = ScriptedStore.Rule(
      .hold, keyPrefix: "chunk", rangeOverlaps: 5_000_000..<5_000_001)
    let big = Rig.Chunk(key: "big", bytes: content(20_000_000, seed: 3))
    try await run(
      step, [chunk, other, big], cacheSizeInBytes: 16 << 20, faults: [silence],
      readTimeout: .seconds(6)
    ) { rig, gate in
      let file = try await rig.open("chunk")
      gate.close()
      let hung = Task.detached(executorPreference: OwnQueue()) {
        _ = try? await rig.contents("other")
        _ = try? await rig.contents("big")
      }
      try await until { gate.isHolding }
      let read = rig.start(file, 5_000_000, 4096)
      #expect(read.isParked)
      try rig.clock.advance(by: .seconds(6))
      await #expect(throws: FileSystemError.inputOutput) { try await read.value() }
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
    let folder = try CacheFolder()
    let silence = ScriptedStore.Rule(.hold, rangeOverlaps: 5_000_000..<5_000_001)
    let store = ScriptedStore([silence])
    store.put([chunk])
    let gated = GatedStore(store: store.connect(), gate: gate)
    let rig = try Rig(gated, [chunk], cachePath: folder.path)
    defer { rig.fileSystem.shutDown() }
    defer { gate.open() }
    let file = try await rig.open("chunk")
    _ = try await rig.read(file, 0, 4096)
    gate.close()
    let read = Task.detached(executorPreference: OwnQueue()) {
      rig.start(file, 5_000_000, 4096)
    }
    try await until { gate.isHolding }
    rig.fileSystem.close(file)
    gate.open()
    // It has sent what it was about to send when it returns.
    _ = await read.value
    try await store.untilIdle()
    #expect(store.requests(forKey: "chunk").allSatisfy { $0.isFinished })
  }

  @Test("However many opens the disk keeps, who waits for the store is told in time")
  func opensWithoutMD5() async throws {
    let chunks = (0..<64).map { Rig.Chunk(key: "\($0)", bytes: content(100), hasMD5: false) }
    let silent = ["silent", "interrupted"].map {
      Rig.Chunk(key: $0, bytes: content(100), hasMD5: false)
    }
    let store = ScriptedStore(silent.map { ScriptedStore.Rule(.hold, keyPrefix: $0.key) })
    store.put(chunks + silent)
    let folder = try CacheFolder()
    let barrier = Barrier()
    let clock = ManualClock(retries: .onTime)
    let rig = try Rig(
      store.connect(), chunks + silent, cachePath: folder.path, maxConnections: 64,
      readTimeout: .seconds(3), clock: clock,
      hook: {
        if $0 == .openFiles { barrier.pass() }
        return nil
      })
    defer { rig.fileSystem.shutDown() }
    defer { barrier.open() }
    for chunk in chunks { #expect(try rig.start(chunk.key).isParked) }
    // All of them have their answer, and go to the disk with it.
    try await store.untilIdle()
    try await until { barrier.hasCaught }
    let answer = TestAttribute()
    let outcome = try rig.fileSystem.attribute(
      "user.s3.etag", of: rig.node("silent"), parked: { answer })
    guard case .parked = outcome else { throw NotParked() }
    clock.advance(by: .seconds(3), waits: false)
    #expect(throws: FileSystemError.noSuchAttribute) { try answer.wait() }
    let open = try rig.start("interrupted")
    #expect(open.isParked)
    open.interrupt()
    await #expect(throws: FileSystemError.interrupted) { try await open.value() }
    #expect(barrier.isHolding)
  }

  @Test("An open that fails at its time does not wait until the disk has taken the entry away")
  func unloading() async throws {
    let chunks = (0..<40).map { Rig.Chunk(key: "\($0)", bytes: content(5_000_000)) }
    let made = Lock(0)
    try await run(
      .removeIndex, chunks, faults: [ScriptedStore.Rule(.hold)], readTimeout: .seconds(6),
      willTake: { if $0 == .writeHeader { made.withLock { $0 += 1 } } }
    ) { rig, gate in
      let opened = try chunks.dropLast().map { try rig.start($0.key) }
      // Their files are made, for which others of the same name are removed.
      try await until { made.withLock { $0 } == opened.count && opened.allSatisfy { $0.isParked } }
      gate.close()
      try rig.clock.advance(by: .seconds(6))
      // More than linger: what nobody has read of is removed with its last reader.
      for open in opened {
        await #expect(throws: FileSystemError.inputOutput) { try await open.value() }
      }
      try await until { gate.isHolding }
      let last = try rig.start("39")
      #expect(last.isParked)
      try rig.clock.advance(by: .seconds(6))
      await #expect(throws: FileSystemError.inputOutput) { try await last.value() }
      #expect(gate.isHolding)
    }
  }

  @Test("A disk that hangs keeps nobody waiting longer, and no request from being tried again")
  func probe() async throws {
    let isHung = Lock(false)
    let isMended = DispatchSemaphore(value: 0)
    let folder = try CacheFolder()
    let clock = ManualClock(retries: .onTime)
    let store = ScriptedStore()
    store.put([chunk])
    // Nothing can be written, and the attempt to find out whether it can be again does not come
    // back.
    let rig = try Rig(
      store.connect(), [chunk], cachePath: folder.path, readTimeout: .seconds(6), clock: clock,
      hook: { step in
        guard step == .writeProbe else { return step == .writeData ? .noSpace : nil }
        isHung.withLock { $0 = true }
        isMended.wait()
        return nil
      })
    defer { rig.fileSystem.shutDown() }
    defer { isMended.signal() }
    let file = try await rig.open("chunk")
    try await clock.untilPlanned(on: "background")
    clock.advance(by: .seconds(2), waits: false)
    try await until { isHung.withLock { $0 } }
    try await store.untilIdle()
    store.setRules([ScriptedStore.Rule(.status(500, code: "Once"), times: 1)])
    let again = rig.start(file, 2_000_000, 4096)
    try await clock.untilPlanned(on: "retries")
    clock.advanceToNext(within: .seconds(5))
    #expect(try await again.value() == Array(chunk.bytes[2_000_000..<2_004_096]))
    store.setRules([ScriptedStore.Rule(.hold)])
    let read = rig.start(file, 5_000_000, 4096)
    #expect(read.isParked)
    clock.advance(by: .seconds(6), waits: false)
    await #expect(throws: FileSystemError.inputOutput) { try await read.value() }
    rig.fileSystem.close(file)
  }
}

extension Rig {
  /// Opens a chunk on a thread of its own, which may be kept.
  fileprivate func openElsewhere(_ name: String) -> Task<OpenFile, any Error> {
    Task.detached(executorPreference: OwnQueue()) { try await self.open(name) }
  }
}

/// A queue for one task that a gate keeps: the threads that all other tasks share are as few as
/// the machine has cores, and two that are kept would be all of them.
private final class OwnQueue: TaskExecutor {
  private let queue = DispatchQueue(label: "own")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
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
    if opening.wait(timeout: .now() + 60) == .timedOut {
      state.withLock { if $0 == .holding { $0 = .givenUp } }
    }
  }
}

/// Catches all threads that come by, until it is opened.
private final class Barrier: Sendable {
  private let state = Lock((caught: 0, isHolding: true))
  private let opening = DispatchSemaphore(value: 0)

  var isHolding: Bool { state.withLock { $0.isHolding } }
  var hasCaught: Bool { state.withLock { $0.caught > 0 } }

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
    _ = opening.wait(timeout: .now() + 60)
    open()
  }
}

/// A store whose requests pass a gate before they are sent.
private struct GatedStore: ChunkStore {
  let store: any ChunkStore
  let gate: Gate

  var identity: String { store.identity }
  var traffic: ObjectStore.Traffic { store.traffic }

  func get(_ request: ObjectRequest, to receiver: any ObjectReceiver) -> StoreTransfer {
    gate.pass()
    return store.get(request, to: receiver)
  }

  func head(
    _ location: S3Location, objectSizeInBytes: Int?, attempt: Int,
    _ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void
  ) -> StoreTransfer {
    gate.pass()
    return store.head(location, objectSizeInBytes: objectSizeInBytes, attempt: attempt, completion)
  }

  func shutDown() { store.shutDown() }
}
