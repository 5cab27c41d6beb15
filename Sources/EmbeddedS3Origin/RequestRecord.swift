/// One request and its answer.
public struct RequestRecord: Sendable, Codable, Equatable {
  /// The request's number, from 1, in the order of arrival. A reset does not restart the numbers.
  public let number: Int
  /// The connection's number, from 1.
  public let connection: Int
  public let clientAddress: String
  public let method: String
  public let operation: S3Operation
  public let bucket: String
  public let key: String
  /// The Range header as sent.
  public let rangeAsked: String?
  public let ifMatch: String?
  /// The x-amz-request-id of the answer.
  public let requestID: String
  /// The time of arrival, in milliseconds since 1970.
  public let receivedAtInMilliseconds: Int

  /// The bytes of the object that were requested, for a GET answered by 200 or 206.
  public internal(set) var objectBytesAsked: Range<Int>?
  /// The bytes of the object that the answer promises; they differ from the requested bytes only if
  /// the range was ignored.
  public internal(set) var objectBytesAnswered: Range<Int>?
  /// The answer's status; 0 as long as there is none.
  public internal(set) var status = 0
  /// Bytes of the body that the kernel took, errors' XML included. If the client went away in the
  /// middle, exact to a piece of 256 KiB.
  public internal(set) var bodyBytesSent = 0
  /// The kind of the fault that was applied.
  public internal(set) var fault: String?
  /// The answer was sent to its end, or given up.
  public internal(set) var isFinished = false

  init(
    number: Int, connection: Int, clientAddress: String, method: String, operation: S3Operation,
    bucket: String, key: String, rangeAsked: String?, ifMatch: String?
  ) {
    self.number = number
    self.connection = connection
    self.clientAddress = clientAddress
    self.method = method
    self.operation = operation
    self.bucket = bucket
    self.key = key
    self.rangeAsked = rangeAsked
    self.ifMatch = ifMatch
    let digits = String(number, radix: 16, uppercase: true)
    requestID = String(repeating: "0", count: max(0, 16 - digits.count)) + digits
    receivedAtInMilliseconds = Timestamp.millisecondsSince1970
  }
}

/// Sums over all requests since the start or the last reset.
public struct RequestTotals: Sendable, Codable, Equatable {
  public var requests = 0
  /// The number of answers by status, without requests that got no answer.
  public var requestsByStatus: [Int: Int] = [:]
  public var requestsByOperation: [String: Int] = [:]
  public var faultsByKind: [String: Int] = [:]
  public var bodyBytesSent = 0
  /// The number of requests that are too old to be in the records any more.
  public var recordsDropped = 0
}

/// The TCP connections of the server.
public struct ConnectionTotals: Sendable, Codable, Equatable {
  public var accepted = 0
  public var live = 0
  public var mostAtOnce = 0
}

/// The sums of one object's requested and sent bytes.
public struct ObjectTotals: Sendable, Codable, Equatable {
  public let bucket: String
  public let key: String
  public var requests = 0
  public var bodyBytesSent = 0
  /// The bytes requested twice; see ``EmbeddedS3Origin/bytesRequestedTwice(forKey:bucket:)``.
  public var bytesRequestedTwice = 0
  /// The bytes sent twice; see ``EmbeddedS3Origin/bytesSentTwice(forKey:bucket:)``.
  public var bytesSentTwice = 0
}
