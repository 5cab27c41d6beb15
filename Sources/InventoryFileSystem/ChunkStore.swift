public import ObjectStore

/// The requests that the file system makes to a store. Mounts use `ObjectStore`; the file system's
/// tests use a store in memory, so that they need neither sockets nor HTTP.
///
/// Only bytes that the cache does not hold are requested, so a read whose bytes are present never
/// reaches the store.
public protocol ChunkStore: Sendable {
  /// The store's name, which tells its objects from those of other stores (`ObjectStore.identity`).
  var identity: String { get }
  /// How much this process has requested from the store so far.
  var traffic: ObjectStore.Traffic { get }

  /// Starts a GET, whose receiver is called as `ObjectReceiver` says.
  func get(_ request: ObjectRequest, to receiver: any ObjectReceiver) -> StoreTransfer

  /// Starts a HEAD. `completion` is called once, on a thread of the store or, where no request can
  /// be sent, on this one.
  ///
  /// - Parameters:
  ///   - objectSizeInBytes: how long the object must be; nil if that is not known.
  ///   - attempt: the attempt's number; the first is 1.
  func head(
    _ location: S3Location, objectSizeInBytes: Int?, attempt: Int,
    _ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void
  ) -> StoreTransfer

  /// Ends all transfers with `.cancelled`, and returns when no receiver is called any more. Later
  /// transfers end the same way.
  func shutDown()
}

/// A request under way, which the caller may cancel.
public struct StoreTransfer: Sendable {
  private let end: @Sendable () -> Void

  /// - Parameter end: ends the transfer soon, with `.cancelled` unless it ends by itself before.
  ///   May be called more than once, from any thread, also from the transfer's receiver.
  public init(cancelledBy end: @escaping @Sendable () -> Void) { self.end = end }

  /// Ends the transfer soon, with `.cancelled` unless it ends by itself before.
  public func cancel() { end() }
}

extension ObjectStore: ChunkStore {
  public func get(_ request: ObjectRequest, to receiver: any ObjectReceiver) -> StoreTransfer {
    let transfer: ObjectTransfer = get(request, to: receiver)
    return StoreTransfer { self.cancel(transfer) }
  }

  public func head(
    _ location: S3Location, objectSizeInBytes: Int?, attempt: Int,
    _ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void
  ) -> StoreTransfer {
    let transfer: ObjectTransfer = head(
      location, objectSizeInBytes: objectSizeInBytes, attempt: attempt, completion)
    return StoreTransfer { self.cancel(transfer) }
  }
}
