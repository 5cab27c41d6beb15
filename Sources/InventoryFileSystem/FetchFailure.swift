import BlockCache
import ObjectStore
import PrintableText

/// Why a part could not be brought, or an object's facts not be had: what store, cache and versions
/// make of a request, in one type. What a reader is told, and the log, follow from it.
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

extension ResponseHead {
  /// The ETag, where it is one by which the object's versions can be told apart, also after a
  /// start: longer ones than the cache can store are refused, because the beginning of one is
  /// another.
  func version() throws(FetchFailure) -> String {
    guard let eTag, !eTag.isEmpty else { throw .noETag }
    let length = eTag.utf8.count
    guard length <= CacheEntry.maximumETagLengthInBytes else { throw .longETag(length) }
    return eTag
  }
}
