import PrintableText

/// Why no credentials could be obtained, described for the person who has to provide them.
public enum CredentialsError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No source has credentials.
  case notFound(lookedAt: [String])
  /// A source has only one half of a pair of settings.
  case incomplete(found: String, missing: String, source: String)
  /// A value holds a space, a line break or another character that no key has.
  case malformed(setting: String, source: String)
  case noSuchProfile(name: String, files: [String], existing: [String])
  /// A profile gets its credentials in a way that is not supported.
  case unsupported(setting: String, profile: String)
  case unreadableFile(path: String, reason: String)
  /// A service, a command or a file that should give credentials did not. `isTemporary` tells
  /// whether it may give them a little later without any action.
  case failed(source: String, problem: String, advice: String, isTemporary: Bool)

  public var isTemporary: Bool {
    if case .failed(_, _, _, let isTemporary) = self { return isTemporary }
    return false
  }

  public var description: String {
    switch self {
    case .notFound(let lookedAt):
      return """
        no credentials found (looked at: \(lookedAt.joined(separator: "; "))). Set AWS_ACCESS_KEY_ID and \
        AWS_SECRET_ACCESS_KEY, or set --profile to a profile that has them, or set --no-sign-request \
        for a public bucket.
        """
    case .incomplete(let found, let missing, let source):
      return "\(source) has \(found), but not \(missing). Set both or neither."
    case .malformed(let setting, let source):
      return """
        \(setting) in \(source) holds a space, a line break or another character that a key cannot have. \
        Set it again, without quotes.
        """
    case .noSuchProfile(let name, let files, let existing):
      let shown = existing.prefix(20).map { printable($0, limit: 64) }.joined(separator: ", ")
      let others =
        existing.isEmpty
        ? "No profiles exist there"
        : "The profiles there are \(shown)\(existing.count > 20 ? ", …" : "")"
      return """
        profile '\(printable(name, limit: 64))' is not in \(files.joined(separator: " or ")). \(others). \
        Set --profile or AWS_PROFILE to another, or add it with 'aws configure --profile'.
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
