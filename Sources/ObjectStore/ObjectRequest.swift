import HTTPTransfer
import Locks

/// A request for an object or a range of it.
public struct ObjectRequest: Sendable {
  /// The object.
  public let location: S3Location
  /// The bytes wanted; nil for the whole object.
  public let range: Range<Int>?
  /// How long the object must be; nil if that is not known.
  public let objectSizeInBytes: Int?
  /// The version wanted: the store responds with 412 if the object has another ETag by now. A weak
  /// ETag (`W/"x"`) is not sent, because If-Match never holds for one (RFC 9110, 13.1.1): the
  /// caller has to compare it with the ETag of each response.
  public let ifMatch: String?
  /// The attempt's number; the first is 1. Later attempts have longer timeouts.
  public let attempt: Int

  public init(
    _ location: S3Location, range: Range<Int>? = nil, objectSizeInBytes: Int? = nil,
    ifMatch: String? = nil, attempt: Int = 1
  ) {
    self.attempt = attempt
    self.location = location
    self.range = range
    self.objectSizeInBytes = objectSizeInBytes
    self.ifMatch = ifMatch
  }
}

extension ObjectRequest: CustomStringConvertible {
  /// Object, range and attempt, for the trace of requests.
  public var description: String {
    let bytes = range.map { " bytes \($0.lowerBound)-\($0.upperBound - 1)" } ?? ""
    return "\(location)\(bytes)\(attempt > 1 ? ", attempt \(attempt)" : "")"
  }
}

/// Takes a response as it arrives. The methods are called one at a time, in this order, on a
/// network thread, and must not block for long. Where no request can be sent, without credentials
/// or after `shutDown`, only `finish` is called; it may be called on the requesting thread before
/// that has its `ObjectTransfer`, or on the cancelling thread.
public protocol ObjectReceiver: AnyObject, Sendable {
  /// Takes the response's head, whose status, range and length match the request. Returning false
  /// ends the transfer.
  func accept(_ head: ResponseHead) -> Bool
  /// Takes bytes of the body, which are valid during the call. Returning false ends the transfer.
  func receive(_ body: UnsafeRawBufferPointer) -> Bool
  /// Takes the result; this is the last call. Success means that every requested byte was received.
  func finish(_ result: Result<Void, StoreError>)
}

/// A request under way, for `ObjectStore.cancel`: one transfer, or several if the first was refused
/// and corrected.
public final class ObjectTransfer: Sendable {
  struct State {
    var current: (transfer: CurlTransfer, place: EnginePool.Place)?
    /// Tells the receiver that it is cancelled, as long as it waits for credentials.
    var giveUp: (@Sendable () -> Void)?
    var corrections: Set<Corrections.Correction> = []
    var isCancelled = false
  }
  let state = Lock(State())
}
