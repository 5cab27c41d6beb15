import NIOCore
import NIOHTTP1

/// The answer of S3 when no fault happens.
struct Answer: Sendable {
  var status: Int
  /// The headers, which always have a Content-Length: for HEAD the length that GET would send.
  var headers: HTTPHeaders
  var body: ObjectContent
  /// The bytes of an object that a GET requested, and that the body holds.
  var objectBytesAsked: Range<Int>?
  var objectBytesAnswered: Range<Int>?
  /// The Content-Range of a 206; nil for other answers.
  var contentRange: ContentRange? {
    didSet {
      guard let contentRange else { return }
      headers.replaceOrAdd(name: "Content-Range", value: contentRange.description)
    }
  }

  init(status: Int, headers: HTTPHeaders = [:], body: ObjectContent = .empty) {
    self.status = status
    self.headers = headers
    self.body = body
    if !self.headers.contains(name: "content-length") {
      self.headers.add(name: "Content-Length", value: "\(body.sizeInBytes)")
    }
  }

  init(status: Int = 200, text: String, type: String = "application/xml") {
    self.init(
      status: status, headers: ["Content-Type": type],
      body: ObjectContent(ByteBuffer(string: text)))
  }

  /// A HEAD request gets the status alone.
  init(_ error: S3Error, to head: HTTPRequestHead, requestID: String) {
    let resource = String(head.uri.prefix { $0 != "?" })
    let text = error.xml(resource: resource, requestID: requestID)
    self.init(
      status: error.status, headers: ["Content-Type": "application/xml"],
      body: head.method == .HEAD ? .empty : ObjectContent(ByteBuffer(string: text)))
    for (name, value) in error.headers { headers.replaceOrAdd(name: name, value: value) }
  }
}

/// Makes the answer to a request. It reads the disk, so it belongs on the thread pool.
struct RequestRouter: Sendable {
  let store: BucketStore
  let region: String

  /// - Parameter ignoringRange: whether to serve the whole object whatever part was requested.
  func answer(_ request: S3Request, ignoringRange: Bool) throws(S3Error) -> Answer {
    var answer =
      switch request.operation {
      case .listBuckets: listBuckets()
      case .headBucket: try headBucket(request)
      case .bucketLocation: try bucketLocation(request)
      case .listObjects: Answer(text: try ListObjects(request).page(of: store))
      case .getObject, .headObject: try object(request, ignoringRange: ignoringRange)
      case .unsupported: throw refusal(request)
      }
    if !request.bucket.isEmpty {
      answer.headers.add(name: "x-amz-bucket-region", value: region)
    }
    return answer
  }

  private func listBuckets() -> Answer {
    var xml = XMLText()
    xml.element("ListAllMyBucketsResult", namespaced: true) { xml in
      xml.element("Owner") { $0.element("ID", "embedded-s3-origin") }
      xml.element("Buckets") { xml in
        for name in store.bucketNames() {
          xml.element("Bucket") { xml in
            xml.element("Name", name)
            xml.element("CreationDate", Timestamp(secondsSince1970: 0).iso8601)
          }
        }
      }
    }
    return Answer(text: xml.text)
  }

  private func headBucket(_ request: S3Request) throws(S3Error) -> Answer {
    guard store.hasBucket(request.bucket) else { throw .noSuchBucket(request.bucket) }
    return Answer(status: 200, headers: ["Content-Type": "application/xml"])
  }

  private func bucketLocation(_ request: S3Request) throws(S3Error) -> Answer {
    guard store.hasBucket(request.bucket) else { throw .noSuchBucket(request.bucket) }
    var xml = XMLText()
    // The oldest region is written as nothing.
    let location = region == "us-east-1" ? "" : region
    xml.element("LocationConstraint", namespaced: true) { $0.append(location) }
    return Answer(text: xml.text)
  }

  private func object(
    _ request: S3Request, ignoringRange: Bool
  ) throws(S3Error) -> Answer {
    let object = try store.object(bucket: request.bucket, key: request.key)
    let headers = request.head.headers
    if headers.contains(name: "if-match"),
      // A weak ETag never matches (RFC 9110, 13.1.1).
      object.eTag.hasPrefix("W/")
        || !Self.names(headers[canonicalForm: "if-match"], eTag: object.eTag)
    {
      throw .preconditionFailed
    }
    let facts: HTTPHeaders = [
      "ETag": object.eTag, "Last-Modified": object.lastModified.httpDate,
      "Accept-Ranges": "bytes", "Content-Type": "binary/octet-stream",
    ]
    if headers.contains(name: "if-none-match"),
      Self.names(headers[canonicalForm: "if-none-match"], eTag: object.eTag)
    {
      return Answer(status: 304, headers: facts)
    }

    let size = object.content.sizeInBytes
    var asked = 0..<size
    if let range = request.range {
      guard let resolved = range.resolved(sizeInBytes: size) else {
        throw .invalidRange(headers.first(name: "range") ?? "", objectSizeInBytes: size)
      }
      asked = resolved
    }
    let isPartial = request.range != nil && !ignoringRange
    let answered = isPartial ? asked : 0..<size
    var answer = Answer(
      status: isPartial ? 206 : 200, headers: facts, body: object.content[answered])
    if isPartial {
      answer.contentRange = ContentRange(bytes: answered, objectSizeInBytes: size)
    }
    if request.operation == .headObject {
      answer.body = .empty
    } else {
      answer.objectBytesAsked = asked
      answer.objectBytesAnswered = answered
    }
    return answer
  }

  private func refusal(_ request: S3Request) -> S3Error {
    switch request.head.method {
    case .GET, .HEAD: .notImplemented(request.rawQuery.isEmpty ? "GET" : "?\(request.rawQuery)")
    default: .methodNotAllowed(request.head.method.rawValue)
    }
  }

  private static func names(_ list: [Substring], eTag: String) -> Bool {
    list.contains { $0 == "*" || $0 == eTag || "\"\($0)\"" == eTag }
  }
}

/// The Content-Range of a 206.
struct ContentRange: CustomStringConvertible, Sendable {
  let bytes: Range<Int>
  let objectSizeInBytes: Int

  var description: String {
    "bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)/\(objectSizeInBytes)"
  }
}
