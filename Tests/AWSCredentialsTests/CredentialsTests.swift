import HTTPTransfer
import Locks
import Testing

@testable import AWSCredentials

/// Where no service answers.
private func sources(
  _ files: SharedFiles, _ environment: [String: String] = [:]
) -> CredentialSources {
  CredentialSources(environment: environment, sharedFiles: files) {
    _ throws(HTTPRequest.Failure) in throw HTTPRequest.Failure(text: "nobody there")
  }
}

private func profile(_ name: String?, _ files: SharedFiles) -> ProfileCredentials {
  ProfileCredentials(profileNamed: name, sources(files))
}

/// Shared files with the given content instead of a home directory's.
func sharedFiles(
  credentials: String? = nil, config: String? = nil, environment: [String: String] = [:]
) -> SharedFiles {
  let files = ["/home/u/.aws/credentials": credentials, "/home/u/.aws/config": config]
  return SharedFiles(environment: ["HOME": "/home/u"].merging(environment) { $1 }) { path in
    files[path] ?? nil
  }
}

@Suite struct CredentialsTests {
  private let pair = """
    [default]
    aws_access_key_id = AKIADEFAULT
    aws_secret_access_key = secret/default+
    """

  private func error(
    _ provider: some CredentialsProvider, sourceLocation: SourceLocation = #_sourceLocation
  ) -> String {
    let error = #expect(throws: CredentialsError.self, sourceLocation: sourceLocation) {
      try provider.credentials()
    }
    return error?.description ?? ""
  }

  @Test("Credentials never show their secrets, however they are printed")
  func redaction() {
    let credentials = Credentials(
      accessKeyID: "AKIAEXAMPLE", secretAccessKey: "SECRET1", sessionToken: "SECRET2")
    var dumped = ""
    dump(["x": Optional(credentials)], to: &dumped)
    dump(StaticCredentials(credentials), to: &dumped)
    for text in [
      "\(credentials)", String(reflecting: credentials), "\([credentials])", dumped,
      String(describing: Optional(credentials)), "\(StaticCredentials(credentials))",
    ] {
      #expect(!text.contains("SECRET") && !text.contains("AKIAEXAMPLE"), "\(text)")
    }
  }

  @Test("The environment's variables are used, empty ones and spaces aside")
  func environment() throws {
    let variables = [
      "AWS_ACCESS_KEY_ID": "AKIA1\n", "AWS_SECRET_ACCESS_KEY": " s/+= ", "AWS_SESSION_TOKEN": "t",
    ]
    #expect(
      try EnvironmentCredentials(environment: variables).credentials()
        == Credentials(accessKeyID: "AKIA1", secretAccessKey: "s/+=", sessionToken: "t"))
    #expect(try EnvironmentCredentials(environment: [:]).credentials() == nil)
    #expect(
      try EnvironmentCredentials(environment: ["AWS_ACCESS_KEY_ID": ""]).credentials() == nil)
    // A token alone is no key pair.
    #expect(
      try EnvironmentCredentials(environment: ["AWS_SESSION_TOKEN": "t"]).credentials() == nil)
  }

  @Test("Half a key pair, or a value with a line break, is a mistake and says which")
  func brokenEnvironment() {
    let half = error(EnvironmentCredentials(environment: ["AWS_ACCESS_KEY_ID": "A"]))
    #expect(half.contains("has AWS_ACCESS_KEY_ID, but not AWS_SECRET_ACCESS_KEY"))
    let otherHalf = error(EnvironmentCredentials(environment: ["AWS_SECRET_ACCESS_KEY": "A"]))
    #expect(otherHalf.contains("but not AWS_ACCESS_KEY_ID"))
    let broken = error(
      EnvironmentCredentials(environment: [
        "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_SESSION_TOKEN": "SECRET\r\nX-Evil: 1",
      ]))
    #expect(broken.contains("AWS_SESSION_TOKEN") && !broken.contains("SECRET\r"))
  }

  @Test("Profiles are read from both files, and the credentials file wins")
  func bothFiles() throws {
    let files = sharedFiles(
      credentials: """
        # a comment
        [default]
        aws_access_key_id=AKIADEFAULT
        aws_secret_access_key=from credentials
        [ other ] ; of work
        AWS_Access_Key_ID = AKIAOTHER   # inline
        aws_secret_access_key = with#hash;inside
        aws_session_token = t=o=k
        """.replacing("from credentials", with: "from-credentials"),
      config: """
        [default]
        region = eu-west-1
        aws_secret_access_key = from-config
        [profile other]
        region = eu-west-2
        s3 =
          region = nested
        [profile "quoted name"]
        region = eu-north-1
        [other]
        region = not-a-profile
        [sso-session default]
        region = not-a-profile-either
        """)
    let standard = profile(nil, files)
    #expect(
      try standard.credentials()
        == Credentials(accessKeyID: "AKIADEFAULT", secretAccessKey: "from-credentials"))
    let other = profile("other", files)
    #expect(
      try other.credentials()
        == Credentials(
          accessKeyID: "AKIAOTHER", secretAccessKey: "with#hash;inside", sessionToken: "t=o=k"))
    #expect(try files.profile(named: nil)?["region"] == "eu-west-1")
    #expect(try files.profile(named: "other")?["region"] == "eu-west-2")
    #expect(try files.profile(named: "quoted name")?["region"] == "eu-north-1")
  }

  @Test("Windows line ends, a byte order mark and indented properties make no difference")
  func oddText() throws {
    let text =
      "\u{feff}[default]\r\n  aws_access_key_id = AKIA1\r\n\r\n  aws_secret_access_key = s\r\n"
    let provider = profile(nil, sharedFiles(credentials: text))
    #expect(
      try provider.credentials() == Credentials(accessKeyID: "AKIA1", secretAccessKey: "s"))
  }

  @Test("Text that is no such file gives no profiles")
  func nonsense() throws {
    for text in [
      "", "=", "[", "]", "[]", "[default", "a = b", "[profile]\n=", "\0\u{1b}[", "[ ]\nx=y",
    ] {
      for files in [sharedFiles(credentials: text), sharedFiles(config: text)] {
        #expect(
          try profile(nil, files).credentials() == nil)
      }
    }
  }

  @Test("Variables name other files and another profile")
  func variables() throws {
    let read: SharedFiles.Reader = { path in
      path == "/home/u/keys" ? "[w]\naws_access_key_id=A\naws_secret_access_key=s" : nil
    }
    let files = SharedFiles(
      environment: [
        "HOME": "/home/u", "AWS_SHARED_CREDENTIALS_FILE": "~/keys", "AWS_CONFIG_FILE": "/etc/aws",
        "AWS_PROFILE": "w",
      ], read: read)
    let provider = profile(nil, files)
    #expect(try provider.credentials()?.accessKeyID == "A")
    #expect(provider.whereItLooks == "profile 'w' in /home/u/keys and /etc/aws")
  }

  @Test("A relative path is that of the folder at the start, which a background process leaves")
  func relativePath() throws {
    let paths = Lock<[String]>([])
    let files = SharedFiles(environment: ["AWS_CONFIG_FILE": "conf"]) { path in
      paths.withLock { $0.append(path) }
      return nil
    }
    _ = try files.profile(named: nil)
    #expect(paths.withLock { $0 } == ["\(SharedFiles.currentFolder())/conf"])
  }

  @Test("A profile that somebody named and that does not exist is an error with those that do")
  func noSuchProfile() {
    let files = sharedFiles(credentials: pair, config: "[profile work]\nregion = eu-west-1")
    let description = error(profile("wrok", files))
    #expect(
      description.contains(
        "profile 'wrok' is not in /home/u/.aws/credentials or /home/u/.aws/config"))
    #expect(description.contains("The profiles there are default, work."))
    let named = sharedFiles(environment: ["AWS_PROFILE": "x"])
    #expect(error(profile(nil, named)).contains("'x'"))
  }

  @Test(
    "A profile that needs what is not supported says so by name",
    arguments: ["login_session = x", "role_arn = r\nmfa_serial = x"])
  func unsupported(settings: String) {
    let description = error(profile(nil, sharedFiles(config: "[default]\n\(settings)")))
    let setting = settings.contains("mfa_serial") ? "mfa_serial" : "login_session"
    #expect(description.contains("profile 'default' gets its credentials through \(setting)"))
  }

  @Test("Keys win over credential_process, but not over a role, as in other AWS tools")
  func precedence() throws {
    let process = sharedFiles(credentials: pair + "\ncredential_process = p")
    #expect(try profile(nil, process).credentials() != nil)
    let role = sharedFiles(credentials: pair + "\nrole_arn = arn:aws:iam::1:role/r")
    #expect(error(profile(nil, role)).contains("no credentials to assume its role with"))
  }

  @Test("A file that cannot be read is an error with its path")
  func unreadable() {
    let files = SharedFiles(environment: ["HOME": "/h"]) { path throws(CredentialsError) in
      throw .unreadableFile(path: path, reason: "Permission denied")
    }
    let description = error(profile(nil, files))
    #expect(description.contains("/h/.aws/config cannot be read: Permission denied"))
  }

  @Test("The disk is read, a missing file is none, a folder or an endless file an error")
  func disk() throws {
    #expect(try SharedFiles.readFile(#filePath)?.contains("an endless file an error") == true)
    #expect(try SharedFiles.readFile(#filePath + ".missing") == nil)
    #expect(throws: CredentialsError.self) { try SharedFiles.readFile("/") }
    #expect(throws: CredentialsError.self) { try SharedFiles.readFile("/dev/zero") }
  }

  @Test("The environment's keys come before AWS_PROFILE, but not before a profile named by flag")
  func order() throws {
    let environment = [
      "HOME": "/home/u", "AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "s",
    ]
    func keyID(profile: String?, _ environment: [String: String]) throws -> String? {
      try CredentialsChain.standard(
        profileNamed: profile, sources(sharedFiles(credentials: pair), environment)
      ).credentials()?.accessKeyID
    }
    #expect(try keyID(profile: nil, environment) == "AKIAENV")
    #expect(try keyID(profile: "default", environment) == "AKIADEFAULT")
    #expect(try keyID(profile: nil, [:]) == "AKIADEFAULT")
  }

  @Test("Who has given credentials is asked again, and nobody else in its place")
  func sameSource() throws {
    final class Once: CredentialsProvider {
      let isEmpty = Lock(false)
      var whereItLooks: String { "first" }
      func credentials() -> Credentials? {
        isEmpty.withLock { $0 } ? nil : Credentials(accessKeyID: "A1", secretAccessKey: "s")
      }
    }
    let first = Once()
    let other = StaticCredentials(Credentials(accessKeyID: "A2", secretAccessKey: "s"))
    let chain = CredentialsChain([AnonymousCredentials(), first, other])
    #expect(try chain.credentials()?.accessKeyID == "A1")
    first.isEmpty.withLock { $0 = true }
    #expect(throws: CredentialsError.notFound(lookedAt: ["first"])) { try chain.credentials() }
    first.isEmpty.withLock { $0 = false }
    #expect(try chain.credentials()?.accessKeyID == "A1")
  }

  @Test("Where nothing is found, the error lists where it looked and what to do")
  func nothingFound() {
    let chain = CredentialsChain.standard(profileNamed: nil, sources(sharedFiles()))
    let description = error(chain)
    for part in [
      "AWS_ACCESS_KEY_ID", "'default' in /home/u/.aws/credentials and /home/u/.aws/config",
      "--profile", "--no-sign-request", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
      "169.254.169.254",
    ] {
      #expect(description.contains(part), "\(description)")
    }
    let homeless = CredentialsChain.standard(
      profileNamed: nil, sources(SharedFiles(environment: [:]) { _ in nil }))
    #expect(error(homeless).contains("HOME is not set"))
  }

  @Test("Anonymous requests need nothing")
  func anonymous() throws {
    let provider: any CredentialsProvider = AnonymousCredentials()
    #expect(try provider.credentials() == nil)
  }

  @Test("The region is the flag's, else the environment's, else the profile's, else us-east-1")
  func region() throws {
    let profile = try sharedFiles(config: "[default]\nregion = eu-west-1").profile(named: nil)
    var environment = ["AWS_REGION": "r1", "AWS_DEFAULT_REGION": "r2"]
    func name(_ explicit: String?) -> String {
      Region.name(explicit: explicit, environment: environment, profile: profile)
    }
    #expect(name("r0") == "r0")
    #expect(name(nil) == "r1")
    environment["AWS_REGION"] = ""
    #expect(name(nil) == "r2")
    environment["AWS_DEFAULT_REGION"] = nil
    #expect(name(nil) == "eu-west-1")
    #expect(Region.name(explicit: nil, environment: [:], profile: nil) == "us-east-1")
  }
}

/// The same credentials at all times.
private struct StaticCredentials: CredentialsProvider {
  private let value: Credentials
  init(_ value: Credentials) { self.value = value }
  var whereItLooks: String { "given credentials" }
  func credentials() -> Credentials? { value }
}
