import ReadPlanning

/// A read that waits for bytes. Exactly one of the two methods is called, once, on the thread that
/// reports the event: implementations must hand the work on.
public protocol ParkedRead: AnyObject, Sendable {
  /// Reports that the bytes are present, and pinned until `InventoryFileSystem.finish(_:)` has
  /// copied them.
  func ready()
  func fail(_ error: FileSystemError)
}

/// An open that waits for the store's first response about the chunk. As for `ParkedRead`, exactly
/// one method is called, once.
public protocol ParkedOpen: AnyObject, Sendable {
  func opened(_ file: OpenFile)
  func fail(_ error: FileSystemError)
}

/// A request for an extended attribute that waits for the store, or for the scan of the cache. As
/// for `ParkedRead`, exactly one method is called, once.
public protocol ParkedAttribute: AnyObject, Sendable {
  func found(_ value: [UInt8])
  func fail(_ error: FileSystemError)
}

/// Cancels a parked read, open or attribute whose reader has been interrupted.
public struct Interruption: Sendable {
  private let action: @Sendable () -> Void

  init(_ action: @escaping @Sendable () -> Void) { self.action = action }

  init(wait: WaitID, _ coordinator: FetchCoordinator) {
    self.init { coordinator.interrupt(wait) }
  }

  /// Cancels the wait. It must not be called in a context in which the parked object's `fail` must
  /// not be called.
  public func interrupt() { action() }
}
