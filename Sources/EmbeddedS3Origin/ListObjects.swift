/// ListObjectsV2: one page of a bucket's keys, as XML.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
///
/// Each page walks the bucket anew. That suits buckets of thousands of keys, keeps nothing between
/// requests, and lets a page follow a change made since the one before it.
struct ListObjects {
  private static let mostKeysPerPage = 1000

  /// The place where the next page continues. Its text is opaque to clients, as with S3.
  private enum Continuation {
    case afterKey([UInt8])
    case afterCommonPrefix([UInt8])

    init?(token: String) {
      guard let kind = token.first, let text = PercentCoding.decode(token.dropFirst()) else {
        return nil
      }
      switch kind {
      case "k": self = .afterKey(Array(text.utf8))
      case "p": self = .afterCommonPrefix(Array(text.utf8))
      default: return nil
      }
    }

    static func token(kind: String, _ text: String) -> String {
      kind + PercentCoding.encode(text)
    }

    func isBefore(_ key: [UInt8]) -> Bool {
      switch self {
      case .afterKey(let last): last.lexicographicallyPrecedes(key)
      case .afterCommonPrefix(let prefix):
        prefix.lexicographicallyPrecedes(key) && !key.starts(with: prefix)
      }
    }
  }

  let bucket: String
  let prefix: String
  private let delimiter: String
  private let startAfter: String?
  private let continuationToken: String?
  private let continuation: Continuation?
  private let maxKeys: Int
  private let isURLEncoded: Bool

  init(_ request: S3Request) throws(S3Error) {
    bucket = request.bucket
    prefix = request.queryValue("prefix") ?? ""
    delimiter = request.queryValue("delimiter") ?? ""
    startAfter = request.queryValue("start-after")
    continuationToken = request.queryValue("continuation-token")
    if request.queryValue("list-type") != "2" {
      throw .invalidArgument(
        "list-type", value: request.queryValue("list-type") ?? "",
        message: "Invalid List Type specified in Request")
    }
    let encoding = request.queryValue("encoding-type")
    guard encoding == nil || encoding == "url" else {
      throw .invalidArgument(
        "encoding-type", value: encoding ?? "",
        message: "Invalid Encoding Method specified in Request")
    }
    isURLEncoded = encoding == "url"
    if let continuationToken {
      guard let continuation = Continuation(token: continuationToken) else {
        throw .invalidArgument(
          "continuation-token", value: continuationToken,
          message: "The continuation token provided is incorrect")
      }
      self.continuation = continuation
    } else {
      continuation = startAfter.map { .afterKey(Array($0.utf8)) }
    }
    let maxKeysText = request.queryValue("max-keys") ?? "\(Self.mostKeysPerPage)"
    guard let maxKeys = Int(maxKeysText), maxKeys >= 0 else {
      throw .invalidArgument(
        "max-keys", value: maxKeysText,
        message: "Provided max-keys not an integer or within integer range")
    }
    self.maxKeys = min(maxKeys, Self.mostKeysPerPage)
  }

  func page(of store: BucketStore) throws(S3Error) -> String {
    var objects: [(key: String, object: StoredObject)] = []
    var commonPrefixes: [String] = []
    var nextToken: String?
    var lastToken: String?
    let delimiterBytes = Array(delimiter.utf8)
    let prefixLength = prefix.utf8.count
    var skipped: [UInt8]?

    for key in try store.keys(bucket: bucket, prefix: prefix) where maxKeys > 0 {
      let bytes = Array(key.utf8)
      guard continuation?.isBefore(bytes) ?? true else { continue }
      if let skipped, bytes.starts(with: skipped) { continue }
      if objects.count + commonPrefixes.count == maxKeys {
        nextToken = lastToken
        break
      }
      if !delimiterBytes.isEmpty,
        let end = Self.end(of: delimiterBytes, in: bytes, from: prefixLength)
      {
        skipped = Array(bytes[..<end])
        let commonPrefix = String(decoding: bytes[..<end], as: UTF8.self)
        commonPrefixes.append(commonPrefix)
        lastToken = Continuation.token(kind: "p", commonPrefix)
      } else {
        lastToken = Continuation.token(kind: "k", key)
        // A file that vanished, or cannot be read, since the walk is left out.
        guard let object = try? store.object(bucket: bucket, key: key) else { continue }
        objects.append((key, object))
      }
    }
    return xml(objects: objects, commonPrefixes: commonPrefixes, nextToken: nextToken)
  }

  private static func end(of delimiter: [UInt8], in key: [UInt8], from start: Int) -> Int? {
    guard key.count - start >= delimiter.count else { return nil }
    return (start...key.count - delimiter.count)
      .first { key[$0...].starts(with: delimiter) }
      .map { $0 + delimiter.count }
  }

  private func xml(
    objects: [(key: String, object: StoredObject)], commonPrefixes: [String], nextToken: String?
  ) -> String {
    func coded(_ text: String) -> String {
      isURLEncoded ? PercentCoding.encodeForListing(text) : text
    }
    var xml = XMLText()
    xml.element("ListBucketResult", namespaced: true) { xml in
      xml.element("Name", bucket)
      xml.element("Prefix", coded(prefix))
      if let startAfter { xml.element("StartAfter", coded(startAfter)) }
      if let continuationToken { xml.element("ContinuationToken", continuationToken) }
      if let nextToken { xml.element("NextContinuationToken", nextToken) }
      xml.element("KeyCount", "\(objects.count + commonPrefixes.count)")
      xml.element("MaxKeys", "\(maxKeys)")
      if !delimiter.isEmpty { xml.element("Delimiter", coded(delimiter)) }
      if isURLEncoded { xml.element("EncodingType", "url") }
      xml.element("IsTruncated", nextToken == nil ? "false" : "true")
      for (key, object) in objects {
        xml.element("Contents") { xml in
          xml.element("Key", coded(key))
          xml.element("LastModified", object.lastModified.iso8601)
          xml.element("ETag", object.eTag)
          xml.element("Size", "\(object.content.sizeInBytes)")
          xml.element("StorageClass", "STANDARD")
        }
      }
      for prefix in commonPrefixes {
        xml.element("CommonPrefixes") { $0.element("Prefix", coded(prefix)) }
      }
    }
    return xml.text
  }
}
