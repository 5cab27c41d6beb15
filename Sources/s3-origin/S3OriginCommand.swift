import ArgumentParser
import Dispatch
import EmbeddedS3Origin
import FoundationEssentials
import Glibc
import Logging

/// The embedded S3 origin as a process: for the quickstart, and for tests in other languages.
@main
struct S3OriginCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "s3-origin",
    abstract: "Serve folders as S3 buckets on 127.0.0.1, and misbehave on demand.",
    discussion: """
      The server prints "listening on http://127.0.0.1:PORT" once it accepts requests, and serves until SIGINT or \
      SIGTERM. Its own resources need no signature:

        GET  /-/stats[?records=1]  requests received and bytes sent, as JSON
        POST /-/reset              start the account over
        GET  /-/faults             the fault plan
        PUT  /-/faults             replace the fault plan

      A line of the request log has these fields, separated by tabs: \
      \(RequestLog.columns.joined(separator: ", ")).
      """)

  @Option(help: "Folder whose first-level folders are the buckets.")
  var root: String?

  @Option(help: "One more bucket, as NAME=DIR. Can be repeated.")
  var bucket: [BucketFolder] = []

  @Option(help: "Port to listen on; 0 takes a free one.")
  var port = 0

  @Option(help: "Access key that requests must be signed with.")
  var accessKey: String?

  @Option(help: "Secret key that belongs to the access key.")
  var secretKey: String?

  @Option(help: "Session token that must come with the access key.")
  var sessionToken: String?

  @Flag(help: "Answer unsigned requests.")
  var anonymous = false

  @Option(help: "Region of the buckets.")
  var region = "us-east-1"

  @Option(help: "Delay of every response, in milliseconds.")
  var firstByteDelayMs = 0

  @Option(help: "Maximum rate of every response's body, in bytes per second.")
  var bytesPerSecond: Int?

  @Option(help: "Event loop threads.")
  var threads = 1

  @Option(help: "File to which one line per request is appended.")
  var requestLog: String?

  @Option(help: "File to which the port is written once the server accepts requests.")
  var portFile: String?

  @Option(help: "JSON file with the fault plan.")
  var faults: String?

  @Flag(help: "Write debug messages to stderr too.")
  var verbose = false

  func validate() throws {
    if root == nil && bucket.isEmpty {
      throw ValidationError("There is nothing to serve: set --root DIR or --bucket NAME=DIR.")
    }
    if (accessKey == nil) != (secretKey == nil) {
      throw ValidationError("Set both --access-key and --secret-key, or neither.")
    }
    if accessKey == nil && !anonymous {
      throw ValidationError(
        "No client could read: set --access-key and --secret-key, or --anonymous.")
    }
    if accessKey == nil && sessionToken != nil {
      throw ValidationError("--session-token needs --access-key: set both.")
    }
    guard (0...65_535).contains(port), firstByteDelayMs >= 0, bytesPerSecond ?? 1 >= 1,
      (1...64).contains(threads)
    else {
      throw ValidationError(
        """
        Expected --port from 0 to 65535, --first-byte-delay-ms of at least 0, --bytes-per-second of at \
        least 1, and --threads from 1 to 64.
        """)
    }
    for folder in [root].compactMap(\.self) + bucket.map(\.path) {
      var facts = stat()
      guard stat(folder, &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR else {
        throw ValidationError("\(folder) is not a folder.")
      }
    }
  }

  func run() async throws {
    let signals = EndSignals()
    let origin = EmbeddedS3Origin(try originConfiguration())
    let port = try await origin.start()
    if let portFile { try writeAtomically("\(port)\n", to: portFile) }
    print("listening on http://127.0.0.1:\(port)")
    fflush(nil)

    _ = await signals.stream.first { _ in true }
    withExtendedLifetime(signals) {}
    await origin.stop()
  }

  private func originConfiguration() throws -> OriginConfiguration {
    var configuration = OriginConfiguration(
      rootFolder: root,
      bucketFolders: Dictionary(bucket.map { ($0.name, $0.path) }) { _, last in last },
      port: port, allowsAnonymous: anonymous, region: region,
      firstByteDelay: .milliseconds(firstByteDelayMs), bytesPerSecond: bytesPerSecond,
      threads: threads)
    if let accessKey, let secretKey {
      configuration.credentials[accessKey] = OriginCredential(
        secretKey: secretKey, sessionToken: sessionToken)
    }
    if let faults {
      do {
        configuration.faultPlan = try FaultPlan(json: Data(contentsOf: URL(filePath: faults)))
      } catch {
        throw ValidationError("\(faults) is not a fault plan: \(error)")
      }
    }
    if let requestLog {
      guard let log = RequestLog(path: requestLog) else {
        throw ValidationError(
          "\(requestLog) cannot be written: \(String(cString: strerror(errno)))")
      }
      configuration.didAnswer = { log.append($0) }
    }
    var logger = Logger(label: "s3-origin") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = verbose ? .debug : .warning
    configuration.logger = logger
    return configuration
  }

  /// Writes a file and renames it into place, so that a program that waits for the file finds the
  /// whole number in it.
  private func writeAtomically(_ text: String, to path: String) throws {
    do {
      try Data(text.utf8).write(to: URL(filePath: path), options: .atomic)
    } catch {
      throw ValidationError("\(path) cannot be written: \(error)")
    }
  }
}

/// SIGINT and SIGTERM as a stream, for as long as this value exists.
///
/// It does not use sigwait(3), because Dispatch runs a thread that takes the signals which all
/// others block.
private struct EndSignals {
  let stream: AsyncStream<Int32>
  private let sources: [any DispatchSourceSignal]

  init() {
    let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
    self.stream = stream
    sources = [SIGINT, SIGTERM].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { continuation.yield(number) }
      source.activate()
      return source
    }
  }
}

/// A bucket and its folder, written `NAME=DIR`.
struct BucketFolder: ExpressibleByArgument {
  let name: String
  let path: String

  init?(argument: String) {
    let parts = argument.split(separator: "=", maxSplits: 1)
    guard parts.count == 2 else { return nil }
    name = String(parts[0])
    path = String(parts[1])
  }
}
