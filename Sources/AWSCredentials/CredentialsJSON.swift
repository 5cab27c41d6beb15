import FoundationEssentials
import PrintableText

extension Credentials {
  /// What services and commands answer: the same fields, with other names for the token.
  private struct Answer: Decodable {
    let accessKeyID: String?
    let secretAccessKey: String?
    let token: String?
    let expiration: Expiration?
    /// Of the instance metadata service, where it is not "Success".
    let code: String?
    /// Of commands.
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

  /// Reads an answer with AccessKeyId, SecretAccessKey, Token or SessionToken, and Expiration.
  ///
  /// - Parameters:
  ///   - source: who answered, for messages, which never show the answer itself.
  ///   - version: what its Version must be; nil where it has none.
  init(from source: String, json: [UInt8], version: Int? = nil) throws(CredentialsError) {
    func error(_ problem: String) -> CredentialsError {
      .failed(
        source: source, problem: problem, advice: "Check that it is what it should be.",
        isTemporary: false)
    }
    guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(json)) else {
      throw error("its answer is not JSON with the fields of credentials")
    }
    if let code = answer.code, code != "Success" {
      throw error("it answered \(printable(code, limit: 64)) instead of credentials")
    }
    if let version, answer.version != version {
      throw error("its answer's Version is not \(version)")
    }
    var expiration: Int64?
    switch answer.expiration {
    case .at(let time): expiration = time
    case .unreadable: throw error("its answer's Expiration is not a time as ISO 8601 writes it")
    case nil: break
    }
    guard
      let found = try Credentials(
        from: source, accessKeyID: ("AccessKeyId", answer.accessKeyID),
        secretAccessKey: ("SecretAccessKey", answer.secretAccessKey),
        sessionToken: ("SessionToken", answer.token), expiration: expiration)
    else { throw error("its answer has no AccessKeyId and no SecretAccessKey") }
    self = found
  }

  /// "2026-11-28T13:00:00Z", also with a fraction of a second or another time zone.
  static func secondsSinceEpoch(iso8601 text: String) -> Int64? {
    let styles = [
      Date.ISO8601FormatStyle(), Date.ISO8601FormatStyle(includingFractionalSeconds: true),
    ]
    return styles.lazy.compactMap { try? $0.parse(text) }.first
      .flatMap { Int64(exactly: $0.timeIntervalSince1970.rounded(.down)) }
  }
}
