// Small integers with a type each, so that a part is never taken for a read.

/// A chunk of the mounted manifest: its index in `files`.
public struct ChunkID: Hashable, Sendable {
  public let index: Int
  public init(index: Int) { self.index = index }
}

/// One `open` of a chunk by a reader.
public struct HandleID: Hashable, Sendable {
  public let number: UInt64
  public init(number: UInt64) { self.number = number }
}

/// One read, or one open, that waits for bytes from the store.
public struct WaitID: Hashable, Sendable {
  public let number: UInt64
  public init(number: UInt64) { self.number = number }
}

/// One range GET under way, through all its attempts.
public struct PartID: Hashable, Sendable {
  public let number: UInt64
  public init(number: UInt64) { self.number = number }
}
