import BlockCache
import ObjectStore
import PrintableText
import ReadPlanning

/// Brings one part of a chunk from the store into the cache, through all its attempts.
///
/// Bytes are written to the chunk's cache file as they arrive, and are collected in memory only while the planner says
/// so (`Part.isInMemory`). The checksum of the
/// block that is arriving is carried along, so that an attempt after a failure goes on at the very next byte. Used by
/// one thread at a time: the network's, or the one that starts the next attempt after the network's has ended the last.
final class PartTransfer: ObjectReceiver, @unchecked Sendable {
  let part: FetchPlanner.Part
  let chunk: OpenChunk
  // Outlives this: its `shutDown`, without which it is not let go, waits for the network's threads to end.
  private unowned let coordinator: FetchCoordinator

  // Touched by one thread at a time, as above.
  private var position: Int
  private var checksum = BlockChecksum()
  private var refusal: FetchFailure?
  /// Attempts since the last byte came.
  private var attempts = 0

  init(part: FetchPlanner.Part, chunk: OpenChunk, coordinator: FetchCoordinator) {
    self.part = part
    self.chunk = chunk
    self.coordinator = coordinator
    position = part.bytes.lowerBound
  }

  /// What is still missing.
  var remaining: Range<Int> { position..<part.bytes.upperBound }

  func nextAttempt() -> Int {
    attempts += 1
    return attempts
  }

  func accept(_ head: ResponseHead) -> Bool {
    refusal = nil
    do {
      try check(head)
      coordinator.logger.trace("\(self): answered")
      return true
    } catch {
      refusal = error
      return false
    }
  }

  func receive(_ body: UnsafeRawBufferPointer) -> Bool {
    do {
      try store(body)
      attempts = 0
      coordinator.arrived(part.id, count: body.count)
      return true
    } catch {
      refusal = .cache(error)
      return false
    }
  }

  func finish(_ result: Result<Void, StoreError>) {
    if let refusal { return coordinator.ended(self, failure: refusal) }
    switch result {
    case .success: coordinator.ended(self, failure: nil)
    case .failure(let error): coordinator.ended(self, failure: .store(error))
    }
  }

  /// The store has checked status, range and lengths; here the answer meets the version.
  private func check(_ head: ResponseHead) throws(FetchFailure) {
    try coordinator.versionSeen(try head.version(), of: chunk)
  }

  private func store(_ body: UnsafeRawBufferPointer) throws(BlockCacheError) {
    if part.isInMemory {
      chunk.entry.keep(body, at: position)
      position += body.count
      return
    }
    try chunk.entry.write(body.bytes, at: position)
    let firstBlock = chunk.grid.block(at: position)
    var checksums: [UInt32] = []
    var rest = body[...]
    while !rest.isEmpty {
      let block = chunk.grid.block(at: position)
      let blockEnd = chunk.grid.bytes(of: block..<block + 1).upperBound
      let piece = rest.prefix(blockEnd - position)
      checksum.update(UnsafeRawBufferPointer(rebasing: piece))
      position += piece.count
      rest = rest.dropFirst(piece.count)
      if position == blockEnd {
        checksums.append(checksum.value)
        checksum = BlockChecksum()
      }
    }
    try chunk.entry.commit(from: firstBlock, checksums: checksums)
  }
}

extension ResponseHead {
  /// The ETag, where it is one by which the object's versions can be told apart, also after a start: longer ones than the
  /// cache can store are refused, because the beginning of one is another.
  func version() throws(FetchFailure) -> String {
    guard let eTag, !eTag.isEmpty else { throw .noETag }
    let length = eTag.utf8.count
    guard length <= CacheEntry.maximumETagLengthInBytes else { throw .longETag(length) }
    return eTag
  }
}

/// For the trace of requests.
extension PartTransfer: CustomStringConvertible {
  var description: String {
    let bytes = part.bytes
    return "\(chunk.location): bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)"
  }
}

/// Why a part could not be brought.
enum FetchFailure: Error {
  case store(StoreError)
  case cache(BlockCacheError)
  case versionChanged(expected: String, found: String)
  case noETag
  /// Longer than the cache can store; its length in bytes.
  case longETag(Int)

  /// Whether the same request may succeed a little later.
  var isRetryable: Bool {
    if case .store(let error) = self { return error.isRetryable }
    return false
  }

  /// How long the store asks to wait.
  var retryAfter: Duration? {
    guard case .store(let error) = self else { return nil }
    return error.retryAfter
  }

  /// Whether the store asks for fewer requests.
  var isThrottling: Bool {
    guard case .store(let error) = self, case .throttled = error.kind else { return false }
    return true
  }

  var isCancellation: Bool {
    if case .store(let error) = self { return error.kind == .cancelled }
    return false
  }

  /// The chunk as it was opened is gone for good.
  var isChange: Bool {
    switch self {
    case .versionChanged: true
    case .store(let error): error.kind == .preconditionFailed
    default: false
    }
  }

  var fileSystemError: FileSystemError {
    switch self {
    case .store(let error):
      switch error.kind {
      case .noSuchKey, .noSuchBucket: .notFound
      case .accessDenied, .expiredToken, .invalidCredentials, .noCredentials: .accessDenied
      case .preconditionFailed: .stale
      case .cancelled: .shuttingDown
      default: .inputOutput
      }
    case .versionChanged: .stale
    case .cache, .noETag, .longETag: .inputOutput
    }
  }

  /// For the log, about the chunk `object`.
  func message(about object: S3Location) -> String {
    switch self {
    case .store(let error):
      "\(error)"
    case .cache(let error):
      "\(object): \(error)"
    case .versionChanged(let expected, let found):
      "\(object): the object was replaced while it was read (ETag \(printable(expected, limit: 64)), "
        + "now \(printable(found, limit: 64))); "
        + "close it and open it again"
    case .noETag:
      "\(object): the store's answer has no ETag, so that versions cannot be told apart"
    case .longETag(let length):
      "\(object): the store's answer has an ETag of \(length) bytes; at most "
        + "\(CacheEntry.maximumETagLengthInBytes) were expected"
    }
  }
}
