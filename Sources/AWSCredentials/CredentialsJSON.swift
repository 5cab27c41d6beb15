import FoundationEssentials
import PrintableText

extension Credentials {
  /// The JSON that services and commands return: the same fields, with other names for the token.
  private struct Answer: Decodable {
    let accessKeyID: String?
    let secretAccessKey: String?
    let token: String?
    let expiration: Expiration?
    /// The instance metadata service's result code; other values than "Success" are errors.
    let code: String?
    /// The version of the format that a command prints.
    let version: Int?

    private enum CodingKeys: String, CodingKey, CaseIterable {
      case accessKeyID = "AccessKeyId"
      case secretAccessKey = "SecretAccessKey"
      case token = "Token"
      case sessionToken = "SessionToken"
      case expiration = "Expiration"
      case code = "Code"
      case version = "Version"
    }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.container(keyedBy: CodingKeys.self)
      func text(_ key: CodingKeys) throws -> String? {
        try fields.decodeIfPresent(String.self, forKey: key)
      }
      accessKeyID = try text(.accessKeyID)
      secretAccessKey = try text(.secretAccessKey)
      token = try text(.sessionToken) ?? text(.token)
      expiration = try text(.expiration).map { Expiration(parsing: $0) }
      code = try text(.code)
      version = try fields.decodeIfPresent(Int.self, forKey: .version)
    }
  }

  private enum Expiration {
    case at(Int64)
    case unreadable

    init(parsing text: String) {
      self = Credentials.secondsSinceEpoch(iso8601: text).map { .at($0) } ?? .unreadable
    }
  }

  /// Reads JSON with AccessKeyId, SecretAccessKey, Token or SessionToken, and Expiration.
  ///
  /// - Parameters:
  ///   - source: the name of the service or command, for messages, which never show the JSON
  ///     itself.
  ///   - version: the expected value of Version; nil where the format has none.
  init(from source: String, json: [UInt8], version: Int? = nil) throws(CredentialsError) {
    func error(_ problem: String) -> CredentialsError {
      .failed(
        source: source, problem: problem,
        advice: "Expected JSON with AccessKeyId, SecretAccessKey and optionally "
          + "\(version == nil ? "Token" : "SessionToken") and Expiration.",
        isTemporary: false)
    }
    guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(json)) else {
      throw error("its response is not JSON with the fields of credentials")
    }
    if let code = answer.code, code != "Success" {
      throw error("it returned \(printable(code, limit: 64)) instead of credentials")
    }
    if let version, answer.version != version {
      throw error("its response's Version is not \(version)")
    }
    var expiration: Int64?
    switch answer.expiration {
    case .at(let time): expiration = time
    case .unreadable: throw error("its response's Expiration is not an ISO 8601 time")
    case nil: break
    }
    guard
      let found = try Credentials(
        from: source, accessKeyID: ("AccessKeyId", answer.accessKeyID),
        secretAccessKey: ("SecretAccessKey", answer.secretAccessKey),
        sessionToken: ("SessionToken", answer.token), expiration: expiration)
    else { throw error("its response has no AccessKeyId and no SecretAccessKey") }
    self = found
  }

  /// Reads a time such as "2026-11-28T13:00:00Z", also with a fraction of a second or another time
  /// zone; nil for other text.
  static func secondsSinceEpoch(iso8601 text: String) -> Int64? {
    let styles = [
      Date.ISO8601FormatStyle(), Date.ISO8601FormatStyle(includingFractionalSeconds: true),
    ]
    return styles.lazy.compactMap { try? $0.parse(text) }.first
      .flatMap { Int64(exactly: $0.timeIntervalSince1970.rounded(.down)) }
  }
}
