import PrintableText

/// The credentials of a profile, which come from a role, a login, its keys, or a command, in this
/// order, which is that of the AWS SDKs. Source: "Settings reference" in the AWS SDKs and Tools
/// Reference Guide.
public struct ProfileCredentials: CredentialsProvider {
  /// The timeout of a `credential_process`, which may wait for a service.
  private static let commandTimeout = Duration.seconds(60)

  private let name: String?
  private let sources: CredentialSources

  /// - Parameter name: the profile that a flag names; nil for that of AWS_PROFILE, or "default".
  public init(profileNamed name: String?, _ sources: CredentialSources) {
    self.name = name
    self.sources = sources
  }

  public var whereItLooks: String {
    let name = printable(
      name ?? sources.sharedFiles.profileFromEnvironment ?? "default", limit: 64)
    let paths = sources.sharedFiles.paths
    return paths.isEmpty
      ? "no shared files, since HOME is not set"
      : "profile '\(name)' in \(paths.joined(separator: " and "))"
  }

  public func credentials() throws(CredentialsError) -> Credentials? {
    guard let profile = try sources.sharedFiles.profile(named: name) else { return nil }
    return try credentials(of: profile, forRolesOf: [])
  }

  /// - Parameter takers: the profiles whose roles are taken with these credentials, one after the
  ///   other.
  private func credentials(
    of profile: SharedFiles.Profile, forRolesOf takers: [String]
  ) throws(CredentialsError) -> Credentials? {
    // A profile may be the source of its own role: then its keys are meant. They also win over the
    // role of any other source.
    if profile["role_arn"] != nil, takers.last != profile.name,
      takers.isEmpty || !Self.hasKeys(profile)
    {
      guard !takers.contains(profile.name) else {
        throw error(
          profile, "its role would be assumed with its own credentials",
          "Check the profile's source_profile.")
      }
      return try roleCredentials(of: profile, takers + [profile.name])
    }
    if profile["sso_session"] != nil || profile["sso_start_url"] != nil {
      return try login(of: profile).credentials()
    }
    func setting(_ name: String) -> (String, String?) { (name, profile[name]) }
    let keys = try Credentials(
      from: "profile '\(printable(profile.name, limit: 64))'",
      accessKeyID: setting("aws_access_key_id"), secretAccessKey: setting("aws_secret_access_key"),
      sessionToken: setting("aws_session_token"))
    if let keys { return keys }
    if profile["login_session"] != nil {
      throw .unsupported(setting: "login_session", profile: profile.name)
    }
    return try profile["credential_process"].map { command throws(CredentialsError) in
      try credentials(printedBy: command, of: profile)
    }
  }

  private static func hasKeys(_ profile: SharedFiles.Profile) -> Bool {
    profile["aws_access_key_id"] != nil || profile["aws_secret_access_key"] != nil
  }

  /// The command may hold secrets itself, and is not shown.
  private func credentials(
    printedBy command: String, of profile: SharedFiles.Profile
  ) throws(CredentialsError) -> Credentials {
    let source = "credential_process of profile '\(printable(profile.name, limit: 64))'"
    let output: [UInt8]
    do throws(CommandOutput.Failure) {
      output = try sources.run(command, Self.commandTimeout)
    } catch {
      throw .failed(
        source: source, problem: error.problem,
        advice: "Run the command by hand to see its messages.",
        isTemporary: false)
    }
    return try Credentials(from: source, json: output, version: 1)
  }

  // MARK: Roles

  private func roleCredentials(
    of profile: SharedFiles.Profile, _ takers: [String]
  ) throws(CredentialsError) -> Credentials {
    guard profile["mfa_serial"] == nil else {
      throw .unsupported(setting: "mfa_serial", profile: profile.name)
    }
    let request = RoleRequest(
      sources: sources,
      region: sources.region(of: profile),
      role: profile["role_arn"] ?? "", sessionName: profile["role_session_name"],
      externalID: profile["external_id"], durationInSeconds: profile["duration_seconds"])
    if let file = profile["web_identity_token_file"] {
      return try request.assume(withToken: sources.webIdentityToken(file))
    }
    guard let credentials = try sourceCredentials(of: profile, takers) else {
      throw error(
        profile, "there are no credentials to assume its role with",
        "Check the profile's source_profile or credential_source.")
    }
    return try request.assume(with: credentials)
  }

  /// The credentials with which the profile's role is assumed.
  private func sourceCredentials(
    of profile: SharedFiles.Profile, _ takers: [String]
  ) throws(CredentialsError) -> Credentials? {
    if let name = profile["source_profile"] {
      guard let source = try sources.sharedFiles.profile(named: name) else { return nil }
      return try credentials(of: source, forRolesOf: takers)
    }
    switch profile["credential_source"] {
    case "Environment":
      return try EnvironmentCredentials(environment: sources.environment).credentials()
    case "Ec2InstanceMetadata":
      return try InstanceCredentials(sources, isThere: true).credentials()
    case "EcsContainer": return try ContainerCredentials(sources).credentials()
    default: return nil
    }
  }

  // MARK: Logins

  private func login(of profile: SharedFiles.Profile) throws(CredentialsError) -> SSOLogin {
    let sessionName = profile["sso_session"]
    let session = try sessionName.flatMap { name throws(CredentialsError) in
      try sources.sharedFiles.ssoSession(named: name)
    }
    guard let account = profile["sso_account_id"], let role = profile["sso_role_name"],
      let startURL = session?["sso_start_url"] ?? profile["sso_start_url"],
      let region = session?["sso_region"] ?? profile["sso_region"]
    else {
      throw error(
        profile, "one of sso_account_id, sso_role_name, sso_start_url and sso_region is missing",
        "Set up the profile with 'aws configure sso'.")
    }
    return SSOLogin(
      sources: sources, profile: profile.name, cacheKey: sessionName ?? startURL, region: region,
      accountID: account, role: role)
  }

  private func error(
    _ profile: SharedFiles.Profile, _ problem: String, _ advice: String
  ) -> CredentialsError {
    .failed(
      source: "profile '\(printable(profile.name, limit: 64))'", problem: problem, advice: advice,
      isTemporary: false)
  }
}
