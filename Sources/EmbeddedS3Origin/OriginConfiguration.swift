public import Logging

/// The buckets of an ``EmbeddedS3Origin`` and the way it answers. The address cannot be configured:
/// it is always 127.0.0.1, because the server has no transport security and serves any folder that
/// it is given.
public struct OriginConfiguration: Sendable {
  /// The folder whose first-level folders are the buckets. With nil there are only
  /// ``bucketFolders`` and the objects that ``EmbeddedS3Origin/put(bucket:key:bytes:eTag:)`` adds.
  public var rootFolder: String?
  /// More buckets, by name, each with its folder. They hide folders of the root with that name.
  public var bucketFolders: [String: String]
  /// The port to listen on; 0 lets the kernel choose a free one.
  public var port: Int
  /// The credentials that may read, by access key. If there are none, every request may read,
  /// signed or not, and no signature is checked.
  public var credentials: [String: OriginCredential]
  /// Answers unsigned requests although there are credentials. Signed ones are still checked.
  public var allowsAnonymous: Bool
  /// The region of all buckets, which the scope of a signature must name.
  public var region: String
  /// How long every request waits before its answer begins: a stand-in for a distant store.
  public var firstByteDelay: Duration
  /// The maximum rate of each body, as S3 gives each connection some 90 MB/s; nil for no maximum.
  public var bytesPerSecond: Int?
  /// The offset of this server's clock from the machine's, in the Date header and in the skew
  /// check.
  public var clockOffset: Duration
  /// Event loop threads, at least 1. One sends 2 GB/s to 32 connections, because bodies go out by
  /// sendfile(2). With one, requests are taken in the order of their arrival, which a fault plan
  /// that counts them relies on; with more, those of different connections may overtake each other.
  public var threads: Int
  /// The faults from the start. See ``EmbeddedS3Origin/setFaultPlan(_:)``.
  public var faultPlan: FaultPlan
  /// A callback for each request, on an event loop, before a fault is chosen and the object is
  /// looked up: it can replace an object between two requests. It must not block.
  public var willAnswer: (@Sendable (RequestRecord) -> Void)?
  /// A callback for each request when its answer ends, on an event loop.
  public var didAnswer: (@Sendable (RequestRecord) -> Void)?
  public var logger: Logger

  public init(
    rootFolder: String? = nil, bucketFolders: [String: String] = [:], port: Int = 0,
    credentials: [String: OriginCredential] = [:], allowsAnonymous: Bool = false,
    region: String = "us-east-1", firstByteDelay: Duration = .zero,
    bytesPerSecond: Int? = nil, clockOffset: Duration = .zero, threads: Int = 1,
    faultPlan: FaultPlan = FaultPlan(),
    willAnswer: (@Sendable (RequestRecord) -> Void)? = nil,
    didAnswer: (@Sendable (RequestRecord) -> Void)? = nil,
    logger: Logger = Logger(label: "s3-origin") { _ in SwiftLogNoOpLogHandler() }
  ) {
    self.rootFolder = rootFolder
    self.bucketFolders = bucketFolders
    self.port = port
    self.credentials = credentials
    self.allowsAnonymous = allowsAnonymous
    self.region = region
    self.firstByteDelay = firstByteDelay
    self.bytesPerSecond = bytesPerSecond
    self.clockOffset = clockOffset
    self.threads = threads
    self.faultPlan = faultPlan
    self.willAnswer = willAnswer
    self.didAnswer = didAnswer
    self.logger = logger
  }
}

/// The secret behind an access key. A literal string is a secret without token or expiry.
public struct OriginCredential: Sendable, ExpressibleByStringLiteral {
  public var secretKey: String
  /// The x-amz-security-token that must accompany the signature; nil if none may.
  public var sessionToken: String?
  /// The time from which on the answer is ExpiredToken, in seconds since 1970 by the server's
  /// clock.
  public var expiresAt: Int?

  public init(secretKey: String, sessionToken: String? = nil, expiresAt: Int? = nil) {
    self.secretKey = secretKey
    self.sessionToken = sessionToken
    self.expiresAt = expiresAt
  }

  public init(stringLiteral secretKey: String) {
    self.init(secretKey: secretKey)
  }
}
