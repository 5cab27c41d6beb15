import PrintableText

/// The role that the environment names together with a token for it, as EKS does for service
/// accounts: AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE.
public struct WebIdentityCredentials: CredentialsProvider {
  private let sources: CredentialSources

  public init(_ sources: CredentialSources) { self.sources = sources }

  public var whereItLooks: String { "the variables AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE" }

  public func credentials() throws(CredentialsError) -> Credentials? {
    guard let file = sources.variable("AWS_WEB_IDENTITY_TOKEN_FILE") else { return nil }
    guard let role = sources.variable("AWS_ROLE_ARN") else {
      throw .failed(
        source: "the environment",
        problem: "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not",
        advice: "Set both or neither.", isTemporary: false)
    }
    let request = RoleRequest(
      sources: sources, region: sources.region(of: nil), role: role,
      sessionName: sources.variable("AWS_ROLE_SESSION_NAME"))
    return try request.assume(withToken: sources.webIdentityToken(file))
  }
}

extension CredentialSources {
  /// The token in a file, which is read each time, because it is replaced.
  func webIdentityToken(_ path: String) throws(CredentialsError) -> String {
    guard let token = try sharedFiles.read(path)?.trimmedOfSpaces, !token.isEmpty else {
      throw .failed(
        source: "web identity token file \(printable(path, limit: 1024))",
        problem: "it does not exist, or is empty",
        advice: "Set AWS_WEB_IDENTITY_TOKEN_FILE or web_identity_token_file to another.",
        isTemporary: false)
    }
    return token
  }
}
