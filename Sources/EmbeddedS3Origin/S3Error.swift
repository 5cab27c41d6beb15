import NIOHTTP1

/// An error as S3 reports it: a status, a code, a message for people, and a few facts.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
struct S3Error: Error {
  var status: Int
  var code: String
  var message: String
  /// Further elements of the XML, in their order.
  var details: [(name: String, value: String)] = []
  var headers: [(name: String, value: String)] = []

  func xml(resource: String, requestID: String) -> String {
    var xml = XMLText()
    xml.element("Error") { xml in
      xml.element("Code", code)
      xml.element("Message", message)
      for (name, value) in details { xml.element(name, value) }
      xml.element("Resource", resource)
      xml.element("RequestId", requestID)
      xml.element("HostId", "embedded-s3-origin")
    }
    return xml.text
  }
}

extension S3Error {
  static func noSuchKey(_ key: String) -> S3Error {
    S3Error(
      status: 404, code: "NoSuchKey", message: "The specified key does not exist.",
      details: [("Key", key)])
  }

  static func noSuchBucket(_ bucket: String) -> S3Error {
    S3Error(
      status: 404, code: "NoSuchBucket", message: "The specified bucket does not exist",
      details: [("BucketName", bucket)])
  }

  static func accessDenied(_ message: String = "Access Denied") -> S3Error {
    S3Error(status: 403, code: "AccessDenied", message: message)
  }

  static func invalidAccessKeyID(_ accessKey: String) -> S3Error {
    S3Error(
      status: 403, code: "InvalidAccessKeyId",
      message: "The AWS Access Key Id you provided does not exist in our records.",
      details: [("AWSAccessKeyId", accessKey)])
  }

  static func requestTimeTooSkewed(requestTime: String, serverTime: Timestamp) -> S3Error {
    S3Error(
      status: 403, code: "RequestTimeTooSkewed",
      message: "The difference between the request time and the current time is too large.",
      details: [
        ("RequestTime", requestTime), ("ServerTime", serverTime.iso8601),
        ("MaxAllowedSkewMilliseconds", "900000"),
      ])
  }

  static let expiredToken = S3Error(
    status: 400, code: "ExpiredToken", message: "The provided token has expired.")

  static let invalidToken = S3Error(
    status: 400, code: "InvalidToken",
    message: "The provided token is malformed or otherwise invalid.")

  static let preconditionFailed = S3Error(
    status: 412, code: "PreconditionFailed",
    message: "At least one of the pre-conditions you specified did not hold",
    details: [("Condition", "If-Match")])

  static func invalidRange(_ range: String, objectSizeInBytes: Int) -> S3Error {
    S3Error(
      status: 416, code: "InvalidRange", message: "The requested range is not satisfiable",
      details: [("RangeRequested", range), ("ActualObjectSize", "\(objectSizeInBytes)")],
      headers: [("Content-Range", "bytes */\(objectSizeInBytes)")])
  }

  static func authorizationHeaderMalformed(
    _ message: String, region: String? = nil
  ) -> S3Error {
    S3Error(
      status: 400, code: "AuthorizationHeaderMalformed",
      message: "The authorization header is malformed; \(message)",
      details: region.map { [("Region", $0)] } ?? [])
  }

  static func wrongRegion(asked: String, expected: String) -> S3Error {
    authorizationHeaderMalformed(
      "the region '\(asked)' is wrong; expecting '\(expected)'", region: expected)
  }

  static func permanentRedirect(bucket: String, region: String) -> S3Error {
    let endpoint = "\(bucket).s3.\(region).amazonaws.com"
    return S3Error(
      status: 301, code: "PermanentRedirect",
      message: "The bucket you are attempting to access must be addressed using the specified "
        + "endpoint. Please send all future requests to this endpoint.",
      details: [("Endpoint", endpoint), ("Bucket", bucket)],
      headers: [("x-amz-bucket-region", region)])
  }

  static func methodNotAllowed(_ method: String) -> S3Error {
    S3Error(
      status: 405, code: "MethodNotAllowed",
      message: "The specified method is not allowed against this resource.",
      details: [("Method", method)], headers: [("Allow", "GET, HEAD")])
  }

  static func notImplemented(_ what: String) -> S3Error {
    S3Error(
      status: 501, code: "NotImplemented",
      message: "A header or query you provided implies functionality that is not implemented: "
        + what)
  }

  static func invalidArgument(_ name: String, value: String, message: String) -> S3Error {
    S3Error(
      status: 400, code: "InvalidArgument", message: message,
      details: [("ArgumentName", name), ("ArgumentValue", value)])
  }

  static func invalidURI(_ uri: String) -> S3Error {
    S3Error(
      status: 400, code: "InvalidURI", message: "Couldn't parse the specified URI.",
      details: [("URI", uri)])
  }

  static func internalError(_ message: String) -> S3Error {
    S3Error(status: 500, code: "InternalError", message: message)
  }
}
