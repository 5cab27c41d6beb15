import FoundationEssentials
import Glibc
package import HTTPTransfer
import PrintableText
import XMLFields

/// What sources of credentials look at.
public struct CredentialSources: Sendable {
  public let environment: [String: String]
  public let sharedFiles: SharedFiles
  package let send: HTTPRequest.Sender
  package let run: CommandOutput.Runner
  package let secondsSinceEpoch: @Sendable () -> Int64
  /// That a flag names.
  private let explicitRegion: String?

  /// - Parameter region: what a flag says, for services that are asked in a region.
  public init(environment: [String: String], sharedFiles: SharedFiles, region: String?) {
    self.init(
      environment: environment, sharedFiles: sharedFiles, region: region,
      send: { request throws(HTTPRequest.Failure) in try request.send() })
  }

  package init(
    environment: [String: String], sharedFiles: SharedFiles, region: String? = nil,
    secondsSinceEpoch: @escaping @Sendable () -> Int64 = { Int64(time(nil)) },
    send: @escaping HTTPRequest.Sender, run: CommandOutput.Runner? = nil
  ) {
    if let run {
      self.run = run
    } else {
      // That of the mount command, which a background process leaves.
      let folder = SharedFiles.currentFolder()
      self.run = { command, timeout throws(CommandOutput.Failure) in
        try CommandOutput.run(command, timeout: timeout, in: folder)
      }
    }
    explicitRegion = region
    self.environment = environment
    self.sharedFiles = sharedFiles
    self.secondsSinceEpoch = secondsSinceEpoch
    self.send = send
  }

  /// A variable's value; nil if it is not set, or empty.
  func variable(_ name: String) -> String? {
    environment[name].flatMap { $0.isEmpty ? nil : $0 }
  }

  func region(of profile: SharedFiles.Profile?) -> String {
    Region.name(explicit: explicitRegion, environment: environment, profile: profile)
  }

  /// Asks a service for credentials, as JSON.
  ///
  /// - Parameter source: the service, for messages.
  func credentials(from source: String, _ request: HTTPRequest) throws(CredentialsError)
    -> Credentials
  {
    let answer = try self.answer(from: source, request)
    guard answer.status == 200 else { throw .refused(source, answer) }
    return try Credentials(from: source, json: answer.body)
  }

  func answer(from source: String, _ request: HTTPRequest) throws(CredentialsError)
    -> HTTPRequest.Response
  {
    do throws(HTTPRequest.Failure) {
      let answer = try send(request)
      if answer.status >= 500 || answer.status == 429 {
        throw HTTPRequest.Failure(text: "HTTP \(answer.status)")
      }
      return answer
    } catch {
      throw .failed(
        source: source, problem: "no answer: \(error.text)", advice: "It is asked again.",
        isTemporary: true)
    }
  }
}

extension CredentialsError {
  /// A service's refusal. Its answer is not shown but for an error's code and message.
  static func refused(_ source: String, _ answer: HTTPRequest.Response) -> CredentialsError {
    let xml = XMLFields(parsing: answer.body, within: "Error")
    let json = try? JSONDecoder().decode(JSONRefusal.self, from: Data(answer.body))
    let code = xml?["Code"] ?? json?.code
    let words = [code, xml?["Message"] ?? json?.message].compactMap {
      $0.map { printable($0, limit: 300) }
    }
    // The token service says so with status 400.
    let isTemporary = code == "Throttling" || code == "IDPCommunicationError"
    return .failed(
      source: source,
      problem: (["HTTP \(answer.status)"] + words).joined(separator: ", "),
      advice: isTemporary ? "It is asked again." : "Check that it may be asked, and for what.",
      isTemporary: isTemporary)
  }

  /// How containers' services and the portal of logins put it.
  private struct JSONRefusal: Decodable {
    let code: String?
    let message: String?
  }
}
