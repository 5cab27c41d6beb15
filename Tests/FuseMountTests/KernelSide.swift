import CFuse3
import FoundationEssentials
import Glibc
import InventoryFileSystem
import Locks
import Logging
import Testing

@testable import FuseMount

/// The kernel's side of a FUSE session, without a mount: requests, laid out as in linux/fuse.h, are
/// handed to libfuse, which calls the operations under test; what libfuse writes is kept as
/// replies.
final class KernelSide: Sendable {
  enum Opcode: UInt32 {
    case lookUp = 1, getAttributes = 3, open = 14, read = 15, statistics = 17, release = 18
    case getExtendedAttribute = 22, listExtendedAttributes = 23, initialise = 26
    case openDirectory = 27, readDirectory = 28, access = 34, interrupt = 36
    case readDirectoryPlus = 44
  }

  struct Reply: Equatable {
    /// 0 or an errno.
    let errno: Int32
    /// What follows the header.
    let body: Fields
  }

  /// What libfuse has written for one session.
  private final class Inbox: Sendable {
    let state = Lock<(replies: [UInt64: [Reply]], failure: Int32?)>(([:], nil))
  }

  /// By the descriptor that libfuse takes for the device, the one thing of ours that it tells its
  /// callbacks.
  private static let inboxes = Lock<[Int32: Inbox]>([:])
  static let maxBackground: UInt32 = 24
  /// FUSE_MAX_PAGES, FUSE_INIT_EXT and what else matters here of what kernel 6.1 offers.
  static let offeredFlags: UInt32 =
    1 << 0 | 1 << 4 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 18 | 1 << 22 | 1 << 30

  let context: OperationContext
  // libfuse's session may be used from any thread; it is freed by `end` only, after the last
  // request.
  private nonisolated(unsafe) let session: OpaquePointer
  private let descriptor: Int32
  private let inbox = Inbox()
  private let lastUnique = Lock<UInt64>(0)

  /// Makes a session, and has it answer the kernel's first request.
  ///
  /// - Parameter adapt: replaces operations.
  init(
    _ fileSystem: InventoryFileSystem, backingFiles: BackingFiles? = nil, replyThreadCount: Int = 2,
    adapt: (inout fuse_lowlevel_ops) -> Void = { _ in }
  ) throws {
    let pool = try #require(
      ReplyPool(
        threadCount: replyThreadCount, bufferSizeInBytes: OperationContext.maxReadInBytes))
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    context = OperationContext(
      fileSystem, pool, device: nil, backingFiles: backingFiles,
      maxBackground: Self.maxBackground, bufferKey: key)
    let options = MountOptions(
      mountpoint: "/nowhere", source: "a,b\\c", allowOther: false, maxBackground: 24)
    var arguments = MountSession.arguments(options)
    defer { fuse_opt_free_args(&arguments) }
    var operations = makeOperations()
    adapt(&operations)
    // The context is kept by this object, which outlives the session.
    session = try #require(
      fuse_session_new(
        &arguments, &operations, MemoryLayout<fuse_lowlevel_ops>.size,
        Unmanaged.passUnretained(context).toOpaque()))
    descriptor = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
    Self.inboxes.withLock { [descriptor, inbox] in $0[descriptor] = inbox }
    var callbacks = fuse_custom_io()
    callbacks.read = { _, _, _, _ in 0 }
    callbacks.writev = takeReply
    try #require(fuse_session_custom_io(session, &callbacks, descriptor) == 0)
  }

  /// Waits for parked answers and frees the session. To be called once, after the last request.
  func end() {
    context.pool.stop()
    // libfuse closes the descriptor, whose number another session may get then.
    Self.inboxes.withLock { [descriptor] in $0[descriptor] = nil }
    fuse_session_destroy(session)
    pthread_key_delete(context.bufferKey)
  }

  // MARK: Requests

  /// The first request, without which libfuse answers no other.
  func initialise() -> [Reply] {
    send(
      .initialise, node: 0,
      Fields.words([7, 38, 128 << 10, Self.offeredFlags] + Array(repeating: 0, count: 12)))
  }

  /// A number for a request, even as the kernel's are.
  func newUnique() -> UInt64 {
    lastUnique.withLock {
      $0 += 2
      return $0
    }
  }

  /// Sends a request and returns what was answered before libfuse returned: nothing if it is
  /// parked.
  @discardableResult
  func send(
    _ opcode: Opcode, node: UInt64 = 1, unique: UInt64? = nil, _ body: Fields = Fields()
  ) -> [Reply] {
    let unique = unique ?? newUnique()
    var request = Fields()
    request.append(UInt32(40 + body.bytes.count))
    request.append(opcode.rawValue)
    request.append(unique)
    request.append(node)
    for word in [getuid(), getgid(), UInt32(getpid()), 0] { request.append(word) }
    request.bytes += body.bytes
    // libfuse puts a zero after the request where a name must end.
    let message = UnsafeMutableRawBufferPointer.allocate(
      byteCount: request.bytes.count + 8, alignment: 8)
    message.copyBytes(from: request.bytes)
    let buffer = UnsafeMutableRawPointer.allocate(
      byteCount: OperationContext.maxReadInBytes, alignment: 4096)
    // Both are this request's alone; what is parked keeps neither.
    defer {
      message.deallocate()
      buffer.deallocate()
    }
    let before = pthread_getspecific(context.bufferKey)
    pthread_setspecific(context.bufferKey, buffer)
    defer { pthread_setspecific(context.bufferKey, before) }
    var libfuseBuffer = fuse_buf()
    libfuseBuffer.mem = message.baseAddress
    libfuseBuffer.size = request.bytes.count
    libfuseBuffer.fd = -1
    fuse_session_process_buf(session, &libfuseBuffer)
    return replies(to: unique)
  }

  /// Tells that whoever made the request has been interrupted, as often as the kernel likes.
  func interrupt(_ unique: UInt64) {
    send(.interrupt, node: 0, unique: unique | 1, Fields(unique))
  }

  func replies(to unique: UInt64) -> [Reply] {
    inbox.state.withLock { $0.replies[unique] ?? [] }
  }

  /// What the kernel answers libfuse's writes with from now on; nil lets it take them.
  func refuseReplies(with errno: Int32?) { inbox.state.withLock { $0.failure = errno } }

  // MARK: Replies

  /// Keeps a reply. Sets errno and returns -1 where it is to be refused.
  fileprivate static func take(_ bytes: [UInt8], from descriptor: Int32) -> Int {
    guard let inbox = inboxes.withLock({ $0[descriptor] }), bytes.count >= 16 else {
      Issue.record("libfuse wrote \(bytes.count) bytes to nobody")
      return bytes.count
    }
    let header = Fields(bytes: bytes)
    #expect(header.word(at: 0) == bytes.count, "the length in the header")
    let failure = inbox.state.withLock { state in
      if state.failure == nil {
        state.replies[header.long(at: 8), default: []].append(
          Reply(
            errno: -Int32(bitPattern: header.word(at: 4)),
            body: Fields(bytes: Array(bytes.dropFirst(16)))))
      }
      return state.failure
    }
    guard let failure else { return bytes.count }
    errno = failure
    return -1
  }
}

private func takeReply(
  _ descriptor: Int32, _ parts: UnsafeMutablePointer<iovec>?, _ count: Int32,
  _: UnsafeMutableRawPointer?
) -> Int {
  // libfuse's, valid during the call.
  let bytes = UnsafeBufferPointer(start: parts, count: Int(count)).flatMap {
    Array(UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len))
  }
  return KernelSide.take(bytes, from: descriptor)
}

/// Bytes with numbers in them, little-endian as on every machine that this runs on.
struct Fields: Equatable {
  var bytes: [UInt8] = []

  init(bytes: [UInt8] = []) { self.bytes = bytes }

  init(_ long: UInt64) { append(long) }

  static func words(_ words: [UInt32]) -> Fields {
    var fields = Fields()
    for word in words { fields.append(word) }
    return fields
  }

  static func name(_ name: String) -> Fields { Fields(bytes: Array(name.utf8) + [0]) }

  mutating func append(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value) { bytes += $0 }
  }

  func word(at offset: Int) -> UInt32 { value(at: offset) }
  func long(at offset: Int) -> UInt64 { value(at: offset) }

  /// 0 beyond the end.
  private func value<T: FixedWidthInteger>(at offset: Int) -> T {
    guard offset >= 0, offset + MemoryLayout<T>.size <= bytes.count else { return 0 }
    return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: T.self) }
  }

  func dropFirst(_ count: Int) -> Fields { Fields(bytes: Array(bytes.dropFirst(count))) }
}

/// A file system whose chunks are files in a folder.
final class ChunkFolder {
  let path: String
  let fileSystem: InventoryFileSystem

  /// - Parameters:
  ///   - chunks: keys below `data/`, which are the names too, and their bytes.
  ///   - failures: chunks that cannot be opened, and why.
  init(
    _ chunks: [(name: String, bytes: [UInt8])], failures: [(String, FileSystemError)] = [],
    checksum: [UInt8]? = nil, creationTimeInMilliseconds: Int64 = 1_700_000_000_123
  ) throws {
    var template = Array("/tmp/fuse-mount-tests-XXXXXX".utf8CString)
    path = String(cString: try #require(mkdtemp(&template)))
    try #require(mkdir(path + "/data", 0o755) == 0)
    for (name, bytes) in chunks {
      try Data(bytes).write(to: URL(filePath: "\(path)/data/\(name)"))
    }
    let inventory = Inventory(
      source: "/manifest.json", manifest: Array("{}".utf8), checksum: checksum,
      creationTimeInMilliseconds: creationTimeInMilliseconds, format: .csv, place: .folder(path),
      destinationBucket: "bucket",
      chunks: chunks.map {
        Inventory.Chunk(
          key: "data/\($0.name)", name: $0.name, sizeInBytes: $0.bytes.count, md5: nil)
      }
        + failures.map {
          Inventory.Chunk(key: $0.0, name: $0.0, sizeInBytes: 0, md5: nil, failure: $0.1)
        })
    fileSystem = InventoryFileSystem(
      inventory, folder: path, ownership: NodeOwnership(userID: 7, groupID: 8),
      logger: Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() })
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
