import HTTPTransfer
import PrintableText
import XMLFields

/// Temporary credentials of a role, from AWS's security token service. Source: "AssumeRole" and
/// "AssumeRoleWithWebIdentity" in the AWS Security Token Service API Reference.
struct RoleRequest {
  private static let source = "the security token service"

  let sources: CredentialSources
  let region: String
  let role: String
  /// The session's name, which AWS's logs show.
  var sessionName: String?
  var externalID: String?
  var durationInSeconds: String?

  /// Assumes the role with `credentials`, which sign the request.
  func assume(with credentials: Credentials) throws(CredentialsError) -> Credentials {
    var items = parameters("AssumeRole")
    if let externalID { items.append(QueryItem("ExternalId", externalID)) }
    let target = try endpoint.target(query: items)
    let signed = RequestSigner(service: "sts").headers(
      signing: "GET", target, credentials: credentials, region: region,
      secondsSinceEpoch: sources.secondsSinceEpoch())
    return try send(HTTPRequest(url: target.url, headers: signed, mayUseProxy: true))
  }

  /// Assumes the role with a web identity token, which names the identity.
  func assume(withToken token: String) throws(CredentialsError) -> Credentials {
    // A token belongs in a body, because URLs are written to logs.
    let items = parameters("AssumeRoleWithWebIdentity") + [QueryItem("WebIdentityToken", token)]
    let target = try endpoint.target()
    return try send(
      HTTPRequest(
        method: "POST", url: target.url, body: QueryItem.encoded(items), mayUseProxy: true))
  }

  private func parameters(_ action: String) -> [QueryItem] {
    var items = [
      QueryItem("Action", action), QueryItem("Version", "2011-06-15"), QueryItem("RoleArn", role),
      QueryItem("RoleSessionName", sessionName ?? "inventoryfs"),
    ]
    if let durationInSeconds { items.append(QueryItem("DurationSeconds", durationInSeconds)) }
    return items
  }

  private var endpoint: ServiceEndpoint {
    get throws(CredentialsError) {
      guard Region.isValid(region) else {
        throw .failed(
          source: Self.source, problem: "'\(printable(region, limit: 64))' is not a region",
          advice: "Set AWS_REGION, or the profile's region, to one such as eu-west-1.",
          isTemporary: false)
      }
      guard let url = sources.variable("AWS_ENDPOINT_URL_STS") else {
        return ServiceEndpoint(service: "sts", region: region)
      }
      do throws(MalformedEndpoint) {
        return try ServiceEndpoint(url: url)
      } catch {
        throw .failed(
          source: Self.source,
          problem: "AWS_ENDPOINT_URL_STS '\(printable(url, limit: 200))' \(error.problem)",
          advice: "Set the variable to https://host, or unset it.", isTemporary: false)
      }
    }
  }

  private func send(_ request: HTTPRequest) throws(CredentialsError) -> Credentials {
    let source = "\(Self.source), asked for role \(printable(role, limit: 200))"
    let answer = try sources.answer(from: source, request)
    guard answer.status == 200 else { throw .refused(source, answer) }
    let fields = XMLFields(parsing: answer.body, within: "Credentials")
    func field(_ name: String) -> (String, String?) { (name, fields?[name]) }
    let expiration = fields?["Expiration"].flatMap {
      Credentials.secondsSinceEpoch(iso8601: $0)
    }
    guard expiration != nil,
      let found = try Credentials(
        from: source, accessKeyID: field("AccessKeyId"),
        secretAccessKey: field("SecretAccessKey"), sessionToken: field("SessionToken"),
        expiration: expiration)
    else {
      throw .failed(
        source: source, problem: "its response has no credentials",
        advice: "Check AWS_ENDPOINT_URL_STS, and that no proxy alters responses.",
        isTemporary: false)
    }
    return found
  }
}
