import FoundationEssentials
import HTTPTransfer
import PrintableText

/// The role of the container that this process runs in, on ECS, Fargate or EKS with pod identities.
/// The environment names a service that gives its credentials. Source: "Container credential
/// provider" in the AWS SDKs and Tools Reference Guide.
public struct ContainerCredentials: CredentialsProvider {
  private static let relative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
  private static let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
  private static let tokenFile = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
  private static let token = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
  private static let source = "the container's credentials service"

  private let sources: CredentialSources

  public init(_ sources: CredentialSources) { self.sources = sources }

  public var whereItLooks: String { "the container's role (\(Self.relative), \(Self.full))" }

  public func credentials() throws(CredentialsError) -> Credentials? {
    guard let url = try url() else { return nil }
    var headers = [HTTPHeader("Accept", "application/json")]
    if let token = try authorization() { headers.append(HTTPHeader("Authorization", token)) }
    return try sources.credentials(from: Self.source, HTTPRequest(url: url, headers: headers))
  }

  private func url() throws(CredentialsError) -> String? {
    if let path = sources.variable(Self.relative) {
      guard path.hasPrefix("/") else { throw error(Self.relative, "does not start with a slash") }
      return "http://169.254.170.2\(path)"
    }
    guard let url = sources.variable(Self.full) else { return nil }
    guard let parts = URLComponents(string: url), let host = parts.host, !host.isEmpty else {
      throw error(Self.full, "is not a URL")
    }
    guard parts.scheme == "https" || parts.scheme == "http" && Self.isNear(host) else {
      throw error(
        Self.full,
        "is neither an https URL nor an http URL of this machine or its link-local network")
    }
    return url
  }

  /// Whether no other machine can listen in: the host is this machine, or one of the addresses of
  /// ECS and EKS on its link.
  private static func isNear(_ host: String) -> Bool {
    let host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    return ["localhost", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"].contains(host)
      || host.hasPrefix("127.") && host.utf8.allSatisfy { $0.isDigit || $0 == UInt8(ascii: ".") }
  }

  /// The authorization token; its file is read each time, because it is replaced.
  private func authorization() throws(CredentialsError) -> String? {
    var token = sources.variable(Self.token)
    var name = Self.token
    if let path = sources.variable(Self.tokenFile) {
      name = Self.tokenFile
      guard let text = try sources.sharedFiles.read(path) else {
        throw error(name, "names a file that does not exist")
      }
      token = text.trimmedOfSpaces
    }
    guard let token else { return nil }
    guard token.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) else {
      throw error(name, "holds a character that a token cannot have")
    }
    return token
  }

  private func error(_ variable: String, _ problem: String) -> CredentialsError {
    .failed(
      source: Self.source, problem: "\(variable) \(problem)",
      advice: "Correct the variable, or unset it.",
      isTemporary: false)
  }
}
