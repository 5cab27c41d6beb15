import HTTPTransfer
import Locks

/// What to ask the store for.
public struct ObjectRequest: Sendable {
  public let location: S3Location
  /// The bytes wanted; nil for the whole object.
  public let range: Range<Int>?
  /// How long the object must be; nil if that is not known.
  public let objectSizeInBytes: Int?
  /// The version wanted: the store answers 412 if the object has another ETag by now. A weak ETag
  /// (`W/"x"`) is not sent, because If-Match never holds for one (RFC 9110, 13.1.1): whoever asks
  /// has to compare that of each answer.
  public let ifMatch: String?
  /// How often this has been asked for, this time included: what was lost before is waited for
  /// longer.
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

/// Takes an answer as it arrives. Calls come one at a time, in this order, on a network thread, and
/// must not block for long. Where nothing can be sent, without credentials or after `shutDown`,
/// `finish` alone is called, also on the thread that asks and before it has its `ObjectTransfer`,
/// or on the one that cancels.
public protocol ObjectReceiver: AnyObject, Sendable {
  /// The answer begins; status, range and length fit the request. False ends the transfer.
  func accept(_ head: ResponseHead) -> Bool
  /// Bytes of the body, valid during the call. False ends the transfer.
  func receive(_ body: UnsafeRawBufferPointer) -> Bool
  /// The last call. Success means that every byte asked for was received.
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
