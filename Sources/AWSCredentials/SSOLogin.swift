import Digests
import FoundationEssentials
import HTTPTransfer
import PrintableText

/// Temporary credentials of a role that a user who has logged in with `aws sso login` may assume:
/// the login's token is in a file of the AWS command line. Source: "IAM Identity Center credential
/// provider" in the AWS SDKs and Tools Reference Guide, "GetRoleCredentials" in the IAM Identity
/// Center Portal API Reference.
struct SSOLogin {
  let sources: CredentialSources
  let profile: String
  /// The session's name or its start URL, whose SHA-1 names the token's file.
  let cacheKey: String
  let region: String
  let accountID: String
  let role: String

  private var source: String { "the login of profile '\(printable(profile, limit: 64))'" }

  private struct Token: Decodable {
    let accessToken: String
    let expiresAt: String
  }

  private struct Answer: Decodable {
    struct RoleCredentials: Decodable {
      let accessKeyId: String
      let secretAccessKey: String
      let sessionToken: String
      /// Milliseconds since 1970-01-01T00:00:00Z.
      let expiration: Int64
    }
    let roleCredentials: RoleCredentials
  }

  func credentials() throws(CredentialsError) -> Credentials {
    let query = QueryItem.encoded([
      QueryItem("role_name", role), QueryItem("account_id", accountID),
    ])
    guard Region.isValid(region) else {
      throw .failed(
        source: source, problem: "sso_region '\(printable(region, limit: 64))' is not a region",
        advice: "Set up the profile with 'aws configure sso'.", isTemporary: false)
    }
    var url =
      sources.variable("AWS_ENDPOINT_URL_SSO")
      ?? "https://portal.sso.\(region).\(Region.domain(of: region))"
    if url.hasSuffix("/") { url.removeLast() }
    let answer = try sources.answer(
      from: source,
      HTTPRequest(
        url: "\(url)/federation/credentials?\(query)",
        headers: [HTTPHeader("x-amz-sso_bearer_token", try token())], mayUseProxy: true))
    if answer.status == 401 { throw loginNeeded("the login's token is no longer accepted") }
    guard answer.status == 200 else { throw .refused(source, answer) }
    guard
      let answer = try? JSONDecoder().decode(Answer.self, from: Data(answer.body)).roleCredentials,
      let found = try Credentials(
        from: source, accessKeyID: ("accessKeyId", answer.accessKeyId),
        secretAccessKey: ("secretAccessKey", answer.secretAccessKey),
        sessionToken: ("sessionToken", answer.sessionToken),
        expiration: answer.expiration / 1000)
    else {
      throw .failed(
        source: source, problem: "the portal's response has no credentials",
        advice: "Check the profile's sso settings, and that no proxy alters responses.",
        isTemporary: false)
    }
    return found
  }

  /// The login's token; its file is read each time, because logging in replaces it.
  private func token() throws(CredentialsError) -> String {
    let name = Hexadecimal.text(SHA1.digest(of: cacheKey))
    guard let folder = sources.sharedFiles.homeFolder,
      let text = try sources.sharedFiles.read("\(folder)/.aws/sso/cache/\(name).json")
    else { throw loginNeeded("no login was found") }
    guard let token = try? JSONDecoder().decode(Token.self, from: Data(text.utf8)),
      token.accessToken.utf8.allSatisfy({ (0x21...0x7e).contains($0) }),
      let expiration = Credentials.secondsSinceEpoch(iso8601: token.expiresAt)
    else { throw loginNeeded("its file \(name).json has no valid token and expiration time") }
    guard expiration > sources.secondsSinceEpoch() else {
      throw loginNeeded("it has expired")
    }
    return token.accessToken
  }

  private func loginNeeded(_ problem: String) -> CredentialsError {
    .failed(
      source: source, problem: problem,
      advice: "Run 'aws sso login --profile \(printable(profile, limit: 64))'.", isTemporary: false)
  }
}
