// The failures of requests to a store, described for the person who has to mend them.
//
// Stores report the same mistake in different ways: AWS sends a code in XML, but none to HEAD;
// others send a status and no body. So the kind is decided in one place, by the code where there is
// one and by the status otherwise, and everything above (retry, errno, exit message) looks at the
// kind alone.

public import AWSCredentials
public import HTTPTransfer
import PrintableText

/// A request to a store that failed.
public struct StoreError: Error, Sendable, Equatable {
  public let kind: Kind
  /// The object that was requested.
  public let object: S3Location
  /// The HTTP status; nil if there was no response.
  public let httpStatus: Int?
  /// The store's error code, such as "AccessDenied".
  public let code: String?
  /// The store's error message.
  public let message: String?
  /// The request's ID, which the store's support needs.
  public let requestID: String?
  /// The AWS command line with the options that reach the same store, for the advice to people.
  public let awsCommand: String

  public init(
    _ kind: Kind, object: S3Location, httpStatus: Int? = nil, code: String? = nil,
    message: String? = nil, requestID: String? = nil, awsCommand: String = "aws"
  ) {
    self.kind = kind
    self.object = object
    self.httpStatus = httpStatus
    self.code = code
    self.message = message
    self.requestID = requestID
    self.awsCommand = awsCommand
  }

  public enum Kind: Sendable, Equatable {
    /// The credentials do not allow access to the object, or, without permission to list the
    /// bucket, the object may not exist.
    case accessDenied
    /// The session token was valid, and is not any more.
    case expiredToken
    /// The object does not exist.
    case noSuchKey
    /// The bucket does not exist.
    case noSuchBucket
    /// The bucket is in another region; `expected` is that region, if the store says it.
    case wrongRegion(expected: String?)
    /// The object is not the version that If-Match named.
    case preconditionFailed
    /// The range lies outside the object, whose length is given if the store says it.
    case rangeNotSatisfiable(objectSizeInBytes: UInt64?)
    /// The object is not as long as the manifest says.
    case wrongSize(expectedInBytes: UInt64, foundInBytes: UInt64)
    /// The store does not know the access key, or the secret is not that key's.
    case invalidCredentials
    /// No credentials could be obtained, so no request was sent.
    case noCredentials(CredentialsError)
    /// The clocks differ by more than 15 minutes; `storeTime` is the store's time, in its notation.
    case clockSkew(storeTime: String?)
    /// The object is in an archive and has to be restored first.
    case archived
    /// The store asks for fewer requests, and to wait for this time if it says one.
    case throttled(retryAfterInSeconds: Int?)
    /// The store failed or gave up waiting for the request: a status from 500, or 408.
    case serverError
    /// The connection failed or broke; `text` is the HTTP client's explanation.
    case connection(ConnectionProblem, text: String)
    /// The response is invalid; the text says what was expected and what was found.
    case malformedAnswer(String)
    /// The object has more bytes than the caller accepts.
    case tooLarge(limitInBytes: UInt64)
    /// The store responded with any other status.
    case refused
    /// The request was cancelled, because its response is no longer needed.
    case cancelled
  }

  public typealias ConnectionProblem = HTTPTransfer.ConnectionProblem

  /// Whether the same request may succeed a little later without any action.
  public var isRetryable: Bool {
    switch kind {
    case .throttled, .serverError: true
    case .connection(let problem, _): problem != .tls
    case .noCredentials(let error): error.isTemporary
    default: false
    }
  }
}

extension StoreError {
  /// Reads a response that is not a success.
  ///
  /// - Parameters:
  ///   - body: the response's body, or its beginning; empty for HEAD.
  ///   - awsCommand: the AWS command line with the options that reach this store.
  public static func answer(
    to object: S3Location, head: ResponseHead, body: [UInt8], awsCommand: String = "aws"
  ) -> StoreError {
    let details = S3ErrorBody(parsing: body)
    return StoreError(
      kind(of: head, details), object: object, httpStatus: head.status, code: details?.code,
      message: (details?.message ?? beginning(of: body)).flatMap {
        repeatsRequest($0) ? nil : $0
      },
      requestID: details?.requestID ?? head.requestID, awsCommand: awsCommand)
  }

  private static func kind(of head: ResponseHead, _ details: S3ErrorBody?) -> Kind {
    let region = details?.region ?? head.bucketRegion
    switch details?.code {
    case "AccessDenied", "AllAccessDisabled", "AccountProblem": return .accessDenied
    case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired":
      return .expiredToken
    case "NoSuchKey", "NoSuchVersion": return .noSuchKey
    case "NoSuchBucket": return .noSuchBucket
    case "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
      return .wrongRegion(expected: region)
    case "AuthorizationHeaderMalformed" where region != nil: return .wrongRegion(expected: region)
    case "PreconditionFailed": return .preconditionFailed
    case "InvalidRange": return .rangeNotSatisfiable(objectSizeInBytes: objectSize(head))
    case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity":
      return .invalidCredentials
    case "RequestTimeTooSkewed": return .clockSkew(storeTime: head.date)
    case "InvalidObjectState": return .archived
    case "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests":
      return .throttled(retryAfterInSeconds: retryAfter(head))
    // S3 responds so, with 400, when the request arrives too slowly.
    case "RequestTimeout": return .serverError
    default: return kind(ofStatus: head)
    }
  }

  private static func kind(ofStatus head: ResponseHead) -> Kind {
    switch head.status {
    case 301, 302, 307, 308: .wrongRegion(expected: head.bucketRegion)
    case 401, 403: .accessDenied
    case 404: .noSuchKey
    case 412: .preconditionFailed
    case 416: .rangeNotSatisfiable(objectSizeInBytes: objectSize(head))
    case 429, 503: .throttled(retryAfterInSeconds: retryAfter(head))
    case 501, 505: .refused  // The store does not support the request, so a retry cannot succeed.
    case 408, 500...599: .serverError
    case 300...: .refused
    default: .malformedAnswer("expected a success or a refusal, found status \(head.status)")
    }
  }

  private static func objectSize(_ head: ResponseHead) -> UInt64? {
    head.contentRange?.totalSizeInBytes
  }

  /// Reads Retry-After, a number of seconds or a date. A date is compared with the response's own
  /// date: only the store's clock counts.
  private static func retryAfter(_ head: ResponseHead) -> Int? {
    guard let text = head.retryAfter else { return nil }
    if let seconds = UInt64(decimalDigits: text.utf8) { return Int(clamping: seconds) }
    guard let then = HTTPDate(parsing: text), let now = head.date.flatMap({ HTTPDate(parsing: $0) })
    else { return nil }
    return Int(clamping: max(0, then.secondsSinceEpoch - now.secondsSinceEpoch))
  }

  /// Whether the text repeats the request, as some servers do for debugging: it then contains the
  /// session token.
  private static func repeatsRequest(_ text: String) -> Bool {
    let text = text.lowercased()
    return ["security-token", "authorization", "aws4-hmac"].contains { text.contains($0) }
  }

  /// The text of a response that is not S3's, such as a proxy's page.
  private static func beginning(of body: [UInt8]) -> String? {
    let text = String(decoding: body.prefix(160), as: UTF8.self).trimmedOfSpaces
    return text.isEmpty ? nil : printable(text, limit: 120)
  }
}

extension StoreError: CustomStringConvertible {
  /// The object, what happened, what the store said, and what to do next, on one line.
  public var description: String {
    "\(object): \(text)"
  }

  /// The same without the object.
  public var text: String {
    let (problem, advice) = problemAndAdvice
    return "\(problem)\(answer)\(advice.map { ". \($0)" } ?? "")"
  }

  /// The store's response, in brackets; empty if there was none.
  private var answer: String {
    var parts = httpStatus.map { ["HTTP \($0)"] } ?? []
    if let code { parts.append(printable(code, limit: 64)) }
    if let message { parts.append("\"\(printable(message, limit: 300))\"") }
    if let requestID { parts.append("request \(printable(requestID, limit: 64))") }
    return parts.isEmpty ? "" : " (\(parts.joined(separator: ", ")))"
  }

  /// The advice is nil where the problem's text ends with its own.
  private var problemAndAdvice: (String, String?) {
    let bucket = printable(object.bucket, limit: 255)
    switch kind {
    case .accessDenied:
      return (
        "access denied",
        "The credentials need s3:GetObject on this object, and kms:Decrypt if it is encrypted with a KMS key; "
          + "without s3:ListBucket, S3 also denies access to keys that do not exist."
      )
    case .expiredToken:
      return (
        "the session token has expired", "Renew the credentials, for example with 'aws sso login'."
      )
    case .noSuchKey:
      return (
        "the object does not exist",
        "The object may have been deleted. Check bucket and key, for example with: \(awsCommand) s3 ls \(shellWord("\(object)"))"
      )
    case .noSuchBucket:
      return (
        "bucket '\(bucket)' does not exist",
        "Check its name, and --endpoint-url if the store is not AWS; set --bucket to override the manifest's destinationBucket."
      )
    case .wrongRegion(let expected?):
      let region = printable(expected, limit: 64)
      return ("bucket '\(bucket)' is in region \(region)", "Set --region \(region).")
    case .wrongRegion(nil):
      return (
        "bucket '\(bucket)' is in another region or at another endpoint",
        "Set --region to its region, or --endpoint-url to its endpoint."
      )
    case .preconditionFailed:
      return (
        "the object was overwritten after it was first read",
        "Versions are never mixed: close the file and open it again to read the new version."
      )
    case .rangeNotSatisfiable(let size):
      let length = size.map { "has only \($0) bytes" } ?? "is shorter than expected"
      return (
        "the object \(length)",
        "It was overwritten, or the manifest is of another inventory: check the manifest."
      )
    case .wrongSize(let expected, let found):
      return (
        "the manifest says \(expected) bytes, the object has \(found)",
        "It was overwritten after the inventory was made, or the manifest is of another inventory: check the manifest."
      )
    case .invalidCredentials:
      return (
        "the store does not accept the credentials",
        "Check the access key, the secret key and the session token, and that they belong to this store."
      )
    case .noCredentials(let error):
      return ("the request cannot be signed: \(error)", nil)
    case .clockSkew(let storeTime):
      let time = storeTime.map { ", which says \(printable($0, limit: 64))," } ?? ""
      return (
        "this machine's clock and the store's\(time) differ by more than 15 minutes",
        "Set this machine's clock, for example with NTP."
      )
    case .archived:
      return (
        "the object is archived", "Restore it first, for example with 'aws s3api restore-object'."
      )
    case .throttled(let seconds):
      let wait = seconds.map { " and asks to wait \($0) s" } ?? ""
      return (
        "the store asks for fewer requests\(wait)", "If this continues, lower --max-connections."
      )
    case .serverError:
      return ("the store failed", "Try again; if this continues, ask the store's operator.")
    case .connection(let problem, let text):
      // A response that has begun was in time.
      let (meaning, advice) =
        problem == .timeout && httpStatus != nil
        ? ("the store's response came too slowly or stopped", Self.meaning(of: problem).1)
        : Self.meaning(of: problem)
      return ("\(meaning): \(printable(text, limit: 300))", advice)
    case .malformedAnswer(let what):
      return (
        "the store's response is invalid: \(printable(what, limit: 300))",
        "Check that --endpoint-url names an S3 server and that no proxy alters its responses."
      )
    case .tooLarge(let limit):
      return (
        "the object is larger than the \(limit) bytes allowed for it",
        "Check that the URL names the right object."
      )
    case .refused:
      return (
        "the store refused the request",
        "Check bucket, key, --region and --endpoint-url against the store's message."
      )
    case .cancelled:
      return ("the request was cancelled", "No action needed.")
    }
  }

  private static func meaning(of problem: ConnectionProblem) -> (String, String) {
    switch problem {
    case .unknownHost:
      return (
        "the store's host name cannot be resolved",
        "Check --endpoint-url or --region, and the name server."
      )
    case .refused:
      return (
        "the store cannot be reached or refused the connection",
        "Check that the store is running at --endpoint-url, and check the network."
      )
    case .timeout:
      return ("the store did not respond in time", "Check the network, firewalls and proxies.")
    case .handshake:
      return (
        "the TLS handshake with the store failed",
        "Try again; if this continues, check that the server at --endpoint-url speaks https, and check the network and proxies."
      )
    case .tls:
      return (
        "a secure connection to the store cannot be made",
        "Check the store's certificate, and this machine's certificate authorities and clock."
      )
    case .noDescriptors:
      return (
        "no connection to the store could be opened",
        "A lower --max-connections needs fewer descriptors, too."
      )
    case .broken:
      return (
        "the connection to the store broke", "Try again; if this continues, check the network."
      )
    }
  }
}
