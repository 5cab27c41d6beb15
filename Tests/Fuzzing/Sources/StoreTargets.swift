import AWSCredentials
import HTTPTransfer
import ObjectStore

/// The body of a refusal, after a byte that chooses the status.
@Sendable func fuzzS3Error(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let statuses = [200, 206, 301, 307, 400, 401, 403, 404, 408, 412, 416, 429, 500, 501, 503]
  var head = ResponseHead()
  head.take(line: Array("HTTP/1.1 \(statuses[Int(first) % statuses.count]) X".utf8))
  let object = S3Location(bucket: "bucket", key: "key")
  checkMessage(StoreError.answer(to: object, head: head, body: Array(bytes.dropFirst())))
}

/// Status lines and headers, one a line, as libcurl hands them over.
@Sendable func fuzzResponseHead(_ bytes: [UInt8]) {
  var head = ResponseHead()
  for line in bytes.split(separator: 0x0a, omittingEmptySubsequences: false) {
    head.take(line: line)
  }
  if let range = head.contentRange { checkRange(range) }
  let object = S3Location(bucket: "bucket", key: "key")
  checkMessage(StoreError.answer(to: object, head: head, body: []))
}

@Sendable func fuzzContentRange(_ bytes: [UInt8]) {
  if let range = ContentRange(parsing: String(decoding: bytes, as: UTF8.self)) { checkRange(range) }
}

private func checkRange(_ range: ContentRange) {
  if let bytes = range.range {
    check(!bytes.isEmpty && bytes.upperBound <= range.totalSizeInBytes, "\(range)")
  }
  check(ContentRange(parsing: range.description) == range, "\(range) reads differently")
}

/// `credentials`, a zero byte, and `config`; the profile is the default one or `p`.
@Sendable func fuzzSharedFiles(_ bytes: [UInt8]) {
  let texts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    .map { String(decoding: $0, as: UTF8.self) }
  let files = SharedFiles(environment: ["HOME": "/home"]) { path in
    path.hasSuffix("config") ? (texts.count > 1 ? texts[1] : nil) : texts.first
  }
  let sources = nowhere(files)
  for profile in [nil, "p"] {
    do {
      _ = try ProfileCredentials(profileNamed: profile, sources).credentials()
      if let profile = try files.profile(named: profile) {
        _ = try S3Endpoint.configuredURL(
          explicit: nil, environment: [:], profile: profile, in: files)
      }
    } catch {
      checkMessage(error)
    }
  }
}

/// What a service or a command answers that is to give credentials, after a byte that chooses the
/// status.
@Sendable func fuzzCredentialsAnswer(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let answer = HTTPRequest.Response(
    status: [200, 200, 403, 500][Int(first) % 4], body: Array(bytes.dropFirst()))
  let environment = [
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "AWS_ROLE_ARN": "r", "HOME": "/home",
  ]
  let login = #"{"accessToken":"t","expiresAt":"2100-01-01T00:00:00Z"}"#
  let config = """
    [default]
    credential_process = p
    [profile p]
    sso_start_url = u
    sso_region = r
    sso_account_id = 1
    sso_role_name = r
    """
  let sources = CredentialSources(
    environment: environment,
    sharedFiles: SharedFiles(environment: environment) {
      $0.hasSuffix("config") ? config : $0.hasSuffix("credentials") ? nil : login
    },
    send: { _ throws(HTTPRequest.Failure) in answer },
    run: { _, _ throws(CommandOutput.Failure) in answer.body })
  let providers: [any CredentialsProvider] = [
    ContainerCredentials(sources), InstanceCredentials(sources), WebIdentityCredentials(sources),
    ProfileCredentials(profileNamed: nil, sources), ProfileCredentials(profileNamed: "p", sources),
  ]
  for provider in providers {
    do {
      guard let found = try provider.credentials() else { continue }
      let fields = [found.accessKeyID, found.secretAccessKey, found.sessionToken ?? "x"]
      check(
        fields.allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy { (0x21...0x7e).contains($0) } },
        "what no header may hold")
    } catch {
      checkMessage(error)
    }
  }
}

/// Neither services nor commands: what is made up is not run.
private func nowhere(_ files: SharedFiles) -> CredentialSources {
  CredentialSources(
    environment: [:], sharedFiles: files,
    send: { _ throws(HTTPRequest.Failure) in HTTPRequest.Response(status: 404, body: []) },
    run: { _, _ throws(CommandOutput.Failure) in [] })
}
