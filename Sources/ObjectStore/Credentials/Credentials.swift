// Who signs the requests.
//
// Credentials are a value that can change under way, for a session token expires while the file system stays mounted:
// a `CredentialsProvider` says where they come from, and `CredentialsKeeper` when it is asked.

import PrintableText

/// A key pair, with a token if it is temporary. It never shows its secrets when printed.
public struct Credentials: Sendable, Hashable {
  public let accessKeyID: String
  public let secretAccessKey: String
  public let sessionToken: String?
  /// When they cease to work, in seconds since 1970-01-01T00:00:00Z; nil if they do not, or it is unknown.
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

  /// Takes the settings of one source, which may be all absent (nil), but not half there.
  ///
  /// - Throws: `CredentialsError.incomplete` or `.malformed`, the latter because a line break in a value would
  ///   otherwise become a line break in a request's header.
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

/// Something that may know credentials. Called from any thread, which it may keep for some seconds.
public protocol CredentialsProvider: Sendable {
  /// Where this provider looks, for the message that no credentials were found.
  var whereItLooks: String { get }

  /// The credentials of this source as they are now; nil if it has none, so that the next source is asked.
  ///
  /// - Throws: if the source is there, but cannot be used: asking another one would hide the mistake.
  func credentials() throws(CredentialsError) -> Credentials?
}

/// No credentials on purpose (`--no-sign-request`): requests go out unsigned, as a public bucket allows.
public struct AnonymousCredentials: CredentialsProvider {
  public init() {}
  public var whereItLooks: String { "nowhere: requests are not signed" }
  public func credentials() -> Credentials? { nil }
}

/// The same credentials at all times.
public struct StaticCredentials: CredentialsProvider {
  private let value: Credentials
  public init(_ value: Credentials) { self.value = value }
  public var whereItLooks: String { "given credentials" }
  public func credentials() -> Credentials? { value }
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

/// Why no credentials could be had, for the person who has to provide them.
public enum CredentialsError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No source has any.
  case notFound(lookedAt: [String])
  /// One half of a key pair.
  case incomplete(found: String, missing: String, source: String)
  /// A value holds a space, a line break or another character that no key has.
  case malformed(setting: String, source: String)
  case noSuchProfile(name: String, files: [String], existing: [String])
  /// A profile that gets its credentials in a way that is not supported.
  case unsupported(setting: String, profile: String)
  case unreadableFile(path: String, reason: String)
  /// A service, a command or a file that is to give credentials did not. `isTemporary` if it may do a little later, without
  /// anybody doing anything.
  case failed(source: String, problem: String, advice: String, isTemporary: Bool)

  public var isTemporary: Bool {
    if case .failed(_, _, _, let isTemporary) = self { return isTemporary }
    return false
  }

  public var description: String {
    switch self {
    case .notFound(let lookedAt):
      return """
        no credentials found. Looked at: \(lookedAt.joined(separator: "; ")). Set AWS_ACCESS_KEY_ID and \
        AWS_SECRET_ACCESS_KEY, or name a profile that has them with --profile, or use --no-sign-request \
        for a public bucket.
        """
    case .incomplete(let found, let missing, let source):
      return "\(source) has \(found), but not \(missing). Set both or neither."
    case .malformed(let setting, let source):
      return """
        \(setting) in \(source) holds a space, a line break or another character that no key has. \
        Set it again, without quotes.
        """
    case .noSuchProfile(let name, let files, let existing):
      let shown = existing.prefix(20).map { printable($0, limit: 64) }.joined(separator: ", ")
      let others =
        existing.isEmpty
        ? "There are no profiles" : "There is \(shown)\(existing.count > 20 ? ", …" : "")"
      return """
        profile '\(printable(name, limit: 64))' is not in \(files.joined(separator: " or ")). \(others). \
        Name another with --profile or AWS_PROFILE, or add it with 'aws configure --profile'.
        """
    case .unsupported(let setting, let profile):
      let profile = printable(profile, limit: 64)
      return """
        profile '\(profile)' gets its credentials through \(setting), which is not supported yet. Run \
        'aws configure export-credentials --profile \(profile) --format env' and set the variables that it \
        prints, or name a profile that has aws_access_key_id and aws_secret_access_key.
        """
    case .unreadableFile(let path, let reason):
      return """
        \(printable(path, limit: 1024)) cannot be read: \(reason). Make it readable, or name another file.
        """
    case .failed(let source, let problem, let advice, _):
      return "\(source): \(problem). \(advice)"
    }
  }
}

extension StringProtocol {
  /// Without spaces, tabs and line breaks at both ends.
  var trimmedOfSpaces: String {
    var trimmed = Substring(self)
    while trimmed.first?.isWhitespace == true { trimmed.removeFirst() }
    while trimmed.last?.isWhitespace == true { trimmed.removeLast() }
    return String(trimmed)
  }
}
