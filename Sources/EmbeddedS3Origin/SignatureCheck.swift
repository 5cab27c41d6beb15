import Digests
import NIOHTTP1

/// Checks Signature Version 4 in the Authorization header, from the request as it was received.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
///
/// It shares nothing with the client that it checks but the digest functions, which are themselves
/// checked against published vectors: what the two agree on is AWS's description.
/// As S3 does, it decodes the path and the query and codes them again, so that a client that
/// escapes otherwise than prescribed fails here as it would there.
struct SignatureCheck: Sendable {
  private static let emptyPayloadHash =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  private static let greatestSkewInSeconds = 15 * 60

  let credentials: [String: OriginCredential]
  let allowsAnonymous: Bool
  let region: String

  func check(_ request: S3Request, now: Timestamp) throws(S3Error) {
    guard !credentials.isEmpty else { return }
    let headers = request.head.headers
    guard let text = headers.first(name: "authorization") else {
      if allowsAnonymous { return }
      throw .accessDenied()
    }
    let authorization = try Authorization(text)
    guard let credential = credentials[authorization.accessKey] else {
      throw .invalidAccessKeyID(authorization.accessKey)
    }
    try checkToken(headers.first(name: "x-amz-security-token"), of: credential, now: now)
    guard authorization.region == region else {
      throw .wrongRegion(asked: authorization.region, expected: region)
    }
    guard authorization.service == "s3" else {
      throw .authorizationHeaderMalformed("incorrect service \"\(authorization.service)\"")
    }

    guard let timeText = headers.first(name: "x-amz-date") ?? headers.first(name: "date"),
      let time = Timestamp(basicFormat: timeText)
    else {
      throw .accessDenied("AWS authentication requires a valid Date or x-amz-date header")
    }
    let (skew, overflow) = time.secondsSince1970.subtractingReportingOverflow(now.secondsSince1970)
    guard !overflow, skew.magnitude <= Self.greatestSkewInSeconds else {
      throw .requestTimeTooSkewed(requestTime: timeText, serverTime: now)
    }
    guard timeText.hasPrefix(authorization.day) else {
      throw .authorizationHeaderMalformed("invalid credential date \"\(authorization.day)\"")
    }

    let unsigned = headers.map { $0.name.lowercased() }.first { name in
      name == "host" || name.hasPrefix("x-amz-")
        ? !authorization.signedHeaders.contains(name) : false
    }
    if let unsigned {
      var error = S3Error.accessDenied(
        "There were headers present in the request which were not signed")
      error.details = [("HeadersNotSigned", unsigned)]
      throw error
    }

    // Reads have no body, so only two hashes can be right. The body of a write is never read: the
    // write is refused once the signature is checked.
    let payloadHash = headers.first(name: "x-amz-content-sha256") ?? Self.emptyPayloadHash
    let isRead = request.head.method == .GET || request.head.method == .HEAD
    guard !isRead || ["UNSIGNED-PAYLOAD", Self.emptyPayloadHash].contains(payloadHash) else {
      throw S3Error(
        status: 400, code: "XAmzContentSHA256Mismatch",
        message: "The provided 'x-amz-content-sha256' header does not match what was computed.",
        details: [
          ("ClientComputedContentSHA256", payloadHash),
          ("S3ComputedContentSHA256", Self.emptyPayloadHash),
        ])
    }

    let canonicalRequest = Self.canonicalRequest(
      request, signedHeaders: authorization.signedHeaders, payloadHash: payloadHash)
    let stringToSign = """
      AWS4-HMAC-SHA256
      \(timeText)
      \(authorization.scope)
      \(Hexadecimal.text(SHA256.digest(of: canonicalRequest)))
      """
    let expected = Self.signature(
      of: stringToSign, secretKey: credential.secretKey, authorization)
    guard authorization.signature == expected else {
      throw S3Error(
        status: 403, code: "SignatureDoesNotMatch",
        message: "The request signature we calculated does not match the signature you provided. "
          + "Check your key and signing method.",
        details: [
          ("AWSAccessKeyId", authorization.accessKey), ("StringToSign", stringToSign),
          ("SignatureProvided", authorization.signature), ("CanonicalRequest", canonicalRequest),
        ])
    }
  }

  private func checkToken(
    _ token: String?, of credential: OriginCredential, now: Timestamp
  ) throws(S3Error) {
    guard token == credential.sessionToken else { throw .invalidToken }
    if let expiresAt = credential.expiresAt, now.secondsSince1970 >= expiresAt {
      throw .expiredToken
    }
  }

  private static func canonicalRequest(
    _ request: S3Request, signedHeaders: [String], payloadHash: String
  ) -> String {
    let path = PercentCoding.decode(request.rawPath) ?? String(request.rawPath)
    let query = request.query
      .map { (PercentCoding.encode($0.name), PercentCoding.encode($0.value)) }
      .sorted { $0 < $1 }
      .map { "\($0.0)=\($0.1)" }
      .joined(separator: "&")
    var lines = [
      request.head.method.rawValue, PercentCoding.encode(path, keepingSlash: true), query,
    ]
    for name in signedHeaders {
      let values = request.head.headers[name].map { value in
        value.split { $0 == " " || $0 == "\t" }.joined(separator: " ")
      }
      lines.append("\(name):\(values.joined(separator: ","))")
    }
    lines += ["", signedHeaders.joined(separator: ";"), payloadHash]
    return lines.joined(separator: "\n")
  }

  private static func signature(
    of stringToSign: String, secretKey: String, _ authorization: Authorization
  ) -> String {
    var key = Array("AWS4\(secretKey)".utf8)
    for part in [authorization.day, authorization.region, authorization.service, "aws4_request"] {
      key = hmacSHA256(part.utf8, key: key)
    }
    return Hexadecimal.text(hmacSHA256(stringToSign.utf8, key: key))
  }
}

/// The Authorization header, taken apart.
private struct Authorization {
  let accessKey: String
  let day: String
  let region: String
  let service: String
  /// The signed headers as listed, which must be in order for the signature to match.
  let signedHeaders: [String]
  let signature: String

  var scope: String { "\(day)/\(region)/\(service)/aws4_request" }

  init(_ header: String) throws(S3Error) {
    let algorithm = "AWS4-HMAC-SHA256"
    guard header.hasPrefix(algorithm) else {
      throw S3Error(
        status: 400, code: "InvalidRequest",
        message: "The authorization mechanism you have provided is not supported. "
          + "Please use \(algorithm).")
    }
    var fields: [Substring: Substring] = [:]
    for field in header.dropFirst(algorithm.count).split(separator: ",") {
      let parts = field.drop { $0 == " " }.split(separator: "=", maxSplits: 1)
      guard parts.count == 2 else { continue }
      fields[parts[0]] = parts[1].prefix { $0 != " " }
    }
    guard let credential = fields["Credential"], let names = fields["SignedHeaders"],
      let signature = fields["Signature"]
    else {
      throw .authorizationHeaderMalformed(
        "Credential, SignedHeaders and Signature are all required")
    }
    // An access key may itself have slashes, so the scope is counted from the end.
    let scope = credential.split(separator: "/", omittingEmptySubsequences: false)
    guard scope.count >= 5, scope.last == "aws4_request" else {
      throw .authorizationHeaderMalformed(
        "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\""
      )
    }
    accessKey = scope[..<(scope.count - 4)].joined(separator: "/")
    day = String(scope[scope.count - 4])
    region = String(scope[scope.count - 3])
    service = String(scope[scope.count - 2])
    signedHeaders = names.split(separator: ";").map { $0.lowercased() }
    self.signature = String(signature)
  }
}
