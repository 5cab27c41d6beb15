import ReadPlanning

/// A read that waits for bytes. Exactly one of the two is called, once, on whatever thread the news
/// came in on: implementations hand the work on.
public protocol ParkedRead: AnyObject, Sendable {
  /// The bytes are here, and pinned until `InventoryFileSystem.finish(_:)` has copied them.
  func ready()
  func fail(_ error: FileSystemError)
}

/// An open that waits for the store's first answer about the chunk; as for `ParkedRead`, one call,
/// once.
public protocol ParkedOpen: AnyObject, Sendable {
  func opened(_ file: OpenFile)
  func fail(_ error: FileSystemError)
}

/// A question for an extended attribute that the store has to be asked for, or the cache looked
/// through; as for `ParkedRead`, one call, once.
public protocol ParkedAttribute: AnyObject, Sendable {
  func found(_ value: [UInt8])
  func fail(_ error: FileSystemError)
}

/// Lets go of a parked read, open or attribute whose reader has been interrupted.
public struct Interruption: Sendable {
  private let action: @Sendable () -> Void

  init(_ action: @escaping @Sendable () -> Void) { self.action = action }

  init(wait: WaitID, _ coordinator: FetchCoordinator) {
    self.init { coordinator.interrupt(wait) }
  }

  /// Must not be called where the parked object's `fail` could not be.
  public func interrupt() { action() }
}
