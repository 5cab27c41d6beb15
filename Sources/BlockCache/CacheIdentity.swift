import Digests

/// The object version that a cached chunk is a copy of. Two mounts that name the same object
/// version share its bytes.
///
/// The manifest's MD5 stands for the version, because the ETag is not known before the first
/// request; where the manifest has none, the ETag that the store gives now does.
public struct CacheIdentity: Sendable, Hashable {
  /// The store's name (`ObjectStore.identity`).
  public let endpoint: String
  /// The bucket that holds the object.
  public let bucket: String
  /// The object's key, verbatim.
  public let key: String
  /// The object's length.
  public let sizeInBytes: Int
  /// What tells the object's versions apart: the manifest's MD5 of it, or its ETag.
  public let version: String

  public init(endpoint: String, bucket: String, key: String, sizeInBytes: Int, version: String) {
    self.endpoint = endpoint
    self.bucket = bucket
    self.key = key
    self.sizeInBytes = sizeInBytes
    self.version = version
  }

  var digest: [UInt8] {
    var hash = SHA256()
    for field in [endpoint, bucket, key, String(sizeInBytes), version] {
      // Each field is preceded by its length, so that neighbouring fields cannot be confused.
      hash.update("\(field.utf8.count):\(field)")
    }
    return hash.digest()
  }
}
