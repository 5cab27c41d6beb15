import Digests
import Glibc
import NIOConcurrencyHelpers
import NIOCore

/// One version of an object, held for as long as an answer is made from it: a file that is
/// replaced meanwhile goes on being sent from its old inode.
struct StoredObject: Sendable {
  let content: ObjectContent
  /// The ETag with its quotes.
  let eTag: String
  let lastModified: Timestamp
}

/// Bytes to be sent, in memory or as part of an open file. A slice shares the original.
struct ObjectContent: Sendable {
  private enum Source: Sendable {
    case memory(ByteBuffer)
    case file(OpenFile)
  }

  private let source: Source
  private let start: Int
  let sizeInBytes: Int

  init(_ bytes: ByteBuffer) {
    source = .memory(bytes)
    start = bytes.readerIndex
    sizeInBytes = bytes.readableBytes
  }

  init(_ file: OpenFile) {
    source = .file(file)
    start = 0
    sizeInBytes = file.status.sizeInBytes
  }

  private init(source: Source, start: Int, sizeInBytes: Int) {
    self.source = source
    self.start = start
    self.sizeInBytes = sizeInBytes
  }

  static let empty = ObjectContent(ByteBuffer())

  /// The part that lies in `range`, of which what is beyond the end is dropped.
  subscript(range: Range<Int>) -> ObjectContent {
    let range = range.clamped(to: 0..<sizeInBytes)
    return ObjectContent(source: source, start: start + range.lowerBound, sizeInBytes: range.count)
  }

  /// The form in which the bytes go to the socket: a file's bytes go by sendfile(2), without
  /// passing through this process's memory.
  func outgoing() -> IOData {
    switch source {
    case .memory(let bytes):
      .byteBuffer(bytes.getSlice(at: start, length: sizeInBytes) ?? ByteBuffer())
    case .file(let file):
      .fileRegion(
        FileRegion(fileHandle: file.handle, readerIndex: start, endIndex: start + sizeInBytes))
    }
  }

  /// The same bytes in memory, for faults that change one. It reads the file, so slices must be
  /// small.
  func bytes() -> ByteBuffer {
    switch source {
    case .memory(let bytes):
      return bytes.getSlice(at: start, length: sizeInBytes) ?? ByteBuffer()
    case .file(let file):
      var bytes = ByteBuffer()
      bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: sizeInBytes) { memory in
        file.read(into: UnsafeMutableRawBufferPointer(rebasing: memory[..<sizeInBytes]), at: start)
      }
      return bytes
    }
  }
}

/// An open regular file and the result of fstat(2). It is closed with the last reference.
final class OpenFile: Sendable {
  struct Status: Hashable, Sendable {
    let device: UInt
    let inode: UInt
    let sizeInBytes: Int
    let modified: [Int]
    let changed: [Int]
  }

  enum Failure: Error {
    case notThere
    case notPermitted
    case other(errno: Int32)
  }

  let handle: NIOFileHandle
  let status: Status

  init(path: String) throws(Failure) {
    // O_NONBLOCK, so that a FIFO in the folder does not hold up a thread.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      switch errno {
      case ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP, EISDIR, ENXIO: throw .notThere
      case EACCES, EPERM: throw .notPermitted
      default: throw .other(errno: errno)
      }
    }
    var facts = stat()
    guard fstat(descriptor, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw .notThere
    }
    handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: descriptor)
    status = Status(
      device: UInt(facts.st_dev), inode: UInt(facts.st_ino), sizeInBytes: Int(facts.st_size),
      modified: [facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec],
      changed: [facts.st_ctim.tv_sec, facts.st_ctim.tv_nsec])
  }

  deinit {
    try? handle.close()
  }

  /// Reads bytes and returns their number, fewer than requested only at the end or after an error.
  func read(into memory: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
    (try? handle.withUnsafeFileDescriptor { descriptor in
      var done = 0
      while done < memory.count {
        let count = pread(
          descriptor, memory.baseAddress.map { $0 + done }, memory.count - done, offset + done)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
        done += count
      }
      return done
    }) ?? 0
  }
}

/// The MD5 ETags of files, each computed once for as long as the file's inode, size and times
/// stay the same. The first request for a file of many GB therefore waits for it to be read.
final class ETagCache: Sendable {
  /// The most files in the cache; with more, it starts over.
  private static let limit = 100_000
  private let known = NIOLockedValueBox<[OpenFile.Status: String]>([:])

  /// The ETag of a file; blocks for as long as reading the file takes.
  func eTag(of file: OpenFile) -> String {
    if let eTag = known.withLockedValue({ $0[file.status] }) { return eTag }
    var hash = MD5()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    defer { buffer.deallocate() }
    var offset = 0
    while offset < file.status.sizeInBytes {
      let count = file.read(into: buffer, at: offset)
      guard count > 0 else { break }
      hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
      offset += count
    }
    let eTag = Self.quoted(hash.digest())
    known.withLockedValue { known in
      if known.count >= Self.limit { known.removeAll() }
      known[file.status] = eTag
    }
    return eTag
  }

  static func eTag(of bytes: some Sequence<UInt8>) -> String {
    quoted(MD5.digest(of: bytes))
  }

  private static func quoted(_ digest: [UInt8]) -> String {
    "\"\(Hexadecimal.text(digest))\""
  }
}
