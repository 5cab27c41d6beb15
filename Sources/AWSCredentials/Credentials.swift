// The credentials that requests are signed with.
//
// Credentials can change under way, because a session token expires while the file system stays
// mounted. A `CredentialsProvider` gets them from one source; `CredentialsKeeper` decides when to
// ask it.

/// A key pair, with a token if it is temporary. It never shows its secrets when printed.
public struct Credentials: Sendable, Hashable {
  public let accessKeyID: String
  public let secretAccessKey: String
  public let sessionToken: String?
  /// When the credentials expire, in seconds since 1970-01-01T00:00:00Z; nil if they do not expire
  /// or the time is unknown.
  public let expiration: Int64?

  public init(
    accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil,
    expiration: Int64? = nil
  ) {
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
    self.expiration = expiration
  }

  /// Takes the settings of one source. Returns nil when all are absent; half of a pair is an error.
  ///
  /// - Throws: `CredentialsError.incomplete` or `.malformed`, the latter because a line break in a
  ///   value would otherwise become a line break in a request's header.
  init?(
    from source: String, accessKeyID: (name: String, value: String?),
    secretAccessKey: (name: String, value: String?), sessionToken: (name: String, value: String?),
    expiration: Int64? = nil
  ) throws(CredentialsError) {
    func given(_ setting: (name: String, value: String?)) throws(CredentialsError) -> String? {
      guard let value = setting.value?.trimmedOfSpaces, !value.isEmpty else { return nil }
      guard value.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
        throw .malformed(setting: setting.name, source: source)
      }
      return value
    }
    let (id, secret) = (try given(accessKeyID), try given(secretAccessKey))
    let token = try given(sessionToken)
    guard id != nil || secret != nil else { return nil }
    guard let id else {
      throw .incomplete(found: secretAccessKey.name, missing: accessKeyID.name, source: source)
    }
    guard let secret else {
      throw .incomplete(found: accessKeyID.name, missing: secretAccessKey.name, source: source)
    }
    self.init(
      accessKeyID: id, secretAccessKey: secret, sessionToken: token, expiration: expiration)
  }
}

extension Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { "Credentials(\(accessKeyID.prefix(4))…, redacted)" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: ["redacted": description]) }
}

/// A source that may have credentials. It is called from any thread, which it may block for some
/// seconds.
public protocol CredentialsProvider: Sendable {
  /// Where this provider looks, for the message that no credentials were found.
  var whereItLooks: String { get }

  /// The current credentials of this source; nil if it has none, so that the next source is asked.
  ///
  /// - Throws: `CredentialsError` if the source exists but cannot be used: asking another one would
  ///   hide the mistake.
  func credentials() throws(CredentialsError) -> Credentials?
}

/// The provider for `--no-sign-request`: it has no credentials, so requests are sent unsigned, as a
/// public bucket allows.
public struct AnonymousCredentials: CredentialsProvider {
  public init() {}
  public var whereItLooks: String { "nowhere: requests are not signed" }
  public func credentials() -> Credentials? { nil }
}

/// The variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
public struct EnvironmentCredentials: CredentialsProvider {
  private let environment: [String: String]

  public init(environment: [String: String]) { self.environment = environment }

  public var whereItLooks: String { "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" }

  public func credentials() throws(CredentialsError) -> Credentials? {
    func variable(_ name: String) -> (String, String?) { (name, environment[name]) }
    return try Credentials(
      from: "the environment", accessKeyID: variable("AWS_ACCESS_KEY_ID"),
      secretAccessKey: variable("AWS_SECRET_ACCESS_KEY"),
      sessionToken: variable("AWS_SESSION_TOKEN"))
  }
}
