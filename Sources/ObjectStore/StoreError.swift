// What can go wrong in talking to a store, in the words of whoever has to mend it.
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
  /// What was asked for.
  public let object: S3Location
  /// The HTTP status; nil if there was no answer.
  public let httpStatus: Int?
  /// The store's own word for it, such as "AccessDenied".
  public let code: String?
  /// The store's explanation.
  public let message: String?
  /// For the store's support.
  public let requestID: String?

  public init(
    _ kind: Kind, object: S3Location, httpStatus: Int? = nil, code: String? = nil,
    message: String? = nil, requestID: String? = nil
  ) {
    self.kind = kind
    self.object = object
    self.httpStatus = httpStatus
    self.code = code
    self.message = message
    self.requestID = requestID
  }

  public enum Kind: Sendable, Equatable {
    case accessDenied
    case expiredToken
    case noSuchKey
    case noSuchBucket
    /// `expected` is the bucket's region, if the store says it.
    case wrongRegion(expected: String?)
    /// The object is not the version that If-Match named.
    case preconditionFailed
    /// The range lies outside the object, whose length is given if the store says it.
    case rangeNotSatisfiable(objectSizeInBytes: UInt64?)
    /// The object is not as long as the manifest says.
    case wrongSize(expectedInBytes: UInt64, foundInBytes: UInt64)
    /// The store does not know the access key, or the secret is not that key's.
    case invalidCredentials
    /// No credentials could be had, so nothing was sent.
    case noCredentials(CredentialsError)
    /// The clocks differ by more than 15 minutes; `storeTime` is the store's, in its notation.
    case clockSkew(storeTime: String?)
    /// The object is in an archive and has to be restored first.
    case archived
    case throttled(retryAfterInSeconds: Int?)
    /// The store's own failure, or its impatience: a status from 500, or 408.
    case serverError
    /// No connection, or one that broke; with the HTTP client's text.
    case connection(ConnectionProblem, text: String)
    /// An answer that cannot be right, and what is wrong with it.
    case malformedAnswer(String)
    /// More bytes than the asker is ready to take.
    case tooLarge(limitInBytes: UInt64)
    /// Any other status.
    case refused
    /// Nobody waits for the answer any more.
    case cancelled
  }

  public typealias ConnectionProblem = HTTPTransfer.ConnectionProblem

  /// Whether the same request may succeed a little later, without anybody doing anything.
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
  /// Reads an answer that is not a success.
  ///
  /// - Parameter body: the answer's body, or its beginning; empty for HEAD.
  public static func answer(to object: S3Location, head: ResponseHead, body: [UInt8]) -> StoreError
  {
    let details = S3ErrorBody(parsing: body)
    return StoreError(
      kind(of: head, details), object: object, httpStatus: head.status, code: details?.code,
      message: (details?.message ?? beginning(of: body)).flatMap {
        repeatsRequest($0) ? nil : $0
      },
      requestID: details?.requestID ?? head.requestID)
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
    // S3 answers this with 400, where the request came too slowly.
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
    case 501, 505: .refused  // It will not learn to.
    case 408, 500...599: .serverError
    case 300...: .refused
    default: .malformedAnswer("status \(head.status), where a success or a refusal was expected")
    }
  }

  private static func objectSize(_ head: ResponseHead) -> UInt64? {
    head.contentRange?.totalSizeInBytes
  }

  /// Retry-After is a number of seconds, or a date, which is compared with the answer's own: only
  /// the store's clock counts.
  private static func retryAfter(_ head: ResponseHead) -> Int? {
    guard let text = head.retryAfter else { return nil }
    if let seconds = UInt64(decimalDigits: text.utf8) { return Int(clamping: seconds) }
    guard let then = HTTPDate(parsing: text), let now = head.date.flatMap({ HTTPDate(parsing: $0) })
    else { return nil }
    return Int(clamping: max(0, then.secondsSinceEpoch - now.secondsSinceEpoch))
  }

  /// Whether a server says what it was sent, as some do that look into a problem: the token is then
  /// a part of it.
  private static func repeatsRequest(_ text: String) -> Bool {
    let text = text.lowercased()
    return ["security-token", "authorization", "aws4-hmac"].contains { text.contains($0) }
  }

  /// What an answer that is not S3's says, such as a proxy's page.
  private static func beginning(of body: [UInt8]) -> String? {
    let text = String(decoding: body.prefix(160), as: UTF8.self).trimmedOfSpaces
    return text.isEmpty ? nil : printable(text, limit: 120)
  }
}

extension StoreError: CustomStringConvertible {
  /// The object, what happened, what the store said, and what to do next, on one line.
  public var description: String {
    let (problem, advice) = problemAndAdvice
    return "\(object): \(problem)\(answer). \(advice)"
  }

  /// What the store answered, in brackets; empty if it did not.
  private var answer: String {
    var parts = httpStatus.map { ["HTTP \($0)"] } ?? []
    if let code { parts.append(printable(code, limit: 64)) }
    if let message { parts.append("\"\(printable(message, limit: 300))\"") }
    if let requestID { parts.append("request \(printable(requestID, limit: 64))") }
    return parts.isEmpty ? "" : " (\(parts.joined(separator: ", ")))"
  }

  private var problemAndAdvice: (String, String) {
    let bucket = printable(object.bucket, limit: 255)
    switch kind {
    case .accessDenied:
      return (
        "access denied",
        "The credentials need s3:GetObject on it, and kms:Decrypt if it is encrypted with a key of KMS; "
          + "without s3:ListBucket, S3 also answers so if there is no such key."
      )
    case .expiredToken:
      return (
        "the session token has expired", "Renew the credentials, for example with 'aws sso login'."
      )
    case .noSuchKey:
      return (
        "there is no such object",
        "Check bucket and key, for example with 'aws s3 ls \(object)'; it may also have been deleted."
      )
    case .noSuchBucket:
      return (
        "there is no bucket '\(bucket)'",
        "Check its name, and --endpoint-url if the store is not AWS; --bucket overrides the manifest's."
      )
    case .wrongRegion(let expected?):
      let region = printable(expected, limit: 64)
      return ("bucket '\(bucket)' is in region \(region)", "Use --region \(region).")
    case .wrongRegion(nil):
      return (
        "bucket '\(bucket)' is in another region or at another endpoint",
        "Name its region with --region, or its endpoint with --endpoint-url."
      )
    case .preconditionFailed:
      return (
        "it was overwritten after it was first read",
        "Its versions are never mixed: close it and open it again to read the new one."
      )
    case .rangeNotSatisfiable(let size):
      let length = size.map { "has only \($0) bytes" } ?? "is shorter than expected"
      return (
        "it \(length)", "It was overwritten, or the manifest is not its own: check the manifest."
      )
    case .wrongSize(let expected, let found):
      return (
        "the manifest says \(expected) bytes, the object has \(found)",
        "It is not the object that the inventory was made of: it was overwritten, or the manifest is not its own."
      )
    case .invalidCredentials:
      return (
        "the store does not accept the credentials",
        "Check access key, secret and session token, and that they belong to this store."
      )
    case .noCredentials(let error):
      return ("the request cannot be signed", "\(error)")
    case .clockSkew(let storeTime):
      let time = storeTime.map { ", which says \(printable($0, limit: 64))," } ?? ""
      return (
        "this machine's clock and the store's\(time) differ by more than 15 minutes",
        "Set this machine's clock, for example with NTP."
      )
    case .archived:
      return ("it is archived", "Restore it first, for example with 'aws s3api restore-object'.")
    case .throttled(let seconds):
      let wait = seconds.map { " and asks to wait \($0) s" } ?? ""
      return ("the store asks for fewer requests\(wait)", "Lower --max-connections if it goes on.")
    case .serverError:
      return ("the store failed", "Try again; if it goes on, ask whoever runs the store.")
    case .connection(let problem, let text):
      let (meaning, advice) = Self.meaning(of: problem)
      return ("\(meaning): \(printable(text, limit: 300))", advice)
    case .malformedAnswer(let what):
      return (
        "the store's answer cannot be right: \(printable(what, limit: 300))",
        "Check that --endpoint-url names an S3 server and that no proxy alters its answers."
      )
    case .tooLarge(let limit):
      return (
        "it is larger than the \(limit) bytes allowed for it", "Check that it is the right object."
      )
    case .refused:
      return (
        "the store refused the request",
        "Check bucket, key, --region and --endpoint-url against what the store says."
      )
    case .cancelled:
      return ("the request was cancelled", "Nothing is to be done.")
    }
  }

  private static func meaning(of problem: ConnectionProblem) -> (String, String) {
    switch problem {
    case .unknownHost:
      return (
        "the store's host is unknown", "Check --endpoint-url or --region, and the name server."
      )
    case .refused:
      return (
        "the store cannot be reached or refused the connection",
        "Check that it runs at --endpoint-url, and the network."
      )
    case .timeout:
      return ("the store does not answer in time", "Check the network, firewalls and proxies.")
    case .handshake:
      return (
        "the TLS handshake with the store broke off",
        "Try again; if it goes on, check that --endpoint-url speaks https, the network and proxies."
      )
    case .tls:
      return (
        "no secure connection to the store",
        "Check its certificate and this machine's certificate authorities and clock."
      )
    case .broken:
      return ("the connection to the store broke", "Try again; if it goes on, check the network.")
    }
  }
}
