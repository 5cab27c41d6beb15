import AWSCredentials
import BlockCache
import Dispatch
import EmbeddedS3Origin
import FoundationEssentials
import InventoryFileSystem
import InventoryManifest
import Locks
import Logging
import ObjectStore
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

  /// Mounts nothing: reads go to `fileSystem` as the kernel's would.
  init(
    _ origin: EmbeddedS3Origin, _ chunks: [Chunk], cachePath: String,
    cacheSizeInBytes: Int = largeCache, maxConnections: Int = 8,
    format: InventoryManifest.FileFormat = .csv,
    credentials: any CredentialsProvider = AnonymousCredentials(), isCacheReady: Bool = true,
    readTimeout: Duration = .seconds(60), hook: CacheStepHook? = nil,
    verify: VerificationMode = .off,
    logger: Logger = Logger(label: "rig") { _ in SwiftLogNoOpLogHandler() }
  ) throws {
    let url = try #require(origin.endpointURL)
    let store = try #require(
      ObjectStore(
        ObjectStoreConfiguration(
          endpoint: try S3Endpoint(url: url), region: "us-east-1", maxConnections: maxConnections,
          networkThreadCount: 2, receiveBufferSizeInBytes: 64 << 10, readTimeout: readTimeout),
        credentials: credentials))
    let inventory = Inventory(
      source: "s3://bucket/manifest.json", manifest: Array("{}".utf8), checksum: nil,
      creationTimeInMilliseconds: 1_700_000_000_123, format: format, place: .bucket(Self.bucket),
      destinationBucket: Self.bucket,
      chunks: chunks.map {
        Inventory.Chunk(
          key: $0.key, name: $0.name ?? $0.key, sizeInBytes: $0.statedSizeInBytes ?? $0.bytes.count,
          md5: $0.hasMD5 ? MD5Digest(of: $0.bytes) : nil)
      })
    fileSystem = InventoryFileSystem(
      inventory, bucket: Self.bucket, ownership: NodeOwnership(userID: 7, groupID: 8), store: store,
      cache: try BlockCache(path: cachePath, logger: logger, hook: hook),
      cacheSizeInBytes: cacheSizeInBytes,
      maxConnections: maxConnections, readTimeout: readTimeout, verificationMode: verify,
      quietTime: .milliseconds(20), logger: logger)
    if isCacheReady { fileSystem.prepareCache() }
  }

  /// Runs a store with these chunks and a file system over it.
  static func run(
    _ chunks: [Chunk], cacheSizeInBytes: Int = largeCache, maxConnections: Int = 8,
    faults: [FaultRule] = [], firstByteDelay: Duration = .zero,
    readTimeout: Duration = .seconds(60), verify: VerificationMode = .off,
    _ body: (Rig, EmbeddedS3Origin) async throws -> Void
  ) async throws {
    let folder = try CacheFolder()
    try await EmbeddedS3Origin.run(
      OriginConfiguration(firstByteDelay: firstByteDelay, faultPlan: FaultPlan(rules: faults))
    ) { origin in
      origin.put(chunks)
      let rig = try Rig(
        origin, chunks, cachePath: folder.path, cacheSizeInBytes: cacheSizeInBytes,
        maxConnections: maxConnections, readTimeout: readTimeout, verify: verify)
      defer { rig.fileSystem.shutDown() }
      try await body(rig, origin)
    }
  }

  // MARK: Reading as the kernel does

  func node(_ name: String) throws(FileSystemError) -> NodeID {
    let data = try fileSystem.lookUp("data", in: .root).node
    return try fileSystem.lookUp(name, in: data).node
  }

  func open(_ name: String) async throws -> OpenFile {
    let node = try node(name)
    return try await withCheckedThrowingContinuation { continuation in
      do {
        let outcome = try fileSystem.open(node) { TestOpen { continuation.resume(with: $0) } }
        if case .opened(let file) = outcome { continuation.resume(returning: file) }
      } catch {
        continuation.resume(throwing: error)
      }
    }
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
    let isRight = try await contents(chunk.key) == chunk.bytes
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

extension EmbeddedS3Origin {
  func put(_ chunks: [Rig.Chunk]) {
    for chunk in chunks { put(bucket: Rig.bucket, key: chunk.key, bytes: chunk.bytes) }
  }

  /// The GETs for a key that have been answered.
  func gets(_ key: String) async -> [RequestRecord] {
    await requests(forKey: key).filter { $0.method == "GET" }
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

/// One parked open, answered once.
final class TestOpen: ParkedOpen {
  private let answer: Once<OpenFile>

  init(_ answer: @escaping @Sendable (Result<OpenFile, any Error>) -> Void) {
    self.answer = Once(answer)
  }

  func opened(_ file: OpenFile) { answer.give(.success(file)) }
  func fail(_ error: FileSystemError) { answer.give(.failure(error)) }
}

/// One read, parked or not, answered once.
final class TestRead: ParkedRead {
  private enum State {
    case waiting(CheckedContinuation<[UInt8], any Error>?)
    case answered(Result<[UInt8], any Error>)
  }

  private let fileSystem: InventoryFileSystem
  private let file: OpenFile
  private let byteOffset: Int
  private let count: Int
  private let state = Lock(State.waiting(nil))
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

  func fail(_ error: FileSystemError) { answer(.failure(error)) }

  func interrupt() { interruption.withLock { $0 }?.interrupt() }

  var isParked: Bool { interruption.withLock { $0 != nil } }

  func value() async throws -> [UInt8] {
    try await withCheckedThrowingContinuation { continuation in
      let known: Result<[UInt8], any Error>? = state.withLock { state in
        if case .answered(let result) = state { return result }
        state = .waiting(continuation)
        return nil
      }
      if let known { continuation.resume(with: known) }
    }
  }

  private func copy(
    _ body: (UnsafeMutableRawBufferPointer) throws -> InventoryFileSystem.ReadOutcome
  ) {
    var bytes = [UInt8](repeating: 0xEE, count: count)
    do {
      switch try bytes.withUnsafeMutableBytes(body) {
      case .copied(let count): answer(.success(Array(bytes[..<count])))
      case .parked(let interruption): self.interruption.withLock { $0 = interruption }
      }
    } catch {
      answer(.failure(error))
    }
  }

  private func answer(_ result: Result<[UInt8], any Error>) {
    let (waiting, isFirst) = state.withLock {
      state -> (CheckedContinuation<[UInt8], any Error>?, Bool) in
      guard case .waiting(let continuation) = state else { return (nil, false) }
      state = .answered(result)
      return (continuation, true)
    }
    if !isFirst { Issue.record("a read was answered twice") }
    waiting?.resume(with: result)
  }
}

/// Passes on one answer and complains about a second.
private final class Once<Value: Sendable>: Sendable {
  private let isGiven = Lock(false)
  private let body: @Sendable (Result<Value, any Error>) -> Void

  init(_ body: @escaping @Sendable (Result<Value, any Error>) -> Void) { self.body = body }

  func give(_ answer: Result<Value, any Error>) {
    let isFirst = isGiven.withLock { given in
      defer { given = true }
      return !given
    }
    if isFirst { body(answer) } else { Issue.record("an open was answered twice") }
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
    let manager = FileManager.default
    let folders = try manager.contentsOfDirectory(atPath: path).filter { $0.hasPrefix("chunks-") }
    return try folders.flatMap { folder in
      try manager.contentsOfDirectory(atPath: "\(path)/\(folder)")
        .filter { $0.hasSuffix(suffix) }.map { "\(path)/\(folder)/\($0)" }
    }
  }
}

/// Takes a cache that was let go: its lock ends with the last reference, which another thread may hold for a moment, or a
/// process that is just being started. On a busy machine a moment may be long.
func untilFree<Value>(_ body: () throws -> Value) async throws -> Value {
  for _ in 0..<6000 {
    if let value = try? body() { return value }
    try await Task.sleep(for: .milliseconds(10))
  }
  return try body()
}

/// Bytes that differ from place to place and from seed to seed, none of them zero.
func content(_ sizeInBytes: Int, seed: UInt64 = 1) -> [UInt8] {
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
