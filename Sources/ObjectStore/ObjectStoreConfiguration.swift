/// How the store is reached.
public struct ObjectStoreConfiguration: Sendable {
  /// The store's address.
  public var endpoint: S3Endpoint
  /// The region that requests are signed for until the store names another.
  public var region: String
  /// How many connections there are at most; further requests wait for one.
  public var maxConnections: Int
  /// How many threads move bytes from sockets to their receivers: at least 1, and at most one for
  /// each connection.
  public var networkThreadCount: Int
  /// The size of each connection's receive buffer.
  public var receiveBufferSizeInBytes: Int
  /// How long a reader waits for its bytes: a request's own limits leave time for several attempts.
  public var readTimeout: Duration
  /// Takes a line for each request that is sent, and one for its end, which have no secrets. Making
  /// the line costs nothing unless it is asked for. It is called on a network thread, and must not
  /// block for long.
  public var trace: (@Sendable (_ line: () -> String) -> Void)?
  /// The AWS command line with the options that reach the same store, for messages.
  public var awsCommand = "aws"

  public init(
    endpoint: S3Endpoint, region: String, maxConnections: Int, networkThreadCount: Int = 1,
    receiveBufferSizeInBytes: Int, readTimeout: Duration = .seconds(60)
  ) {
    self.networkThreadCount = networkThreadCount
    self.readTimeout = readTimeout
    self.endpoint = endpoint
    self.region = region
    self.maxConnections = maxConnections
    self.receiveBufferSizeInBytes = receiveBufferSizeInBytes
  }
}
