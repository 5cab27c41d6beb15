// Signature Version 4 in the form that S3 requires.
//
// A signature is an HMAC over a digest of the request, keyed by a chain of four HMACs over secret,
// day, region and service. The chain is the same for every request of a day, so it is kept; what is
// left per request is two SHA-256 over some hundred bytes and one HMAC. Bodies are never signed: a
// mount only reads, and a GET's body is empty.
//
// Source: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)" in
// the Amazon S3 API Reference; the tests hold its examples.

import Digests
public import HTTPTransfer
import Locks

/// Signs requests. It may be called from any thread.
public final class RequestSigner: Sendable {
  private let service: String
  private let lastKey = Lock<DatedKey?>(nil)

  public init(service: String = "s3") {
    self.service = service
  }

  /// The body's digest in the signature: SHA-256 of an empty body.
  private static let digestOfBody =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

  /// The headers to add to a request: `x-amz-date`, `x-amz-content-sha256`, for temporary
  /// credentials `x-amz-security-token`, and `Authorization`.
  ///
  /// - Parameters:
  ///   - headers: further headers to sign, such as Range; the host comes from `target`. A header
  ///     that the HTTP client or a proxy may alter should not be among them.
  ///   - secondsSinceEpoch: the time of the request, which must be within 15 minutes of the store's
  ///     clock.
  public func headers(
    signing method: String, _ target: RequestTarget, headers: [HTTPHeader] = [],
    credentials: Credentials, region: String, secondsSinceEpoch: Int64
  ) -> [HTTPHeader] {
    let time = SigningTime(secondsSinceEpoch: secondsSinceEpoch)
    var added = [
      HTTPHeader("x-amz-content-sha256", Self.digestOfBody),
      HTTPHeader("x-amz-date", time.timestamp),
    ]
    if let token = credentials.sessionToken {
      added.append(HTTPHeader("x-amz-security-token", token))
    }
    let signed = (headers + added + [HTTPHeader("host", target.host)])
      .map { (name: $0.name.lowercased(), value: $0.value.withSpacesCollapsed) }
      .sorted { $0.name < $1.name }
    let names = signed.map(\.name).joined(separator: ";")

    var request = SHA256()
    request.update("\(method)\n\(target.canonicalURI)\n\(target.canonicalQuery)\n")
    for header in signed { request.update("\(header.name):\(header.value)\n") }
    request.update("\n\(names)\n\(Self.digestOfBody)")

    let scope = "\(time.day)/\(region)/\(service)/aws4_request"
    let digest = Hexadecimal.text(request.digest())
    let text = "AWS4-HMAC-SHA256\n\(time.timestamp)\n\(scope)\n\(digest)"
    let key = signingKey(for: credentials.secretAccessKey, day: time.day, region: region)
    let signature = Hexadecimal.text(hmacSHA256(text.utf8, key: key))
    added.append(
      HTTPHeader(
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
          + "SignedHeaders=\(names), Signature=\(signature)"))
    return added
  }

  private func signingKey(for secret: String, day: String, region: String) -> [UInt8] {
    lastKey.withLock { last in
      if let last, last.secret == secret, last.day == day, last.region == region { return last.key }
      let key = Self.derivedKey(secret: secret, day: day, region: region, service: service)
      last = DatedKey(secret: secret, day: day, region: region, key: key)
      return key
    }
  }

  /// The chain of HMACs from a secret to the key of a day.
  package static func derivedKey(
    secret: String, day: String, region: String, service: String
  ) -> [UInt8] {
    [day, region, service, "aws4_request"].reduce(Array("AWS4\(secret)".utf8)) { key, text in
      hmacSHA256(text.utf8, key: key)
    }
  }

  private struct DatedKey {
    let secret: String
    let day: String
    let region: String
    let key: [UInt8]
  }
}

extension String {
  /// The text trimmed, with each run of inner spaces replaced by one space, as the signature
  /// requires for a header's value.
  fileprivate var withSpacesCollapsed: String {
    guard hasPrefix(" ") || hasSuffix(" ") || utf8.containsDoubleSpace else { return self }
    return split(separator: " ").joined(separator: " ")
  }
}

extension String.UTF8View {
  fileprivate var containsDoubleSpace: Bool {
    let space = UInt8(ascii: " ")
    return zip(self, dropFirst()).contains { $0 == space && $1 == space }
  }
}
