import CCurl
import Dispatch
public import Logging
import Synchronization

/// What to ask the store for.
public struct ObjectRequest: Sendable {
  public let location: S3Location
  /// The bytes wanted; nil for the whole object.
  public let range: Range<Int>?
  /// The version wanted: the store answers 412 if the object has another ETag by now.
  public let ifMatch: String?

  public init(_ location: S3Location, range: Range<Int>? = nil, ifMatch: String? = nil) {
    self.location = location
    self.range = range
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
  private let signer: RequestSigner
  private let engine: CurlEngine
  private let logger: Logger

  /// - Throws: `.connection` when libcurl or the system cannot give what it takes.
  public init(
    _ configuration: ObjectStoreConfiguration, credentials: any CredentialsProvider, logger: Logger
  ) throws(StoreError) {
    self.configuration = configuration
    self.credentials = credentials
    self.logger = logger
    signer = RequestSigner(region: configuration.region)
    var engineConfiguration = CurlEngine.Configuration()
    engineConfiguration.maxConnections = configuration.maxConnections
    engineConfiguration.receiveBufferSizeInBytes = configuration.receiveBufferSizeInBytes
    guard let engine = CurlEngine(engineConfiguration) else {
      throw StoreError.engineUnavailable
    }
    self.engine = engine
  }
}
