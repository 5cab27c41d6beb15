// Where requests go, and how an object's place there is written.
//
// What is signed and what is sent must be the same bytes, and S3, unlike other services, neither normalises
// a path nor encodes it twice: `a//b` and `a/../b` are keys like any other. So the path is encoded once, here,
// and serves as the canonical URI and in the URL. The HTTP client must send it as it is (CURLOPT_PATH_AS_IS).

import Digests
import PrintableText

/// The address of a store.
public struct S3Endpoint: Sendable, Hashable, CustomStringConvertible {
  private enum Addressing: Hashable {
    /// The bucket as part of the host, as AWS wants it.
    case virtualHosted
    /// The bucket as the path's first part, which servers on one host's name need.
    case path
  }

  private let scheme: String
  /// Host and, if it is not the scheme's own, port.
  private let authority: String
  /// Empty, or a path without a slash at its end.
  private let basePath: String
  private let addressing: Addressing

  /// AWS's endpoint in a region.
  public init(region: String) throws(S3EndpointError) {
    guard Region.isValid(region) else {
      throw S3EndpointError(
        text: region, found: "is not a region", next: "Name one such as eu-west-1 with --region.")
    }
    scheme = "https"
    authority = "s3.\(region).\(Region.domain(of: region))"
    basePath = ""
    addressing = .virtualHosted
  }

  /// The address that was configured for other stores than AWS, in the order of AWS's own tools: what the flag says, else
  /// AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's for S3, the profile's `endpoint_url`. Empty ones count as absent;
  /// AWS_IGNORE_CONFIGURED_ENDPOINT_URLS leaves the flag alone.
  ///
  /// - Throws: what reading the profile's settings throws (`SharedFiles.s3EndpointURL`).
  public static func configuredURL(
    explicit: String?, environment: [String: String], profile: SharedFiles.Profile?,
    in files: SharedFiles
  ) throws(CredentialsError) -> String? {
    if let explicit { return explicit }
    guard environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]?.lowercased() != "true" else {
      return nil
    }
    for variable in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
      if let url = environment[variable]?.trimmedOfSpaces, !url.isEmpty { return url }
    }
    guard let profile else { return nil }
    return try files.s3EndpointURL(of: profile) ?? profile["endpoint_url"]
  }

  /// A custom endpoint: `http` or `https`, a host, and optionally a port and a path before the bucket.
  public init(url: String) throws(S3EndpointError) {
    func error(_ found: String) -> S3EndpointError {
      S3EndpointError(
        text: url, found: found,
        next: "Write --endpoint-url, or AWS_ENDPOINT_URL, as http://host:port or https://host.")
    }
    let parts = url.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
    let scheme = parts[0].lowercased()
    guard parts.count >= 3, parts[1].isEmpty, scheme == "http:" || scheme == "https:" else {
      throw error("does not start with http:// or https://")
    }
    self.scheme = String(scheme.dropLast())
    guard let authority = Self.authority(parts[2].lowercased(), scheme: self.scheme) else {
      throw error("has '\(printable(parts[2], limit: 80))' where a host and a port should be")
    }
    self.authority = authority
    var path = parts.count > 3 ? parts[3] : ""
    guard path.utf8.allSatisfy({ $0.isUnreserved || "/%".utf8.contains($0) }) else {
      throw error("has a query or an unusual character after the host")
    }
    while path.hasSuffix("/") { path.removeLast() }
    basePath = path.isEmpty ? "" : "/\(path)"
    addressing = .path
  }

  /// `host`, `host:port` or `[address]:port`, without a port that goes without saying; nil for anything else.
  private static func authority(_ text: String, scheme: String) -> String? {
    var host = Substring(text)
    var port: Substring?
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]") else { return nil }
      host = text[...end]
      guard host.utf8.count > 2,
        host.dropFirst().dropLast().utf8.allSatisfy({ $0.isHexDigit || ":.".utf8.contains($0) })
      else { return nil }
      let rest = text[text.index(after: end)...]
      guard rest.isEmpty || rest.hasPrefix(":") else { return nil }
      port = rest.isEmpty ? nil : rest.dropFirst()
    } else {
      if let colon = text.firstIndex(of: ":") {
        host = text[..<colon]
        port = text[text.index(after: colon)...]
      }
      guard !host.isEmpty, host.utf8.allSatisfy({ $0.isUnreserved && $0 != UInt8(ascii: "~") })
      else {
        return nil
      }
    }
    guard let port else { return String(host) }
    guard port.utf8.allSatisfy(\.isDigit), let number = UInt16(port), number > 0 else { return nil }
    let goesWithoutSaying = number == (scheme == "https" ? 443 : 80)
    return goesWithoutSaying ? String(host) : "\(host):\(number)"
  }

  /// The target of a request for an object, or for a bucket if the key is empty.
  public func target(
    bucket: String, key: String = "", query: [QueryItem] = []
  ) -> RequestTarget {
    let key = key.percentEncoded(keepingSlashes: true)
    let canonicalQuery = Self.query(query)
    // A bucket with dots would not match AWS's certificate for *.s3.REGION.amazonaws.com.
    if addressing == .virtualHosted, (3...63).contains(bucket.utf8.count), Self.isLabel(bucket) {
      return RequestTarget(
        scheme: scheme, host: "\(bucket).\(authority)", canonicalURI: "/\(key)",
        canonicalQuery: canonicalQuery)
    }
    let bucket = bucket.percentEncoded(keepingSlashes: false)
    return RequestTarget(
      scheme: scheme, host: authority, canonicalURI: "\(basePath)/\(bucket)/\(key)",
      canonicalQuery: canonicalQuery)
  }

  /// The target of a request to the service itself, for those that have neither buckets nor objects.
  func target(query: [QueryItem]) -> RequestTarget {
    RequestTarget(
      scheme: scheme, host: authority, canonicalURI: "\(basePath)/",
      canonicalQuery: Self.query(query))
  }

  /// Sorted and encoded, as the signature wants it; also what a form's body is.
  static func query(_ items: [QueryItem]) -> String {
    items.map { item in
      (
        item.name.percentEncoded(keepingSlashes: false),
        item.value.percentEncoded(keepingSlashes: false)
      )
    }
    .sorted { $0 < $1 }
    .map { "\($0)=\($1)" }.joined(separator: "&")
  }

  /// Lower-case letters, digits and inner hyphens, at most 63: one part of a host's name.
  static func isLabel(_ text: String) -> Bool {
    let hyphen = UInt8(ascii: "-")
    return (1...63).contains(text.utf8.count) && text.utf8.first != hyphen
      && text.utf8.last != hyphen
      && text.utf8.allSatisfy {
        $0.isDigit || $0 == hyphen || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
      }
  }

  /// The endpoint for a bucket in another region: AWS has one for each. Any other store has one address, and no word of
  /// an answer makes us send a signed request elsewhere.
  func endpoint(inRegion region: String) -> S3Endpoint {
    guard addressing == .virtualHosted, authority.hasSuffix(".\(Region.domain(of: region))"),
      let other = try? S3Endpoint(region: region)
    else { return self }
    return other
  }

  public var description: String { "\(scheme)://\(authority)\(basePath)" }
}

/// A parameter of a request's query, not yet encoded.
public struct QueryItem: Sendable, Hashable {
  public let name: String
  public let value: String

  public init(_ name: String, _ value: String = "") {
    self.name = name
    self.value = value
  }
}

/// Where one request goes, in the forms that the HTTP client and the signature need. All are ASCII.
public struct RequestTarget: Sendable, Hashable {
  public let scheme: String
  /// The Host header's value.
  public let host: String
  /// The path as signed and sent.
  public let canonicalURI: String
  /// The query as signed and sent, sorted; empty if there is none.
  public let canonicalQuery: String

  public init(scheme: String, host: String, canonicalURI: String, canonicalQuery: String = "") {
    self.scheme = scheme
    self.host = host
    self.canonicalURI = canonicalURI
    self.canonicalQuery = canonicalQuery
  }

  public var url: String {
    "\(scheme)://\(host)\(canonicalURI)\(canonicalQuery.isEmpty ? "" : "?")\(canonicalQuery)"
  }
}

/// An endpoint or region that cannot be used.
public struct S3EndpointError: Error, Sendable, Equatable, CustomStringConvertible {
  public let text: String
  let found: String
  let next: String

  public var description: String { "'\(printable(text, limit: 200))' \(found). \(next)" }
}

extension String {
  /// Each UTF-8 byte but the unreserved ones of RFC 3986 as %XX, in capitals, as the signature wants it
  /// ("UriEncode" in Amazon's description of Signature Version 4).
  func percentEncoded(keepingSlashes: Bool) -> String {
    if utf8.allSatisfy({ $0.isUnreserved || (keepingSlashes && $0 == UInt8(ascii: "/")) }) {
      return self
    }
    var encoded: [UInt8] = []
    encoded.reserveCapacity(utf8.count * 2)
    for byte in utf8 {
      if byte.isUnreserved || (keepingSlashes && byte == UInt8(ascii: "/")) {
        encoded.append(byte)
      } else {
        encoded.append(UInt8(ascii: "%"))
        encoded.append(Hexadecimal.digit(byte >> 4, uppercase: true))
        encoded.append(Hexadecimal.digit(byte & 15, uppercase: true))
      }
    }
    return String(decoding: encoded, as: UTF8.self)
  }
}

extension UInt8 {
  var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }

  fileprivate var isHexDigit: Bool {
    isDigit || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(self | 0x20)
  }

  /// A letter, a digit, or one of - . _ ~
  fileprivate var isUnreserved: Bool {
    isDigit || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20)
      || self == UInt8(ascii: "-") || self == UInt8(ascii: ".") || self == UInt8(ascii: "_")
      || self == UInt8(ascii: "~")
  }
}
