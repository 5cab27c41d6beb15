import PrintableText

/// The location of an object in a store, written `s3://bucket/key`.
///
/// The key is any text and is kept verbatim: "%20" stays three characters, and "..", "//" or a
/// leading slash mean nothing. Only `description` alters it, so that it cannot disturb a terminal
/// or a log.
public struct S3Location: Sendable, Hashable, CustomStringConvertible {
  public let bucket: String
  /// The object's key; empty for a request that concerns the bucket itself.
  public let key: String

  public init(bucket: String, key: String) {
    self.bucket = bucket
    self.key = key
  }

  /// Reads `s3://bucket/key`.
  public init(parsing text: String) throws(S3LocationError) {
    func error(_ found: String) -> S3LocationError { S3LocationError(text: text, found: found) }
    guard text.prefix(5).lowercased() == "s3://" else { throw error("does not start with s3://") }
    let rest = text.utf8.dropFirst(5)
    let bucket = String(Substring(rest.prefix { $0 != UInt8(ascii: "/") }))
    guard !bucket.isEmpty else { throw error("names no bucket") }
    guard bucket != ".", bucket != "..", printable(bucket, limit: 255) == bucket,
      !bucket.contains(where: \.isWhitespace)
    else { throw error("has '\(printable(bucket, limit: 80))' where a bucket's name should be") }
    let key = String(Substring(rest.dropFirst(bucket.utf8.count + 1)))
    guard !key.isEmpty else { throw error("names no key") }
    self.init(bucket: bucket, key: key)
  }

  public var description: String {
    "s3://\(printable(bucket, limit: 255))\(key.isEmpty ? "" : "/")\(printable(key, limit: 1024))"
  }
}

/// Text that is not `s3://bucket/key`.
public struct S3LocationError: Error, Sendable, Equatable, CustomStringConvertible {
  public let text: String
  let found: String

  public var description: String {
    "'\(printable(text, limit: 200))' \(found). Write it as s3://bucket/key, the key as S3 lists it."
  }
}
