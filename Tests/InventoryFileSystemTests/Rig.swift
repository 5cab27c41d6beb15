import AWSCredentials
import BlockCache
import Dispatch
import FoundationEssentials
import Glibc
import InventoryFileSystem
import InventoryManifest
import Locks
import Logging
import ReadPlanning
import TestSupport
import Testing

/// A file system without a mount, its cache folder, and the store behind it.
final class Rig: Sendable {
  struct Chunk {
    var key: String
    var bytes: [UInt8]
    var hasMD5 = true
    /// Where it is not the key.
    var name: String?
    /// What the manifest says, where that is not the truth.
    var statedSizeInBytes: Int?
  }

  static let bucket = "bucket"
  static let largeCache = 256 << 20

  let fileSystem: InventoryFileSystem
  private let time: any FileSystemClock

  /// The clock, which stands still until it is moved on; not where the rig has the machine's time.
  var clock: ManualClock {
    get throws { try #require(time as? ManualClock) }
  }

  /// Mounts nothing: reads go to `fileSystem` as the kernel's would.
  init(
    _ store: any ChunkStore, _ chunks: [Chunk], cachePath: String,
    cacheSizeInBytes: Int = largeCache, maxConnections: Int = 8,
    format: InventoryManifest.FileFormat = .csv, isCacheReady: Bool = true,
    readTimeout: Duration = .seconds(60), clock: any FileSystemClock = ManualClock(),
    hook: CacheStepHook? = nil, verify: VerificationMode = .off,
    logger: Logger = Logger(label: "rig") { _ in SwiftLogNoOpLogHandler() }
  ) throws {
    let inventory = Inventory(
      source: "s3://bucket/manifest.json", manifest: Array("{}".utf8), checksum: nil,
      creationTimeInMilliseconds: 1_700_000_000_123, format: format, place: .bucket(Self.bucket),
      destinationBucket: Self.bucket,
      chunks: chunks.map {
        Inventory.Chunk(
          key: $0.key, name: $0.name ?? $0.key, sizeInBytes: $0.statedSizeInBytes ?? $0.bytes.count,
          md5: $0.hasMD5 ? MD5Digest(of: $0.bytes) : nil)
      })
    time = clock
    fileSystem = InventoryFileSystem(
      inventory, bucket: Self.bucket, ownership: NodeOwnership(userID: 7, groupID: 8), store: store,
      cache: try BlockCache(path: cachePath, logger: logger, hook: hook),
      cacheSizeInBytes: cacheSizeInBytes,
      maxConnections: maxConnections, readTimeout: readTimeout, verificationMode: verify,
      quietTime: .milliseconds(20), clock: clock, logger: logger)
    if isCacheReady { fileSystem.prepareCache() }
  }

  deinit { (time as? ManualClock)?.end() }

  /// Runs a file system over a store in memory that has these chunks.
  static func run(
    _ chunks: [Chunk], cacheSizeInBytes: Int = largeCache, maxConnections: Int = 8,
    faults: [ScriptedStore.Rule] = [], readTimeout: Duration = .seconds(60),
    clock: ManualClock = ManualClock(), verify: VerificationMode = .off,
    _ body: (Rig, ScriptedStore) async throws -> Void
  ) async throws {
    let folder = try CacheFolder()
    let store = ScriptedStore(faults)
    store.put(chunks)
    let rig = try Rig(
      store.connect(), chunks, cachePath: folder.path, cacheSizeInBytes: cacheSizeInBytes,
      maxConnections: maxConnections, readTimeout: readTimeout, clock: clock, verify: verify)
    defer { rig.fileSystem.shutDown() }
    try await body(rig, store)
  }

  // MARK: Reading as the kernel does

  func node(_ name: String) throws(FileSystemError) -> NodeID {
    let data = try fileSystem.lookUp("data", in: .root).node
    return try fileSystem.lookUp(name, in: data).node
  }

  func open(_ name: String) async throws -> OpenFile { try await start(name).value() }

  /// An open that may be left waiting.
  func start(_ name: String) throws -> TestOpen {
    let node = try node(name)
    let open = TestOpen()
    open.start { try fileSystem.open(node) { open } }
    return open
  }

  func read(_ file: OpenFile, _ byteOffset: Int, _ count: Int) async throws -> [UInt8] {
    try await start(file, byteOffset, count).value()
  }

  /// A read that may be left waiting.
  func start(_ file: OpenFile, _ byteOffset: Int, _ count: Int) -> TestRead {
    let read = TestRead(fileSystem, file, byteOffset: byteOffset, count: count)
    read.start()
    return read
  }

  func contents(_ name: String, pieceInBytes: Int = 1 << 20) async throws -> [UInt8] {
    let file = try await open(name)
    defer { fileSystem.close(file) }
    var bytes: [UInt8] = []
    while true {
      let piece = try await read(file, bytes.count, pieceInBytes)
      if piece.isEmpty { return bytes }
      bytes += piece
    }
  }

  /// Reads the whole chunk and compares it with what it should be.
  func check(_ chunk: Chunk, at location: SourceLocation = #_sourceLocation) async throws {
    let isRight = isSame(try await contents(chunk.key), chunk.bytes)
    #expect(isRight, "\(chunk.key)", sourceLocation: location)
  }

  /// The error of opening or reading the file, nil if there is none.
  func failure(_ name: String) async -> FileSystemError? {
    do {
      _ = try await contents(name)
      return nil
    } catch {
      return error as? FileSystemError
    }
  }
}

extension InventoryFileSystem {
  /// Waits where the store has to be asked.
  func attribute(_ name: String, of node: NodeID) throws -> [UInt8] {
    let answer = TestAttribute()
    switch try attribute(name, of: node, parked: { answer }) {
    case .known(let value): return value
    case .parked: return try answer.wait()
    }
  }
}

/// One parked question for an attribute.
final class TestAttribute: ParkedAttribute {
  private let answer = Lock<Result<[UInt8], FileSystemError>?>(nil)
  private let done = DispatchSemaphore(value: 0)

  func found(_ value: [UInt8]) { give(.success(value)) }
  func fail(_ error: FileSystemError) { give(.failure(error)) }

  private func give(_ result: Result<[UInt8], FileSystemError>) {
    let isSecond = answer.withLock { exchange(&$0, with: result) != nil }
    if isSecond { Issue.record("an attribute was answered twice") }
    done.signal()
  }

  func wait() throws -> [UInt8] {
    done.wait()
    return try #require(answer.withLock { $0 }).get()
  }
}

/// One open, parked or not, answered once.
final class TestOpen: ParkedOpen {
  private let answer = Answer<OpenFile>("an open")
  private let interruption = Lock<Interruption?>(nil)

  func start(_ open: () throws -> InventoryFileSystem.OpenOutcome) {
    do {
      switch try open() {
      case .opened(let file): answer.give(.success(file))
      case .parked(let interruption): self.interruption.withLock { $0 = interruption }
      }
    } catch {
      answer.give(.failure(error))
    }
  }

  func opened(_ file: OpenFile) { answer.give(.success(file)) }
  func fail(_ error: FileSystemError) { answer.give(.failure(error)) }

  func interrupt() { interruption.withLock { $0 }?.interrupt() }

  var isParked: Bool { interruption.withLock { $0 != nil } }
  var isAnswered: Bool { answer.isGiven }

  func value() async throws -> OpenFile { try await answer.value() }
}

/// One read, parked or not, answered once.
final class TestRead: ParkedRead {
  private let fileSystem: InventoryFileSystem
  private let file: OpenFile
  private let byteOffset: Int
  private let count: Int
  private let answer = Answer<[UInt8]>("a read")
  private let interruption = Lock<Interruption?>(nil)

  init(_ fileSystem: InventoryFileSystem, _ file: OpenFile, byteOffset: Int, count: Int) {
    self.fileSystem = fileSystem
    self.file = file
    self.byteOffset = byteOffset
    self.count = count
  }

  func start() {
    copy { try fileSystem.read(file, byteOffset: byteOffset, into: $0, parked: { self }) }
  }

  // As the protocol asks, the work is handed on: the caller may be the network's thread.
  func ready() {
    DispatchQueue.global().async { [self] in
      copy { try fileSystem.finish(file, byteOffset: byteOffset, into: $0, parked: { self }) }
    }
  }

  func fail(_ error: FileSystemError) { answer.give(.failure(error)) }

  func interrupt() { interruption.withLock { $0 }?.interrupt() }

  var isParked: Bool { interruption.withLock { $0 != nil } }

  func value() async throws -> [UInt8] { try await answer.value() }

  private func copy(
    _ body: (UnsafeMutableRawBufferPointer) throws -> InventoryFileSystem.ReadOutcome
  ) {
    var bytes = [UInt8](repeating: 0xEE, count: count)
    do {
      switch try bytes.withUnsafeMutableBytes(body) {
      case .copied(let count): answer.give(.success(Array(bytes[..<count])))
      case .parked(let interruption): self.interruption.withLock { $0 = interruption }
      }
    } catch {
      answer.give(.failure(error))
    }
  }
}

/// One answer, for the test that waits for it; complains about a second one.
private final class Answer<Value: Sendable>: Sendable {
  private enum State {
    case waiting(CheckedContinuation<Value, any Error>?)
    case given(Result<Value, any Error>)
  }

  private let question: String
  private let state = Lock(State.waiting(nil))

  /// - Parameter question: what it is an answer to, for messages.
  init(_ question: String) { self.question = question }

  var isGiven: Bool {
    state.withLock { state in
      if case .given = state { true } else { false }
    }
  }

  func give(_ result: Result<Value, any Error>) {
    let (waiting, isFirst) = state.withLock {
      state -> (CheckedContinuation<Value, any Error>?, Bool) in
      guard case .waiting(let continuation) = state else { return (nil, false) }
      state = .given(result)
      return (continuation, true)
    }
    if !isFirst { Issue.record("\(question) was answered twice") }
    waiting?.resume(with: result)
  }

  /// Waits for the answer, or until the suite's time limit ends the test.
  func value() async throws -> Value {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let known: Result<Value, any Error>? = state.withLock { state in
          if case .given(let result) = state { return result }
          if Task.isCancelled { return .failure(CancellationError()) }
          state = .waiting(continuation)
          return nil
        }
        if let known { continuation.resume(with: known) }
      }
    } onCancel: {
      let waiting: CheckedContinuation<Value, any Error>? = state.withLock { state in
        guard case .waiting(let continuation) = state else { return nil }
        state = .waiting(nil)
        return continuation
      }
      waiting?.resume(throwing: CancellationError())
    }
  }
}

/// A cache directory for one test.
final class CacheFolder: Sendable {
  let path: String
  private let parent: URL

  init() throws {
    parent = FileManager.default.temporaryDirectory
      .appending(path: "file-system-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
    path = parent.appending(path: "cache").path()
  }

  deinit { try? FileManager.default.removeItem(at: parent) }

  func chunkFiles(endingIn suffix: String) throws -> [String] {
    // DIR/inventoryfs-cache/chunks-…/<digest>.data
    try FileManager.default.subpathsOfDirectory(atPath: path)
      .filter { $0.split(separator: "/").count == 3 && $0.hasSuffix(suffix) }
      .map { "\(path)/\($0)" }
  }
}

/// Waits for what another thread is about to do. Where it never does it, the suite's time limit
/// ends the test.
func until(_ condition: () async throws -> Bool) async throws {
  while try await !condition() { try await Task.sleep(for: .milliseconds(1)) }
}

/// Takes a cache that was let go: its lock ends with the last reference, which another thread may
/// hold for a moment, or a process that is just being started. On a busy machine a moment may be
/// long.
func untilFree<Value>(_ body: () throws -> Value) async throws -> Value {
  for _ in 0..<10_000 {
    if let value = try? body() { return value }
    try await Task.sleep(for: .milliseconds(5))
  }
  return try body()
}

/// Whether the bytes are the same, compared as fast as the machine can also in a build without
/// optimization.
func isSame(_ bytes: [UInt8], _ other: some ContiguousBytes) -> Bool {
  bytes.withUnsafeBytes { bytes in
    other.withUnsafeBytes { other in
      guard bytes.count == other.count else { return false }
      guard let start = bytes.baseAddress, let otherStart = other.baseAddress else { return true }
      return memcmp(start, otherStart, bytes.count) == 0
    }
  }
}

private struct ContentName: Hashable {
  let sizeInBytes: Int
  let seed: UInt64
}

/// What was made before, so that the many tests of one object share its bytes.
private let madeContents = Lock<[ContentName: [UInt8]]>([:])

/// Bytes that differ from place to place and from seed to seed, none of them zero.
func content(_ sizeInBytes: Int, seed: UInt64 = 1) -> [UInt8] {
  madeContents.withLock { contents in
    let name = ContentName(sizeInBytes: sizeInBytes, seed: seed)
    let bytes = contents[name] ?? makeContent(sizeInBytes, seed: seed)
    contents[name] = bytes
    return bytes
  }
}

private func makeContent(_ sizeInBytes: Int, seed: UInt64) -> [UInt8] {
  var generator = SeededGenerator(seed: seed)
  let tile = (0..<8192).map { _ in generator.next() | 0x0101_0101_0101_0101 }
  var bytes: [UInt8] = []
  bytes.reserveCapacity(sizeInBytes + tile.count * 8)
  while bytes.count < sizeInBytes {
    // Each tile begins with its own place.
    let place = UInt64(bytes.count) << 8 | 0x0101_0101_0101_0101
    withUnsafeBytes(of: place) { bytes += $0 }
    tile.withUnsafeBytes { bytes += $0.dropFirst(8 + (bytes.count >> 16) % 512) }
  }
  return Array(bytes[..<sizeInBytes])
}
