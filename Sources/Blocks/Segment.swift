/// A chunk's place in the cache on disk, for as long as its files live: a chunk that is evicted
/// whole and fetched again gets a new one.
public struct EntryID: Hashable, Sendable {
  public let number: Int
  public init(number: Int) { self.number = number }
}

/// A segment of a chunk in the cache (`BlockGrid`): the unit of eviction.
public struct Segment: Hashable, Sendable {
  public let entry: EntryID
  /// The segment's index in its chunk.
  public let index: Int

  public init(entry: EntryID, index: Int) {
    self.entry = entry
    self.index = index
  }
}
