import NIOConcurrencyHelpers

/// A small, real S3 server on loopback: it serves folders as buckets, checks signatures, and
/// misbehaves on demand. The quickstart reads from it, and the tests use it to see which requests
/// the client sends and how it handles faults between it and S3.
///
/// It only serves reads: GET and HEAD of objects with ranges and conditions, ListObjectsV2, HEAD
/// and location of buckets. Objects are files. Objects in memory take precedence over files; they
/// can have keys that no folder can hold and can be replaced while they are read.
///
/// It shares no code with the client but the digest functions (`Digests`), which are checked
/// against published vectors, so that the two cannot be wrong together. Several can run in one
/// process. Its threads are its own: event loops (``OriginConfiguration/threads``) that own the
/// sockets, and a pool that looks at the disk. Memory does not depend on the sizes of objects on
/// disk, whose bytes go to the socket by sendfile(2).
///
///     let origin = EmbeddedS3Origin(OriginConfiguration(rootFolder: folder))
///     let port = try await origin.start()
///     ...
///     await origin.stop()
public final class EmbeddedS3Origin: Sendable {
  private enum Phase {
    case idle
    case changing
    case running(Listener)
  }

  private let service: OriginService
  private let phase = NIOLockedValueBox(Phase.idle)

  public init(_ configuration: OriginConfiguration) {
    service = OriginService(configuration)
  }

  /// Runs a server for as long as `body` takes, and stops it also when `body` throws.
  public static func run<Outcome: Sendable>(
    _ configuration: OriginConfiguration,
    _ body: (EmbeddedS3Origin) async throws -> Outcome
  ) async throws -> Outcome {
    let origin = EmbeddedS3Origin(configuration)
    try await origin.start()
    do {
      let outcome = try await body(origin)
      await origin.stop()
      return outcome
    } catch {
      await origin.stop()
      throw error
    }
  }

  // MARK: Running

  /// Returns the port, which is ready. A stopped server can be started again; it keeps its objects
  /// in memory, its fault plan and its account.
  @discardableResult
  public func start() async throws(OriginError) -> Int {
    try begin()
    let listener = Listener(service: service)
    do throws(OriginError) {
      try await listener.start()
    } catch {
      phase.withLockedValue { $0 = .idle }
      throw error
    }
    phase.withLockedValue { $0 = .running(listener) }
    return listener.port
  }

  /// Closes all connections and returns when all threads have ended, which waits for an object that
  /// is being read for its ETag. Does nothing if it is not running.
  public func stop() async {
    let listener = phase.withLockedValue { phase -> Listener? in
      guard case .running(let listener) = phase else { return nil }
      phase = .changing
      return listener
    }
    guard let listener else { return }
    await listener.stop()
    phase.withLockedValue { $0 = .idle }
  }

  /// The port; nil unless the server runs.
  public var port: Int? { listener?.port }

  /// The URL `http://127.0.0.1:PORT`; nil unless the server runs.
  public var endpointURL: String? { port.map { "http://127.0.0.1:\($0)" } }

  private func begin() throws(OriginError) {
    let isIdle = phase.withLockedValue { phase in
      guard case .idle = phase else { return false }
      phase = .changing
      return true
    }
    guard isIdle else { throw .alreadyRunning }
  }

  private var listener: Listener? {
    phase.withLockedValue { phase in
      guard case .running(let listener) = phase else { return nil }
      return listener
    }
  }

  // MARK: Objects in memory

  /// Adds an object, or replaces it by a new version. Reads under way continue with the old
  /// version. The bucket is created if it does not exist.
  ///
  /// - Parameter eTag: the ETag without quotes, or a weak one with them (`W/"x"`); nil stands for
  ///   the MD5 of the bytes.
  public func put(bucket: String, key: String, bytes: [UInt8], eTag: String? = nil) {
    service.store.put(
      bucket: bucket, key: key, bytes: bytes, eTag: eTag, lastModified: service.now)
  }

  /// Makes the object nonexistent from now on, even if it has a file.
  public func remove(bucket: String, key: String) {
    service.store.remove(bucket: bucket, key: key)
  }

  /// Undoes `put` and `remove`: the file, if there is one, is the object again.
  public func revert(bucket: String, key: String) {
    service.store.revert(bucket: bucket, key: key)
  }

  // MARK: Misbehaviour

  /// Replaces the plan, which starts counting from its first request.
  public func setFaultPlan(_ plan: FaultPlan) {
    service.faultPlan = plan
  }

  public var faultPlan: FaultPlan { service.faultPlan }

  /// Replaces the ``OriginConfiguration/credentials``, for keys that expire or rotate.
  public func setCredentials(_ credentials: [String: OriginCredential]) {
    service.setCredentials(credentials)
  }

  /// Closes the listening socket for a while; returns when it is closed. Connections stay.
  public func refuseConnections(for duration: Duration) async {
    try? await listener?.refuse(for: duration).get()
  }

  /// Closes all connections, whatever they are doing; returns when they are closed.
  public func dropConnections() async {
    for channel in service.connections.liveChannels {
      try? await channel.close().get()
    }
  }

  // MARK: The account

  // These wait until the event loops have written down what they have already sent, so a client
  // that has its answer finds it here.

  /// The last 100,000 requests in the order of their arrival, those under way included.
  public func requests() async -> [RequestRecord] {
    await listener?.settle()
    return service.ledger.records
  }

  /// The records of requests for one key, in one bucket or in any.
  public func requests(forKey key: String, bucket: String? = nil) async -> [RequestRecord] {
    await listener?.settle()
    return service.ledger.records(key: key, bucket: bucket)
  }

  public func totals() async -> RequestTotals {
    await listener?.settle()
    return service.ledger.totals
  }

  public func objectTotals() async -> [ObjectTotals] {
    await listener?.settle()
    return service.ledger.objectTotals
  }

  public func connections() async -> ConnectionTotals {
    await listener?.settle()
    return service.connections.totals
  }

  /// How many bytes of the object were requested by more than one GET, of the GETs answered by 200
  /// or 206. Requested bytes count, not received ones: requesting bytes again that a broken
  /// connection did not bring counts too. See ``bytesSentTwice(forKey:bucket:)``.
  public func bytesRequestedTwice(forKey key: String, bucket: String? = nil) async -> Int {
    await requests(forKey: key, bucket: bucket).bytesRequestedTwice
  }

  /// How many bytes of the object were sent more than once, by the bytes that the kernel took.
  public func bytesSentTwice(forKey key: String, bucket: String? = nil) async -> Int {
    await requests(forKey: key, bucket: bucket).bytesSentTwice
  }

  /// Starts the account over. Answers under way are no longer counted.
  public func resetAccount() async {
    await listener?.settle()
    service.ledger.reset()
    service.connections.reset()
  }
}

/// Why the server did not start.
public enum OriginError: Error, Equatable, CustomStringConvertible {
  case alreadyRunning
  case cannotListen(port: Int, reason: String)

  public var description: String {
    switch self {
    case .alreadyRunning:
      "the S3 origin is already running; stop it first"
    case .cannotListen(let port, let reason):
      "the S3 origin cannot listen on 127.0.0.1:\(port): \(reason); choose another port, or 0"
    }
  }
}
