import HTTPTransfer
import Locks
import PrintableText

/// The role of the EC2 instance that this process runs on, from its metadata service.
///
/// Only version 2 of the service is used, which requires a token with each request. Source: "Access
/// instance metadata for an EC2 instance" and "Retrieve security credentials" in the Amazon EC2
/// User Guide; the variables are those of the AWS SDKs and Tools Reference Guide ("IMDS credential
/// provider").
public final class InstanceCredentials: CredentialsProvider {
  private let sources: CredentialSources
  /// Whether the service is known to exist: its silence is then a failure.
  private let isThere: Lock<Bool>

  public convenience init(_ sources: CredentialSources) { self.init(sources, isThere: false) }

  /// - Parameter isThere: whether the configuration says that the service exists.
  init(_ sources: CredentialSources, isThere: Bool) {
    self.sources = sources
    self.isThere = Lock(isThere)
  }

  private var isDisabled: Bool {
    sources.variable("AWS_EC2_METADATA_DISABLED")?.lowercased() == "true"
  }

  private var endpoint: String {
    if let given = sources.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
      return given.hasSuffix("/") ? String(given.dropLast()) : given
    }
    let isIPv6 = sources.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")?.lowercased() == "ipv6"
    return isIPv6 ? "http://[fd00:ec2::254]" : "http://169.254.169.254"
  }

  /// The timeout, which defaults to that of AWS's command line: outside of EC2 no service responds.
  private var timeout: Duration {
    let seconds = sources.variable("AWS_METADATA_SERVICE_TIMEOUT").flatMap { Double($0) } ?? 1
    return .seconds(min(max(0.1, seconds), 60))
  }

  private var source: String {
    "the metadata service of this EC2 instance (\(printable(endpoint, limit: 100)))"
  }

  public var whereItLooks: String {
    isDisabled
      ? "not the EC2 instance's role, because of AWS_EC2_METADATA_DISABLED"
      : "the role of the EC2 instance (no response at \(printable(endpoint, limit: 100)), or no role)"
  }

  public func credentials() throws(CredentialsError) -> Credentials? {
    guard !isDisabled, let token = try token() else { return nil }
    let folder = "\(endpoint)/latest/meta-data/iam/security-credentials/"
    let headers = [HTTPHeader("X-aws-ec2-metadata-token", token)]
    let roles = try sources.answer(
      from: source, HTTPRequest(url: folder, headers: headers, timeout: timeout))
    // The instance has no role.
    if roles.status == 404 { return nil }
    let role = String(decoding: roles.body.prefix { $0 != 10 }, as: UTF8.self).trimmedOfSpaces
    guard roles.status == 200, !role.isEmpty else { throw .refused(source, roles) }
    return try sources.credentials(
      from: source,
      HTTPRequest(
        url: folder + role.percentEncoded(keepingSlashes: false), headers: headers, timeout: timeout
      ))
  }

  /// The token for further requests; nil where the service does not exist.
  private func token() throws(CredentialsError) -> String? {
    let request = HTTPRequest(
      method: "PUT", url: "\(endpoint)/latest/api/token",
      headers: [HTTPHeader("X-aws-ec2-metadata-token-ttl-seconds", "60")], timeout: timeout)
    let answer: HTTPRequest.Response
    do throws(CredentialsError) {
      answer = try sources.answer(from: source, request)
    } catch {
      if isThere.withLock({ $0 }) { throw error }
      return nil
    }
    let token = String(decoding: answer.body, as: UTF8.self).trimmedOfSpaces
    guard answer.status == 200, !token.isEmpty,
      token.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
    else {
      // The service is switched off, or another one listens there.
      if [403, 404, 405].contains(answer.status) { return nil }
      throw .refused(source, answer)
    }
    isThere.withLock { $0 = true }
    return token
  }
}
