import FoundationEssentials
import Glibc
package import HTTPTransfer
import Posix
import PrintableText
import XMLFields

/// The inputs of the sources of credentials: environment, shared files, services and commands.
public struct CredentialSources: Sendable {
  public let environment: [String: String]
  public let sharedFiles: SharedFiles
  package let send: HTTPRequest.Sender
  package let run: CommandOutput.Runner
  package let secondsSinceEpoch: @Sendable () -> Int64
  /// The region that a flag names; nil if none does.
  private let explicitRegion: String?

  /// - Parameter region: the region that a flag names, for services that have one endpoint per
  ///   region.
  /// - Parameter trace: takes a line for each request, without secrets.
  public init(
    environment: [String: String], sharedFiles: SharedFiles, region: String?,
    trace: (@Sendable (_ line: () -> String) -> Void)? = nil
  ) {
    self.init(
      environment: environment, sharedFiles: sharedFiles, region: region,
      send: { request throws(HTTPRequest.Failure) in
        trace? { "\(request.tracedName): sent" }
        let start = SuspendingClock.now
        let answer = Result { () throws(HTTPRequest.Failure) in try request.send() }
        trace? {
          let time = (SuspendingClock.now - start).roundedText
          return switch answer {
          case .success(let response): "\(request.tracedName): \(response) in \(time)"
          case .failure(let failure):
            "\(request.tracedName): no response, \(failure.text), in \(time)"
          }
        }
        return try answer.get()
      })
  }

  package init(
    environment: [String: String], sharedFiles: SharedFiles, region: String? = nil,
    secondsSinceEpoch: @escaping @Sendable () -> Int64 = { Int64(time(nil)) },
    send: @escaping HTTPRequest.Sender, run: CommandOutput.Runner? = nil
  ) {
    if let run {
      self.run = run
    } else {
      // The command runs in the mount command's folder, which a background process leaves.
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

  /// Requests credentials from a service, which returns them as JSON.
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
        source: source, problem: "no response: \(error.text)", advice: "The request is retried.",
        isTemporary: true)
    }
  }
}

extension CredentialsError {
  /// A service's refusal. Only an error's code and message are shown of its response.
  static func refused(_ source: String, _ answer: HTTPRequest.Response) -> CredentialsError {
    let xml = XMLFields(parsing: answer.body, within: "Error")
    let json = try? JSONDecoder().decode(JSONRefusal.self, from: Data(answer.body))
    let code = xml?["Code"] ?? json?.code
    let words = [code, xml?["Message"] ?? json?.message].compactMap {
      $0.map { printable($0, limit: 300) }
    }
    // The token service reports these with status 400.
    let isTemporary = code == "Throttling" || code == "IDPCommunicationError"
    return .failed(
      source: source,
      problem: (["HTTP \(answer.status)"] + words).joined(separator: ", "),
      advice: isTemporary
        ? "The request is retried."
        : "Check that access to this service is allowed, and that the requested role exists.",
      isTemporary: isTemporary)
  }

  /// An error as the containers' services and the portal of logins report it.
  private struct JSONRefusal: Decodable {
    let code: String?
    let message: String?
  }
}
