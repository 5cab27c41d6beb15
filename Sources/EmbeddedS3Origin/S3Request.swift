import NIOHTTP1

/// The operation of a request, as far as this server distinguishes it.
public enum S3Operation: String, Codable, Sendable {
  case listBuckets, headBucket, bucketLocation, listObjects
  case getObject, headObject
  /// A write, or a subresource that is not served.
  case unsupported
}

/// A request as received, with its address and query taken apart.
struct S3Request: Sendable {
  let head: HTTPRequestHead
  /// The path and the query as they were on the wire.
  let rawPath: Substring
  let rawQuery: Substring
  let query: [(name: String, value: String)]
  /// The bucket's name; empty for the service itself.
  let bucket: String
  /// The object's key; empty for the bucket itself.
  let key: String
  let operation: S3Operation

  /// The requested range; nil when there is no Range header, or one that S3 ignores.
  var range: ByteRange? {
    head.headers.first(name: "range").flatMap(ByteRange.init(header:))
  }

  /// - Parameter hasBucket: whether a bucket exists, which tells `bucket.host` from a host that
  ///   merely has dots.
  init(_ head: HTTPRequestHead, hasBucket: (String) -> Bool) throws(S3Error) {
    self.head = head
    let mark = head.uri.utf8.firstIndex(of: UInt8(ascii: "?"))
    rawPath = head.uri[..<(mark ?? head.uri.endIndex)]
    rawQuery = mark.map { head.uri[head.uri.utf8.index(after: $0)...] } ?? ""

    guard rawPath.utf8.first == UInt8(ascii: "/"),
      let path = PercentCoding.decode(rawPath.dropFirst())
    else { throw .invalidURI(head.uri) }
    if let bucket = Self.bucketInHost(head.headers.first(name: "host") ?? "", hasBucket) {
      self.bucket = bucket
      key = path
    } else if let slash = path.utf8.firstIndex(of: UInt8(ascii: "/")) {
      bucket = String(path[..<slash])
      key = String(path[path.utf8.index(after: slash)...])
    } else {
      bucket = path
      key = ""
    }

    var query: [(name: String, value: String)] = []
    for pair in rawQuery.split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = PercentCoding.decode(parts[0], plusIsSpace: true),
        let value = PercentCoding.decode(parts.count > 1 ? parts[1] : "", plusIsSpace: true)
      else { throw .invalidURI(head.uri) }
      query.append((name, value))
    }
    self.query = query
    operation = Self.operation(
      method: head.method, bucket: bucket, key: key, queryNames: query.map(\.name))
  }

  func queryValue(_ name: String) -> String? {
    query.first { $0.name == name }?.value
  }

  private static func operation(
    method: HTTPMethod, bucket: String, key: String, queryNames: [String]
  ) -> S3Operation {
    switch (method, bucket.isEmpty, key.isEmpty) {
    case (.GET, true, _): .listBuckets
    case (.HEAD, false, true): .headBucket
    case (.GET, false, true):
      if queryNames.contains("location") {
        .bucketLocation
      } else if queryNames.contains("list-type") {
        .listObjects
      } else {
        .unsupported
      }
    case (.GET, false, false), (.HEAD, false, false):
      if queryNames.contains(where: unsupportedSubresources.contains) {
        .unsupported
      } else {
        method == .GET ? .getObject : .headObject
      }
    default: .unsupported
    }
  }

  private static let unsupportedSubresources: Set = [
    "acl", "attributes", "legal-hold", "partNumber", "retention", "select", "tagging", "torrent",
    "uploadId", "uploads", "versionId", "X-Amz-Signature",
  ]

  private static func bucketInHost(_ host: String, _ hasBucket: (String) -> Bool) -> String? {
    let name = host.prefix { $0 != ":" }.lowercased()
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    guard labels.count > 1, labels.last?.allSatisfy(\.isNumber) == false,
      labels[0] != "s3", !labels[0].hasPrefix("s3-")
    else { return nil }
    if let service = labels.firstIndex(where: { $0 == "s3" || $0.hasPrefix("s3-") }) {
      return labels[..<service].joined(separator: ".")
    }
    if labels.last == "localhost" { return labels.dropLast().joined(separator: ".") }
    // For other hosts the longest existing bucket is taken, since a bucket's name may have dots.
    return (1..<labels.count).reversed().map { labels[..<$0].joined(separator: ".") }
      .first(where: hasBucket)
  }
}
