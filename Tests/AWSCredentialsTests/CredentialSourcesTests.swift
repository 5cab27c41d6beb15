import Glibc
import HTTPTransfer
import Locks
import Testing

@testable import AWSCredentials

/// Services, commands and files that give credentials, asked as AWS's documentation says.
@Suite(.timeLimit(.minutes(2))) struct CredentialSourcesTests {
  /// Answers by method and address, and keeps what was asked.
  private final class Services: Sendable {
    private let answers: [String: (Int, String)]
    let asked = Lock<[HTTPRequest]>([])

    init(_ answers: [String: (Int, String)]) { self.answers = answers }

    func send(_ request: HTTPRequest) throws(HTTPRequest.Failure) -> HTTPRequest.Response {
      asked.withLock { $0.append(request) }
      guard let (status, body) = answers["\(request.method) \(request.url)"] else {
        throw HTTPRequest.Failure(text: "nobody there")
      }
      return HTTPRequest.Response(status: status, body: Array(body.utf8))
    }

    var requests: [String] { asked.withLock { $0.map { "\($0.method) \($0.url)" } } }
    func headers(_ number: Int) -> [String: String] {
      asked.withLock {
        Dictionary(uniqueKeysWithValues: $0[number].headers.map { ($0.name, $0.value) })
      }
    }
  }

  private static let now: Int64 = 1_700_000_000

  private func sources(
    _ services: Services = Services([:]), environment: [String: String] = [:],
    config: String? = nil, files: [String: String] = [:]
  ) -> CredentialSources {
    var files = files
    files["/home/u/.aws/config"] = config
    let known = files
    let environment = environment.merging(["HOME": "/home/u"]) { first, _ in first }
    return CredentialSources(
      environment: environment,
      sharedFiles: SharedFiles(environment: environment) { known[$0] },
      secondsSinceEpoch: { Self.now }
    ) { request throws(HTTPRequest.Failure) in try services.send(request) }
  }

  private func error(
    _ provider: some CredentialsProvider, at location: SourceLocation = #_sourceLocation
  ) -> String {
    let error = #expect(throws: CredentialsError.self, sourceLocation: location) {
      try provider.credentials()
    }
    return error?.description ?? ""
  }

  private static let json = """
    {"Code":"Success","AccessKeyId":"AK","SecretAccessKey":"SK","Token":"T","Expiration":"2023-11-15T00:13:20Z"}
    """
  private static let found = Credentials(
    accessKeyID: "AK", secretAccessKey: "SK", sessionToken: "T", expiration: now + 7200)

  // MARK: The EC2 instance

  private static let metadata = "http://169.254.169.254/latest"
  private static let roles = "GET \(metadata)/meta-data/iam/security-credentials/"

  @Test("The instance's role is asked for with a token")
  func instance() throws {
    let services = Services([
      "PUT \(Self.metadata)/api/token": (200, "TOKEN"), Self.roles: (200, "my role\n"),
      Self.roles + "my%20role": (200, Self.json),
    ])
    #expect(try InstanceCredentials(sources(services)).credentials() == Self.found)
    #expect(services.headers(0) == ["X-aws-ec2-metadata-token-ttl-seconds": "60"])
    #expect(services.headers(1) == ["X-aws-ec2-metadata-token": "TOKEN"])
    #expect(services.headers(2) == ["X-aws-ec2-metadata-token": "TOKEN"])
    #expect(
      services.asked.withLock { $0.allSatisfy { !$0.mayUseProxy && $0.timeout == .seconds(1) } })
  }

  @Test("Variables switch the instance's service off, or say where it is and how long to wait")
  func instanceVariables() throws {
    let services = Services([:])
    for environment in [
      ["AWS_EC2_METADATA_DISABLED": "TRUE"],
      [
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1/",
        "AWS_METADATA_SERVICE_TIMEOUT": "3",
      ],
      ["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"],
    ] {
      #expect(
        try InstanceCredentials(sources(services, environment: environment)).credentials() == nil)
    }
    #expect(
      services.requests == [
        "PUT http://127.0.0.1:1/latest/api/token", "PUT http://[fd00:ec2::254]/latest/api/token",
      ])
    #expect(services.asked.withLock { $0[0].timeout } == .seconds(3))
  }

  @Test("Elsewhere than on EC2, and on an instance without a role, there are none")
  func noInstance() throws {
    #expect(try InstanceCredentials(sources()).credentials() == nil)
    for status in [403, 404, 405] {
      let services = Services(["PUT \(Self.metadata)/api/token": (status, "")])
      #expect(try InstanceCredentials(sources(services)).credentials() == nil)
    }
    let services = Services(["PUT \(Self.metadata)/api/token": (200, "T"), Self.roles: (404, "")])
    #expect(try InstanceCredentials(sources(services)).credentials() == nil)
  }

  @Test("A service that has answered once and is silent later has failed, for now")
  func silentInstance() throws {
    let isSilent = Lock(false)
    let answers = Services([
      "PUT \(Self.metadata)/api/token": (200, "T"), Self.roles: (200, "r"),
      Self.roles + "r": (200, Self.json),
    ])
    let silentLater = CredentialSources(
      environment: [:], sharedFiles: SharedFiles(environment: [:]) { _ in nil }
    ) { request throws(HTTPRequest.Failure) in
      if isSilent.withLock({ $0 }) { throw HTTPRequest.Failure(text: "timeout") }
      return try answers.send(request)
    }
    let instance = InstanceCredentials(silentLater)
    #expect(try instance.credentials() == Self.found)
    isSilent.withLock { $0 = true }
    let error = #expect(throws: CredentialsError.self) { try instance.credentials() }
    #expect(error?.isTemporary == true && error?.description.contains("timeout") == true)
  }

  @Test(
    "Answers that are none say so, and show nothing of themselves",
    arguments: [
      "", "SECRET", "{}", #"{"AccessKeyId":"AK"}"#, #"{"AccessKeyId":7}"#,
      #"{"AccessKeyId":"AK","SecretAccessKey":"SECRET\r\nX: y"}"#,
      #"{"AccessKeyId":"AK","SecretAccessKey":"SECRET","Expiration":"soon"}"#,
      #"{"Code":"AssumeRoleUnauthorizedAccess","Message":"m"}"#,
    ])
  func badJSON(json: String) {
    let error = #expect(throws: CredentialsError.self) {
      try Credentials(from: "the service", json: Array(json.utf8))
    }
    let text = error?.description ?? ""
    #expect(text.contains("the service") && !text.contains("SECRET"), "\(text)")
    #expect(error?.isTemporary == false)
  }

  @Test(
    "Times of ISO 8601",
    arguments: [
      ("2023-11-14T22:13:20Z", now), ("2023-11-14T22:13:20.900Z", now),
      ("2023-11-14T23:13:20+01:00", now), ("tomorrow", nil), ("", nil),
    ] as [(String, Int64?)])
  func times(text: String, seconds: Int64?) {
    #expect(Credentials.secondsSinceEpoch(iso8601: text) == seconds)
  }

  @Test("A service that a profile names must be there: its silence has failed, for now")
  func silentSource() {
    let config = "[default]\nrole_arn = r\ncredential_source = Ec2InstanceMetadata"
    let error = #expect(throws: CredentialsError.self) {
      try ProfileCredentials(profileNamed: nil, sources(config: config)).credentials()
    }
    #expect(error?.isTemporary == true)
    #expect(error?.description.contains("metadata service of this EC2 instance") == true)
  }

  // MARK: The container

  @Test("The container's service is asked with the token of its file, read anew each time")
  func container() throws {
    let services = Services(["GET http://169.254.170.23/v1/credentials": (200, Self.json)])
    let environment = [
      "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
      "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/run/token",
    ]
    let files = ["/run/token": "TOKEN\n"]
    #expect(
      try ContainerCredentials(sources(services, environment: environment, files: files))
        .credentials() == Self.found)
    #expect(services.headers(0)["Authorization"] == "TOKEN")
    let missing = error(ContainerCredentials(sources(services, environment: environment)))
    #expect(
      missing.contains("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names a file that does not exist"))
  }

  @Test("ECS gives the path alone, and its token in a variable")
  func ecs() throws {
    let services = Services(["GET http://169.254.170.2/v2/x": (200, Self.json)])
    let environment = [
      "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x",
      "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic x",
      "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.2/other",
    ]
    let found = try ContainerCredentials(sources(services, environment: environment)).credentials()
    #expect(found == Self.found)
    #expect(services.headers(0)["Authorization"] == "Basic x")
    #expect(try ContainerCredentials(sources()).credentials() == nil)
  }

  @Test(
    "A token goes to this machine, its link or by TLS, and nowhere else",
    arguments: [
      ("http://127.0.0.1:80/x", true), ("http://[::1]/x", true), ("http://localhost/x", true),
      ("http://169.254.170.2/x", true), ("http://[fd00:ec2::23]/x", true),
      ("https://example.com/x", true),
      ("http://example.com/x", false), ("http://127.0.0.1.example.com/x", false),
      ("http://127.example.com/x", false), ("http://localhost.example.com/", false),
      ("http://169.254.170.2@example.com/", false), ("http://10.0.0.1/", false),
      ("ftp://127.0.0.1/", false),
      ("x", false), ("http://", false), ("//127.0.0.1/", false),
    ])
  func containerHosts(url: String, isAllowed: Bool) {
    let services = Services(["GET \(url)": (200, Self.json)])
    let container = ContainerCredentials(
      sources(services, environment: ["AWS_CONTAINER_CREDENTIALS_FULL_URI": url]))
    if isAllowed {
      #expect(throws: Never.self) { try container.credentials() }
    } else {
      #expect(error(container).contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
      #expect(services.requests.isEmpty)
    }
  }

  @Test(
    "A service that refuses has refused; one that fails may be asked again",
    arguments: [403, 500, 429])
  func refusals(status: Int) throws {
    let services = Services(["GET http://127.0.0.1/": (status, "SECRET")])
    let environment = ["AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/"]
    let error = #expect(throws: CredentialsError.self) {
      try ContainerCredentials(sources(services, environment: environment)).credentials()
    }
    #expect(error?.isTemporary == (status != 403))
    #expect(error?.description.contains("HTTP \(status)") == true)
    #expect(error?.description.contains("SECRET") == false)
  }

  // MARK: Commands

  private func process(_ command: String) -> ProfileCredentials {
    ProfileCredentials(
      profileNamed: nil, sources(config: "[default]\ncredential_process = \(command)"))
  }

  @Test("A command prints credentials, with quotes as a shell has them")
  func command() throws {
    let json = Self.json.replacing("\"Code\":\"Success\"", with: "\"Version\":1")
      .replacing("\"Token\"", with: "\"SessionToken\"")
    #expect(try process("printf %s '\(json)'").credentials() == Self.found)
  }

  @Test(
    "A command that fails, prints nothing of use, or without end, is an error that does not show it",
    arguments: [
      ("echo hello; exit 3", "exit status 3"), ("echo SECRET", "not JSON"),
      ("kill -9 $$", "signal 9"),
      (#"echo '{"Version":2,"AccessKeyId":"AK","SecretAccessKey":"SECRET"}'"#, "Version is not 1"),
      ("yes SECRET", "more than 65536 bytes"),
    ])
  func badCommand(command: String, problem: String) {
    let text = error(process(command))
    #expect(text.contains(problem) && text.contains("profile 'default'"), "\(text)")
    #expect(!text.contains("SECRET") && !text.contains("hello"))
  }

  @Test(
    "A command that takes too long is ended, with what it has started",
    arguments: [
      "sleep 1000 & echo $! >&9; sleep 1000", "sleep 1000 & echo $! >&9; exec sleep 1000 >&2",
    ])
  func slowCommand(command: String) throws {
    let file = "/tmp/inventoryfs-test-\(UInt64.random(in: 0 ... .max))"
    defer { unlink(file) }
    let error = #expect(throws: CommandOutput.Failure.self) {
      try CommandOutput.run("exec 9>\(file); \(command)", timeout: .seconds(5), in: "/")
    }
    #expect(
      error?.problem == "the command took too long and was killed"
        || error?.problem == "the command was ended by signal 9")
    let text = try #require(try SharedFiles.readFile(file)).trimmedOfSpaces
    let pid = try #require(pid_t(text))
    // A zombie until init has seen it.
    for _ in 0..<6000 where kill(pid, 0) == 0 && !isZombie(pid) { usleep(10_000) }
    #expect(kill(pid, 0) != 0 || isZombie(pid))
  }

  private func isZombie(_ pid: pid_t) -> Bool {
    (try? SharedFiles.readFile("/proc/\(pid)/stat"))?.contains(") Z ") == true
  }

  @Test("A command has none of our descriptors, and its input is empty")
  func descriptors() throws {
    let output = try CommandOutput.run(
      "cat; ls /proc/self/fd | tr '\\n' ' '", timeout: .seconds(60), in: "/")
    // The last is that of the folder that ls reads.
    #expect(String(decoding: output, as: UTF8.self) == "0 1 2 3 ")
  }

  @Test("A command runs where the mount was started, which a background process has left")
  func folder() throws {
    let pwd = { try CommandOutput.run("pwd", timeout: .seconds(60), in: $0) }
    #expect(String(decoding: try pwd("/usr/bin"), as: UTF8.self) == "/usr/bin\n")
    #expect(throws: Never.self) { try pwd("/does not exist") }
  }

  // MARK: Roles

  private static let sts = """
    <AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
    <AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials><AccessKeyId>AK</AccessKeyId>
    <SecretAccessKey>SK</SecretAccessKey><SessionToken>T</SessionToken>
    <Expiration>2023-11-15T00:13:20Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>
    """

  @Test("A profile's role is taken with the keys of another, in the profile's region")
  func role() throws {
    let url =
      "https://sts.eu-west-1.amazonaws.com/?Action=AssumeRole&DurationSeconds=900&ExternalId=x%2Fy"
      + "&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=me&Version=2011-06-15"
    let services = Services(["GET \(url)": (200, Self.sts)])
    let config = """
      [profile r]
      role_arn = arn:aws:iam::1:role/r
      source_profile = keys
      role_session_name = me
      external_id = x/y
      duration_seconds = 900
      region = eu-west-1
      [profile keys]
      aws_access_key_id = AKID
      aws_secret_access_key = secret
      """
    let profile = ProfileCredentials(profileNamed: "r", sources(services, config: config))
    #expect(try profile.credentials() == Self.found)
    let authorization = services.headers(0)["Authorization"] ?? ""
    #expect(authorization.contains("Credential=AKID/20231114/eu-west-1/sts/aws4_request"))
    #expect(services.asked.withLock { $0[0].mayUseProxy })
  }

  @Test(
    "Roles are taken one after the other; a profile may be the source of its own; loops are errors")
  func chains() throws {
    let config = """
      [profile own]
      role_arn = own
      source_profile = own
      aws_access_key_id = AKID
      aws_secret_access_key = secret
      [profile first]
      role_arn = first
      source_profile = own
      [profile middle]
      role_arn = middle
      source_profile = keyed
      [profile last]
      role_arn = last
      source_profile = middle
      [profile keyed]
      login_session = x
      aws_access_key_id = AKID
      aws_secret_access_key = secret
      [profile a]
      role_arn = a
      source_profile = b
      [profile b]
      role_arn = b
      source_profile = a
      [profile nothing]
      role_arn = n
      credential_source = Environment
      [profile mfa]
      role_arn = m
      mfa_serial = x
      source_profile = own
      """
    func url(_ role: String) -> String {
      "GET https://sts.us-east-1.amazonaws.com/?Action=AssumeRole&RoleArn=\(role)"
        + "&RoleSessionName=inventoryfs&Version=2011-06-15"
    }
    let services = Services(
      Dictionary(
        uniqueKeysWithValues: ["own", "first", "middle", "last"].map { (url($0), (200, Self.sts)) })
    )
    let sources = sources(services, config: config)
    #expect(try ProfileCredentials(profileNamed: "own", sources).credentials() == Self.found)
    #expect(try ProfileCredentials(profileNamed: "first", sources).credentials() == Self.found)
    #expect(
      services.requests == [url("own"), url("first")], "a source's keys win over its own role")
    #expect(try ProfileCredentials(profileNamed: "last", sources).credentials() == Self.found)
    #expect(services.requests.dropFirst(2) == [url("middle"), url("last")])
    #expect(services.headers(3)["x-amz-security-token"] == "T", "the first role's")
    for (name, part) in [
      ("a", "would be assumed with its own credentials"),
      ("nothing", "no credentials to assume its role with"),
      ("mfa", "mfa_serial"),
    ] {
      #expect(error(ProfileCredentials(profileNamed: name, sources)).contains(part))
    }
  }

  @Test("The environment's web identity: its token is in a body, not in an address")
  func webIdentity() throws {
    let services = Services(["POST https://sts.us-east-2.amazonaws.com/": (200, Self.sts)])
    let environment = [
      "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token", "AWS_ROLE_ARN": "arn:r",
      "AWS_ROLE_SESSION_NAME": "s", "AWS_REGION": "us-east-2",
    ]
    let provider = WebIdentityCredentials(
      sources(services, environment: environment, files: ["/run/token": "a.b.c\n"]))
    #expect(try provider.credentials() == Self.found)
    #expect(
      services.asked.withLock { $0[0].body }
        == "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Ar&RoleSessionName=s&Version=2011-06-15"
        + "&WebIdentityToken=a.b.c")
    let half = error(
      WebIdentityCredentials(sources(environment: ["AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token"])))
    #expect(half.contains("AWS_ROLE_ARN"))
    #expect(try WebIdentityCredentials(sources()).credentials() == nil)
    let missing = error(WebIdentityCredentials(sources(services, environment: environment)))
    #expect(missing.contains("web identity token file /run/token: it does not exist, or is empty"))
  }

  @Test("The token service's refusals are told in its words, and its odd answers are none")
  func refusedRole() {
    let refusal = """
      <ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>
      """
    for (answer, part) in [
      ((403, refusal), "HTTP 403, AccessDenied, not you"),
      ((400, refusal.replacing("AccessDenied", with: "Throttling")), "The request is retried."),
      ((400, #"{"message":"not you"}"#), "HTTP 400, not you."),
      ((200, "<x/>"), "has no credentials"),
      ((200, "SECRET"), "has no credentials"),
      ((200, Self.sts.replacing("2023", with: "x")), "has no credentials"),
    ] {
      let services = Services(["POST http://sts.test/": answer])
      let environment = [
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token", "AWS_ROLE_ARN": "r",
        "AWS_ENDPOINT_URL_STS": "http://sts.test",
      ]
      let text = error(
        WebIdentityCredentials(
          sources(services, environment: environment, files: ["/run/token": "a"])))
      #expect(text.contains(part) && !text.contains("SECRET"), "\(text)")
    }
  }

  @Test(
    "What is not a region or an address of the token service is not asked, and says which it is",
    arguments: [
      (["AWS_REGION": "example.com/x"], "'example.com/x' is not a region. Set AWS_REGION"),
      (["AWS_ENDPOINT_URL_STS": "sts.test"], "AWS_ENDPOINT_URL_STS 'sts.test' does not start with"),
    ] as [([String: String], String)])
  func oddTokenService(environment: [String: String], part: String) {
    let services = Services([:])
    let role = ["AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token", "AWS_ROLE_ARN": "r"]
    let text = error(
      WebIdentityCredentials(
        sources(
          services, environment: environment.merging(role) { first, _ in first },
          files: ["/run/token": "a"])))
    #expect(text.contains(part), "\(text)")
    #expect(services.requests.isEmpty)
  }

  // MARK: Logins

  private static let ssoConfig = """
    [profile dev]
    sso_session = corp
    sso_account_id = 123
    sso_role_name = Reader
    [profile old]
    sso_start_url = https://corp.awsapps.com/start
    sso_region = eu-west-1
    sso_account_id = 123
    sso_role_name = Reader
    [profile broken]
    sso_session = absent
    sso_account_id = 123
    sso_role_name = Reader
    [sso-session corp]
    sso_start_url = https://corp.awsapps.com/start
    sso_region = eu-west-1
    """
  /// The SHA-1 of "corp" and of the address, as `sha1sum` says.
  private static let tokenFiles = [
    "dev": "/home/u/.aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json",
    "old": "/home/u/.aws/sso/cache/a51746d4aa793ae07b25e90c3a5db96fc7832bd7.json",
  ]

  @Test("A login's token gives the role's credentials", arguments: ["dev", "old"])
  func login(profile: String) throws {
    let url =
      "https://portal.sso.eu-west-1.amazonaws.com/federation/credentials?account_id=123&role_name=Reader"
    let answer = """
      {"roleCredentials":{"accessKeyId":"AK","secretAccessKey":"SK","sessionToken":"T","expiration":1700007200000}}
      """
    let path = try #require(Self.tokenFiles[profile])
    let token = #"{"accessToken":"TOKEN","expiresAt":"2023-11-15T00:00:00Z","region":"eu-west-1"}"#
    func provider(_ status: Int, token: String?) -> (ProfileCredentials, Services) {
      let services = Services(["GET \(url)": (status, answer)])
      let sources = sources(
        services, config: Self.ssoConfig, files: token.map { [path: $0] } ?? [:])
      return (ProfileCredentials(profileNamed: profile, sources), services)
    }
    let (good, services) = provider(200, token: token)
    #expect(try good.credentials() == Self.found)
    #expect(services.headers(0) == ["x-amz-sso_bearer_token": "TOKEN"])
    for (status, token) in [
      (401, token), (200, nil), (200, "{}"),
      (200, token.replacing("2023-11-15", with: "2023-11-13")),
    ] {
      let text = error(provider(status, token: token).0)
      #expect(text.contains("Run 'aws sso login --profile \(profile)'."), "\(text)")
    }
  }

  @Test("A login without its settings says which")
  func incompleteLogin() {
    let text = error(ProfileCredentials(profileNamed: "broken", sources(config: Self.ssoConfig)))
    #expect(text.contains("sso_start_url") && text.contains("aws configure sso"))
  }
}
