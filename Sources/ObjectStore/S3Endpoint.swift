// Where requests go, and how an object's place there is written.
//
// What is signed and what is sent must be the same bytes, and S3, unlike other services, neither
// normalises a path nor encodes it twice: `a//b` and `a/../b` are keys like any other. So the path
// is encoded once, here, and serves as the canonical URI and in the URL. The HTTP client must send
// it as it is (CURLOPT_PATH_AS_IS).

public import AWSCredentials
import PrintableText

/// The address of a store.
public struct S3Endpoint: Sendable, Hashable, CustomStringConvertible {
  private enum Addressing: Hashable {
    /// The bucket is part of the host name, as AWS requires.
    case virtualHosted
    /// The bucket is the path's first part, as servers with a single host name require.
    case path
  }

  private let service: ServiceEndpoint
  private let addressing: Addressing

  /// AWS's endpoint in a region.
  public init(region: String) throws(S3EndpointError) {
    guard Region.isValid(region) else {
      throw S3EndpointError(
        text: region, found: "is not a region", next: "Set --region to one such as eu-west-1.")
    }
    service = ServiceEndpoint(service: "s3", region: region)
    addressing = .virtualHosted
  }

  /// The address configured for a store other than AWS, in the order of AWS's own tools: the flag's
  /// value, else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's address for S3, or the
  /// profile's `endpoint_url`. Empty values count as absent; with
  /// AWS_IGNORE_CONFIGURED_ENDPOINT_URLS only the flag counts.
  ///
  /// - Throws: the errors of reading the profile's settings (`SharedFiles.s3EndpointURL`).
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

  /// A custom endpoint: `http` or `https`, a host, and optionally a port and a path before the
  /// bucket.
  public init(url: String) throws(S3EndpointError) {
    do throws(MalformedEndpoint) {
      service = try ServiceEndpoint(url: url)
    } catch {
      throw S3EndpointError(
        text: url, found: error.problem,
        next: "Set --endpoint-url, or AWS_ENDPOINT_URL, to http://host:port or https://host.")
    }
    addressing = .path
  }

  /// The target of a request for an object, or for a bucket if the key is empty.
  public func target(
    bucket: String, key: String = "", query: [QueryItem] = []
  ) -> RequestTarget {
    let key = key.percentEncoded(keepingSlashes: true)
    // A bucket with dots would not match AWS's certificate for *.s3.REGION.amazonaws.com.
    if addressing == .virtualHosted, (3...63).contains(bucket.utf8.count), bucket.isHostLabel {
      return service.target(
        host: "\(bucket).\(service.authority)", path: "/\(key)", query: query)
    }
    let bucket = bucket.percentEncoded(keepingSlashes: false)
    return service.target(path: "/\(bucket)/\(key)", query: query)
  }

  /// The endpoint for a bucket in another region: AWS has one for each region. Any other store has
  /// one address, and no response makes us send a signed request elsewhere.
  func endpoint(inRegion region: String) -> S3Endpoint {
    guard addressing == .virtualHosted,
      service.authority.hasSuffix(".\(Region.domain(of: region))"),
      let other = try? S3Endpoint(region: region)
    else { return self }
    return other
  }

  public var description: String { service.description }
}

/// An endpoint or region that cannot be used.
public struct S3EndpointError: Error, Sendable, Equatable, CustomStringConvertible {
  public let text: String
  let found: String
  let next: String

  public var description: String { "'\(printable(text, limit: 200))' \(found). \(next)" }
}
