import Glibc
import Locks

/// What to ask the store for.
public struct ObjectRequest: Sendable {
  public let location: S3Location
  /// The bytes wanted; nil for the whole object.
  public let range: Range<Int>?
  /// How long the object must be; nil if that is not known.
  public let objectSizeInBytes: Int?
  /// The version wanted: the store answers 412 if the object has another ETag by now.
  public let ifMatch: String?

  public init(
    _ location: S3Location, range: Range<Int>? = nil, objectSizeInBytes: Int? = nil,
    ifMatch: String? = nil
  ) {
    self.location = location
    self.range = range
    self.objectSizeInBytes = objectSizeInBytes
    self.ifMatch = ifMatch
  }
}

/// Takes an answer as it arrives. All calls come on the network's thread, in this order, and must not block for long.
public protocol ObjectReceiver: AnyObject, Sendable {
  /// The answer begins; status, range and length fit the request. False ends the transfer.
  func accept(_ head: ResponseHead) -> Bool
  /// Bytes of the body, valid during the call. False ends the transfer.
  func receive(_ body: UnsafeRawBufferPointer) -> Bool
  /// The last call. Success means that every byte asked for was received.
  func finish(_ result: Result<Void, StoreError>)
}

/// A request under way, for `ObjectStore.cancel`.
public final class ObjectTransfer: Sendable {
  let transfer: CurlTransfer
  init(_ transfer: CurlTransfer) { self.transfer = transfer }
}

/// How the store is reached.
public struct ObjectStoreConfiguration: Sendable {
  public var endpoint: S3Endpoint
  public var region: String
  public var maxConnections: Int
  /// The receive buffer of each connection.
  public var receiveBufferSizeInBytes: Int

  public init(
    endpoint: S3Endpoint, region: String, maxConnections: Int, receiveBufferSizeInBytes: Int
  ) {
    self.endpoint = endpoint
    self.region = region
    self.maxConnections = maxConnections
    self.receiveBufferSizeInBytes = receiveBufferSizeInBytes
  }
}

/// An S3-compatible object store: signs requests, sends them, and checks that each answer is the one asked for.
///
/// It neither retries nor limits: which request goes out when is decided above.
public final class ObjectStore: Sendable {
  private let configuration: ObjectStoreConfiguration
  private let credentials: any CredentialsProvider
  private let signer = RequestSigner()
  private let engine: CurlEngine

  /// Nil when libcurl or the system cannot give what it takes.
  public init?(_ configuration: ObjectStoreConfiguration, credentials: any CredentialsProvider) {
    var engineConfiguration = CurlEngine.Configuration()
    engineConfiguration.maxConnections = configuration.maxConnections
    engineConfiguration.receiveBufferSizeInBytes = configuration.receiveBufferSizeInBytes
    guard let engine = CurlEngine(engineConfiguration) else { return nil }
    self.configuration = configuration
    self.credentials = credentials
    self.engine = engine
  }

  /// Names the store where objects of several are kept apart. AWS's bucket names are unique whatever the region.
  public var identity: String { configuration.endpoint.description }

  /// Starts a GET. The receiver is called on the network's thread.
  public func get(_ request: ObjectRequest, to receiver: any ObjectReceiver) -> ObjectTransfer {
    send(request, isHead: false, receiver)
  }

  /// Starts a HEAD; the answer comes on the network's thread.
  public func head(
    _ location: S3Location, objectSizeInBytes: Int?,
    _ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void
  ) {
    _ = send(
      ObjectRequest(location, objectSizeInBytes: objectSizeInBytes), isHead: true,
      HeadReceiver(completion))
  }

  /// Ends a transfer soon, with `.cancelled` unless it ends by itself before.
  public func cancel(_ transfer: ObjectTransfer) { engine.cancel(transfer.transfer) }

  /// Ends all transfers, and the network's thread. Later ones fail with `.cancelled`.
  public func shutDown() { engine.stop() }

  private func send(
    _ request: ObjectRequest, isHead: Bool, _ receiver: any ObjectReceiver
  ) -> ObjectTransfer {
    let target = configuration.endpoint.target(
      bucket: request.location.bucket, key: request.location.key)
    let answer = AnswerCheck(request, configuration.endpoint, isHead: isHead, receiver)
    let transfer = CurlTransfer(
      url: target.url, headers: [], isHead: isHead, onHeader: answer.header, onBody: answer.body,
      onEnd: answer.end)
    do {
      transfer.headers = try headers(for: request, method: isHead ? "HEAD" : "GET", target)
      engine.submit(transfer)
    } catch {
      receiver.finish(.failure(StoreError(.noCredentials(error), object: request.location)))
    }
    return ObjectTransfer(transfer)
  }

  private func headers(
    for request: ObjectRequest, method: String, _ target: RequestTarget
  ) throws(CredentialsError) -> [String] {
    var headers: [HTTPHeader] = []
    if let range = request.range {
      headers.append(HTTPHeader("Range", "bytes=\(range.lowerBound)-\(range.upperBound - 1)"))
    }
    if let eTag = request.ifMatch { headers.append(HTTPHeader("If-Match", eTag)) }
    if let credentials = try credentials.credentials() {
      headers += signer.headers(
        signing: method, target, credentials: credentials, region: configuration.region,
        secondsSinceEpoch: Int64(time(nil)))
    }
    return headers.map { "\($0.name): \($0.value)" }
  }
}

/// Only the head counts.
private final class HeadReceiver: ObjectReceiver {
  private let completion: @Sendable (Result<ResponseHead, StoreError>) -> Void
  private let head = Lock(ResponseHead())

  init(_ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void) {
    self.completion = completion
  }

  func accept(_ head: ResponseHead) -> Bool {
    self.head.withLock { $0 = head }
    return true
  }

  func receive(_ body: UnsafeRawBufferPointer) -> Bool { true }

  func finish(_ result: Result<Void, StoreError>) {
    completion(result.map { head.withLock { $0 } })
  }
}
