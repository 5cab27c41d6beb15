// The two files that AWS tools share, ~/.aws/credentials and ~/.aws/config.
//
// Both hold profiles as sections of `name = value` lines. `credentials` calls a profile `[x]`,
// `config` calls it `[profile x]`, save `[default]`; where both have a setting, `credentials` wins.
// The format is that of the "AWS SDKs and Tools Reference Guide"; indented properties are taken as
// the AWS command line takes them.

import Glibc
import Locks
import Posix
import PrintableText

/// The paths of the shared files, and how to read them.
public struct SharedFiles: Sendable {
  /// Returns a file's text, nil if there is no such file.
  public typealias Reader = @Sendable (_ path: String) throws(CredentialsError) -> String?

  /// The value of HOME; nil if it is not set.
  let homeFolder: String?
  /// The path of the credentials file; nil if HOME is not set and no variable names the file.
  let credentialsPath: String?
  let configPath: String?
  /// The value of AWS_PROFILE; nil if it is not set.
  let profileFromEnvironment: String?
  let read: Reader

  /// - Parameter environment: the variables, of which HOME, AWS_SHARED_CREDENTIALS_FILE,
  ///   AWS_CONFIG_FILE and AWS_PROFILE are used.
  public init(
    environment: [String: String], read: @escaping Reader = SharedFiles.readFile
  ) {
    let home = environment["HOME"].flatMap { $0.isEmpty ? nil : $0 }
    func path(_ variable: String, _ name: String) -> String? {
      guard let given = environment[variable], !given.isEmpty else {
        return home.map { "\($0)/.aws/\(name)" }
      }
      return given.hasPrefix("~/") ? home.map { $0 + given.dropFirst() } ?? given : given
    }
    homeFolder = home
    credentialsPath = path("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    configPath = path("AWS_CONFIG_FILE", "config")
    profileFromEnvironment = environment["AWS_PROFILE"].flatMap { $0.isEmpty ? nil : $0 }
    // A background process leaves the folder that it was started in, and the files are read again
    // later.
    let folder = Self.currentFolder()
    // A pipe, such as that of the shell's `<(command)`, gives its bytes once.
    let pipes = Lock<[String: String]>([:])
    self.read = { path throws(CredentialsError) in
      let path = path.hasPrefix("/") ? path : "\(folder)/\(path)"
      if let kept = pipes.withLock({ $0[path] }) { return kept }
      guard let text = try read(path) else { return nil }
      if WholeFile.isPipe(path) { pipes.withLock { $0[path] = text } }
      return text
    }
  }

  static func currentFolder() -> String {
    guard let path = getcwd(nil, 0) else { return "/" }
    defer { free(path) }
    return String(cString: path)
  }

  /// One profile's settings from both files.
  ///
  /// - Parameter name: the profile that a flag names; nil for that of AWS_PROFILE, or "default".
  /// - Returns: the profile; nil if neither flag nor variable names one and "default" does not
  ///   exist.
  /// - Throws: `CredentialsError.noSuchProfile` if one is named, and neither file has it.
  public func profile(named name: String?) throws(CredentialsError) -> Profile? {
    let chosen = name ?? profileFromEnvironment
    let wanted = chosen ?? "default"
    var existing: Set<String> = []
    var settings: [String: String]?
    for (path, kind) in [(configPath, Sections.Kind.config), (credentialsPath, .credentials)] {
      guard let path, let text = try read(path) else { continue }
      let profiles = Sections.named(in: text, kind: kind)
      existing.formUnion(profiles.keys)
      if let found = profiles[wanted] {
        settings = (settings ?? [:]).merging(found) { _, later in later }
      }
    }
    if let settings { return Profile(name: wanted, settings: settings) }
    guard chosen != nil else { return nil }
    throw .noSuchProfile(name: wanted, files: paths, existing: existing.sorted())
  }

  /// The settings of a `[sso-session NAME]` of the config file; nil if there is none.
  func ssoSession(named name: String) throws(CredentialsError) -> Profile? {
    try section(.ssoSessions, named: name)
  }

  /// The address that a profile has for S3 alone: its setting `services` names a `[services NAME]`
  /// of the config file, whose `s3` has an `endpoint_url` ("Service-specific endpoints" in the AWS
  /// SDKs and Tools Reference Guide).
  ///
  /// - Throws: `CredentialsError.incomplete` where there is no such section.
  public func s3EndpointURL(of profile: Profile) throws(CredentialsError) -> String? {
    guard let name = profile["services"] else { return nil }
    guard let services = try section(.services, named: name) else {
      let shown = printable(name, limit: 64)
      throw .incomplete(
        found: "services = \(shown)", missing: "a section [services \(shown)] to go with it",
        source: "profile '\(printable(profile.name, limit: 64))'")
    }
    return services["s3.endpoint_url"]
  }

  private func section(
    _ kind: Sections.Kind, named name: String
  ) throws(CredentialsError) -> Profile? {
    guard let configPath, let text = try read(configPath) else { return nil }
    return Sections.named(in: text, kind: kind)[name].map { Profile(name: name, settings: $0) }
  }

  /// The paths, for messages.
  var paths: [String] { [credentialsPath, configPath].compactMap { $0 } }

  /// The settings of a profile. Their names are in lower case.
  public struct Profile: Sendable {
    public let name: String
    let settings: [String: String]

    /// The value of a setting; nil if it is absent or empty.
    public subscript(setting: String) -> String? {
      settings[setting].flatMap { $0.isEmpty ? nil : $0 }
    }
  }

  /// These files hold a few lines for each profile; one larger than 1 MiB is not one of them.
  static let maximumSizeInBytes = 1 << 20

  /// Reads a file on disk; nil if it does not exist.
  @Sendable public static func readFile(_ path: String) throws(CredentialsError) -> String? {
    func failure(_ code: Int32) -> CredentialsError {
      .unreadableFile(path: path, reason: String(cString: strerror(code)))
    }
    do {
      return String(
        decoding: try WholeFile.read(path, limitInBytes: maximumSizeInBytes), as: UTF8.self)
    } catch {
      switch error {
      case .system(ENOENT), .system(ENOTDIR): return nil
      case .system(let code): throw failure(code)
      case .tooLarge:
        throw .unreadableFile(
          path: path, reason: "the file is larger than \(maximumSizeInBytes) bytes")
      case .silent, .notRegular:
        throw .unreadableFile(
          path: path,
          reason:
            "no byte came within \(WholeFile.usualTimeLimit.roundedText); it may be a pipe that "
            + "nobody writes to, or its file system does not respond")
      }
    }
  }
}

extension SharedFiles.Profile: CustomStringConvertible, CustomReflectable {
  // The settings may be secrets.
  public var description: String { "Profile(\(name))" }
  public var customMirror: Mirror { Mirror(self, children: ["name": name]) }
}

/// The format of the shared files.
enum Sections {
  enum Kind { case credentials, config, ssoSessions, services }

  /// The sections of a kind in a file's text (profiles, or others that have names). A property `b`
  /// that is nested in `a` is `a.b`. Lines that make no sense are ignored, as other tools do.
  static func named(in text: String, kind: Kind) -> [String: [String: String]] {
    var sections: [String: [String: String]] = [:]
    var current: String?
    var outer = ""
    var indentation: Int?
    for line in text.drop(while: { $0 == "\u{feff}" }).split(whereSeparator: \.isNewline) {
      let content = line.drop { $0 == " " || $0 == "\t" }
      guard let first = content.first, first != "#", first != ";" else { continue }
      if first == "[" {
        current = content.firstIndex(of: "]").flatMap { end in
          self.name(content[content.index(after: content.startIndex)..<end], kind: kind)
        }
        indentation = nil
        if let current, sections[current] == nil { sections[current] = [:] }
        continue
      }
      // A line that is indented more than the property above it belongs to that property.
      let depth = line.distance(from: line.startIndex, to: content.startIndex)
      let isNested = indentation.map { depth > $0 } ?? false
      if !isNested {
        indentation = depth
        outer = ""
      }
      guard let current, let equals = content.firstIndex(of: "=") else { continue }
      let name = content[..<equals].trimmedOfSpaces.lowercased()
      if !isNested { outer = name }
      sections[current, default: [:]][isNested ? "\(outer).\(name)" : name] = value(
        content[content.index(after: equals)...])
    }
    return sections
  }

  /// The name in a section's title; nil for sections of other kinds, such as `[plugins]`.
  private static func name(_ title: Substring, kind: Kind) -> String? {
    let words = title.trimmedOfSpaces.split(maxSplits: 1, whereSeparator: \.isWhitespace)
    var name: String
    switch (kind, words.count) {
    case (.credentials, 1...): name = title.trimmedOfSpaces
    case (.config, 2) where words[0] == "profile": name = words[1].trimmedOfSpaces
    case (.ssoSessions, 2) where words[0] == "sso-session": name = words[1].trimmedOfSpaces
    case (.services, 2) where words[0] == "services": name = words[1].trimmedOfSpaces
    case (.config, 1) where words[0] == "default": name = "default"
    default: return nil
    }
    for quote in ["\"", "'"] where name.count > 1 && name.hasPrefix(quote) && name.hasSuffix(quote)
    {
      name = String(name.dropFirst().dropLast())
    }
    return name
  }

  /// A value ends where a comment begins, which takes a space before its "#" or ";".
  private static func value(_ text: Substring) -> String {
    var previous: Character = "x"
    let end = text.indices.first { index in
      defer { previous = text[index] }
      return (text[index] == "#" || text[index] == ";") && previous.isWhitespace
    }
    return text[..<(end ?? text.endIndex)].trimmedOfSpaces
  }
}
