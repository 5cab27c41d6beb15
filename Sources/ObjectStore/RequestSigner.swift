// Signature Version 4 as S3 wants it.
//
// A signature is an HMAC over a digest of the request, keyed by a chain of four HMACs over secret, day, region
// and service. The chain is the same for every request of a day, so it is kept; what is left per request is
// two SHA-256 over some hundred bytes and one HMAC. Bodies are never signed: a mount only reads, and a GET's
// body is empty.
//
// Source: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)" in the Amazon
// S3 API Reference; the tests hold its examples.

package import Crypto
import Locks
import PrintableText

/// Signs requests. Called from any thread.
public final class RequestSigner: Sendable {
  private let service: String
  private let lastKey = Lock<DatedKey?>(nil)

  public init(service: String = "s3") {
    self.service = service
  }

  /// What the signature says about the body: SHA-256 of nothing.
  private static let digestOfBody =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

  /// The headers to add to a request: `x-amz-date`, `x-amz-content-sha256`, for temporary credentials
  /// `x-amz-security-token`, and `Authorization`.
  ///
  /// - Parameters:
  ///   - headers: what else is to be signed, such as Range; the host comes from `target`. A header that the
  ///     HTTP client or a proxy may alter should not be among them.
  ///   - secondsSinceEpoch: the time of the request, which must be within 15 minutes of the store's clock.
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
    let text = "AWS4-HMAC-SHA256\n\(time.timestamp)\n\(scope)\n\(hex(request.finalize()))"
    let key = signingKey(for: credentials.secretAccessKey, day: time.day, region: region)
    added.append(
      HTTPHeader(
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
          + "SignedHeaders=\(names), Signature=\(hex(authenticate(text, with: key)))"))
    return added
  }

  private func signingKey(for secret: String, day: String, region: String) -> SymmetricKey {
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
  ) -> SymmetricKey {
    [day, region, service, "aws4_request"]
      .reduce(SymmetricKey(data: Array("AWS4\(secret)".utf8))) { key, text in
        SymmetricKey(data: authenticate(text, with: key))
      }
  }

  private struct DatedKey {
    let secret: String
    let day: String
    let region: String
    let key: SymmetricKey
  }
}

/// A header of a request. One that grants access does not show its value when printed.
public struct HTTPHeader: Sendable, Hashable, CustomStringConvertible, CustomReflectable {
  public let name: String
  public let value: String

  public init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }

  public var description: String {
    let secret = [
      "authorization", "x-amz-security-token", "x-amz-sso_bearer_token", "x-aws-ec2-metadata-token",
    ].contains(name.lowercased())
    return "\(name): \(secret ? "redacted" : printable(value, limit: 200))"
  }

  public var customMirror: Mirror { Mirror(self, children: ["header": description]) }
}

/// A moment as the signature writes it, in UTC. By arithmetic: a formatter costs more than the signature.
struct SigningTime {
  /// "20130524"
  let day: String
  /// "20130524T000000Z"
  let timestamp: String

  init(secondsSinceEpoch: Int64) {
    let (days, second) = secondsSinceEpoch.quotientAndRemainderRoundedDown(dividingBy: 86_400)
    // Years begin in March here, so that the leap day is a year's last, and eras have 400 of them.
    let (era, dayOfEra) = (days + 719_468).quotientAndRemainderRoundedDown(dividingBy: 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let dayOfMonth = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    let year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)

    var digits: [UInt8] = []
    digits.reserveCapacity(16)
    func append(_ number: Int64, count: Int) {
      var (number, divisor) = (number, Int64(1))
      for _ in 1..<count { divisor *= 10 }
      for _ in 0..<count {
        digits.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number / divisor % 10))
        number %= divisor
        divisor = max(divisor / 10, 1)
      }
    }
    append(year, count: 4)
    append(month, count: 2)
    append(dayOfMonth, count: 2)
    day = String(decoding: digits, as: UTF8.self)
    digits.append(UInt8(ascii: "T"))
    append(second / 3600, count: 2)
    append(second / 60 % 60, count: 2)
    append(second % 60, count: 2)
    digits.append(UInt8(ascii: "Z"))
    timestamp = String(decoding: digits, as: UTF8.self)
  }
}

extension Int64 {
  fileprivate func quotientAndRemainderRoundedDown(
    dividingBy divisor: Int64
  ) -> (Int64, Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}

private func authenticate(_ text: String, with key: SymmetricKey) -> HMAC<SHA256>.MAC {
  var text = text
  return text.withUTF8 {
    HMAC<SHA256>.authenticationCode(for: UnsafeRawBufferPointer($0), using: key)
  }
}

/// Lower-case hexadecimal digits.
private func hex(_ bytes: some Sequence<UInt8>) -> String {
  String(
    decoding: bytes.flatMap {
      [hexDigit($0 >> 4, uppercase: false), hexDigit($0 & 15, uppercase: false)]
    }, as: UTF8.self)
}

extension SHA256 {
  fileprivate mutating func update(_ text: String) {
    var text = text
    text.withUTF8 { update(bufferPointer: UnsafeRawBufferPointer($0)) }
  }
}

extension String {
  /// Trimmed, and each run of inner spaces made one, as the signature wants a header's value.
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
