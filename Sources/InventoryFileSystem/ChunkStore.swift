public import ObjectStore

/// What the file system needs of a store: answers to its requests, and nothing of how they are had.
/// `ObjectStore` is the one that mounts use; the file system's tests have one in memory, so that
/// they need neither sockets nor HTTP.
///
/// Only what the cache does not hold is asked for, so that a read whose bytes are present never
/// comes here.
public protocol ChunkStore: Sendable {
  /// Names the store where objects of several are kept apart (`ObjectStore.identity`).
  var identity: String { get }
  /// What this process has asked of the store so far.
  var traffic: ObjectStore.Traffic { get }

  /// Starts a GET, whose receiver is called as `ObjectReceiver` says.
  func get(_ request: ObjectRequest, to receiver: any ObjectReceiver) -> StoreTransfer

  /// Starts a HEAD. `completion` is called once, on a thread of the store or, where nothing can be
  /// sent, on this one.
  ///
  /// - Parameters:
  ///   - objectSizeInBytes: how long the object must be; nil if that is not known.
  ///   - attempt: how often this has been asked for, this time included.
  func head(
    _ location: S3Location, objectSizeInBytes: Int?, attempt: Int,
    _ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void
  ) -> StoreTransfer

  /// Ends all transfers with `.cancelled`, as later ones end too, and returns when no receiver is
  /// called any more.
  func shutDown()
}

/// A request under way, which whoever made it may give up.
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
