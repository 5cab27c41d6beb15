import BlockCache
import ObjectStore
import PrintableText

/// Why a part could not be fetched, or an object's size and ETag could not be obtained: failures of
/// the store, of the cache, and of versions in one type. The reader's error and the log line follow
/// from it.
enum FetchFailure: Error {
  case store(StoreError)
  case cache(BlockCacheError)
  case versionChanged(expected: String, found: String)
  case noETag
  /// The ETag is longer than the cache can store; the value is its length in bytes.
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

  /// Whether no file descriptor was left for a connection.
  var isShortOfDescriptors: Bool {
    guard case .store(let error) = self, case .connection(.noDescriptors, _) = error.kind else {
      return false
    }
    return true
  }

  var isCancellation: Bool {
    if case .store(let error) = self { return error.kind == .cancelled }
    return false
  }

  /// Whether the version of the chunk that was opened is gone for good.
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

  /// The cause, without what differs between two failures that have the same one.
  var cause: String {
    switch self {
    case .store(let error):
      switch error.kind {
      case .connection(let problem, _): problem.rawValue
      default: error.httpStatus.map { "\($0) \(error.code ?? "")" } ?? "\(error.kind)"
      }
    case .cache: "cache"
    case .versionChanged: "changed"
    case .noETag, .longETag: "ETag"
    }
  }

  /// The message for the log about the chunk `object`.
  func message(about object: S3Location) -> String { "\(object): \(text)" }

  /// The message without the chunk.
  var text: String {
    switch self {
    case .store(let error):
      error.text
    case .cache(let error):
      "\(error)"
    case .versionChanged(let expected, let found):
      "the object was replaced while it was read (expected ETag \(printable(expected, limit: 64)), "
        + "found \(printable(found, limit: 64))); "
        + "close the file and open it again"
    case .noETag:
      "expected an ETag in the store's response, which tells versions apart, found none; "
        + "check that --endpoint-url names an S3 server and that no proxy alters its responses"
    case .longETag(let length):
      "expected an ETag of at most \(CacheEntry.maximumETagLengthInBytes) bytes in the store's response, "
        + "found one of \(length) bytes; check that --endpoint-url names an S3 server"
    }
  }
}

extension ResponseHead {
  /// The ETag of a response, which must tell the object's versions apart, also after a restart:
  /// ETags that are longer than the cache can store are refused, because a truncated ETag would be
  /// another one.
  func version() throws(FetchFailure) -> String {
    guard let eTag, !eTag.isEmpty else { throw .noETag }
    let length = eTag.utf8.count
    guard length <= CacheEntry.maximumETagLengthInBytes else { throw .longETag(length) }
    return eTag
  }
}
