public import Blocks

/// The books of the cache on disk: what each segment takes, who uses it, and which goes first when
/// room is needed.
///
/// The bound holds because space is *reserved before it is written* and *given back only after the
/// hole is punched*: `usedInBytes` counts what is stored, what is being written, and what is
/// leaving but not yet gone. Every segment is in one of three states:
///
///   idle     in the list of recency, may be evicted; the least recently used goes first
///   pinned   a reader copies from it or a part is written into it: never evicted
///   leaving  chosen for eviction; its space counts until `evicted(_:)` confirms the hole
///
/// Pinned segments are not in the list at all, so choosing a victim never searches, however many
/// are pinned.
public struct CacheLedger: Sendable {
  private struct Record {
    var segment: Segment
    var allocatedInBytes = 0
    var pinCount = 0
    var isLeaving = false
    var newer = none
    var older = none
  }

  private struct Entry {
    var overheadInBytes: Int
    var segmentCount = 0
    /// One past the highest index of a segment that was ever in the books.
    var segmentEnd = 0
  }

  private static let none = -1

  /// The most that `usedInBytes` may reach: what was configured, or less while the disk has no room
  /// for that.
  public private(set) var boundInBytes: Int
  let configuredBoundInBytes: Int
  /// Bytes on disk, about to be on disk, or not yet gone from it.
  public private(set) var usedInBytes = 0
  /// The part of `usedInBytes` that is on its way out.
  public private(set) var leavingInBytes = 0
  /// The part of `usedInBytes` that cannot be evicted now.
  public private(set) var pinnedInBytes = 0

  private var records: [Record] = []
  private var freeRecords: [Int] = []
  private var places: [Segment: Int] = [:]
  private var entries: [EntryID: Entry] = [:]
  /// Pins of segments that are not stored, or are leaving: what is read of them is in memory. A
  /// segment that comes to be stored takes them over, so that each end of a pin meets its
  /// beginning.
  private var earlyPins: [Segment: Int] = [:]
  private var newest = none
  private var oldest = none

  public init(boundInBytes: Int) {
    self.boundInBytes = boundInBytes
    configuredBoundInBytes = boundInBytes
  }

  /// Whether the disk has less room than was configured.
  public var isCurtailed: Bool { boundInBytes < configuredBoundInBytes }

  /// Sets the bound to what the disk has room for, up to what was configured.
  public mutating func curtail(toBytes room: Int) {
    boundInBytes = max(0, min(configuredBoundInBytes, room))
  }

  // MARK: Entries

  /// Counts the fixed cost of an entry (its index, its files' metadata) until `remove(_:)`.
  public mutating func add(_ entry: EntryID, overheadInBytes: Int) {
    guard entries[entry] == nil else { return }
    entries[entry] = Entry(overheadInBytes: overheadInBytes)
    usedInBytes += overheadInBytes
  }

  public func contains(_ entry: EntryID) -> Bool { entries[entry] != nil }

  /// Forgets an entry whose files are gone, with every segment of it.
  public mutating func remove(_ entry: EntryID) {
    guard let removed = entries.removeValue(forKey: entry) else { return }
    usedInBytes -= removed.overheadInBytes
    guard removed.segmentCount > 0 else { return }
    for index in 0..<removed.segmentEnd {
      if let place = places[Segment(entry: entry, index: index)] { drop(place) }
    }
  }

  /// Whether the entry holds no segment, so that its files could be removed.
  public func isEmpty(_ entry: EntryID) -> Bool {
    entries[entry].map { $0.segmentCount == 0 } ?? true
  }

  // MARK: Segments

  /// Takes over what an earlier run left, as less recently used than everything known so far.
  public mutating func adopt(_ segment: Segment, allocatedInBytes: Int) {
    guard places[segment] == nil, allocatedInBytes > 0 else { return }
    let place = insert(segment)
    records[place].allocatedInBytes = allocatedInBytes
    usedInBytes += allocatedInBytes
    if records[place].pinCount > 0 {
      pinnedInBytes += allocatedInBytes
    } else {
      linkOldest(place)
    }
  }

  /// Whether the segment holds bytes that are here to stay.
  public func isStored(_ segment: Segment) -> Bool {
    places[segment].map { !records[$0].isLeaving } ?? false
  }

  /// What the segment takes on disk; 0 when it is leaving.
  public func storedBytes(of segment: Segment) -> Int {
    places[segment].map { records[$0].isLeaving ? 0 : records[$0].allocatedInBytes } ?? 0
  }

  public func isLeaving(_ segment: Segment) -> Bool {
    places[segment].map { records[$0].isLeaving } ?? false
  }

  /// Whether `bytes` more fit at this moment, with nothing evicted.
  public func fits(_ bytes: Int) -> Bool { usedInBytes + bytes <= boundInBytes }

  /// Chooses what must leave so that `bytes` will fit; empty when enough is leaving already. The
  /// space is free only once each is confirmed with `evicted(_:)`. Fewer than needed are chosen
  /// when the rest is pinned.
  ///
  /// - Parameter isSpared: what does not leave.
  public mutating func evict(
    toFit bytes: Int, sparing isSpared: (Segment) -> Bool = { _ in false }
  ) -> [Segment] {
    var victims: [Segment] = []
    var place = oldest
    while usedInBytes - leavingInBytes + bytes > boundInBytes, place != Self.none {
      let next = records[place].newer
      if !isSpared(records[place].segment) { victims.append(startLeaving(place)) }
      place = next
    }
    return victims
  }

  /// Has an idle segment leave. False for what is pinned, leaving already, or not stored.
  public mutating func expel(_ segment: Segment) -> Bool {
    guard let place = places[segment], records[place].pinCount == 0, !records[place].isLeaving
    else { return false }
    _ = startLeaving(place)
    return true
  }

  /// Adds to what a segment takes. The caller has checked `fits(_:)`.
  public mutating func reserve(_ segment: Segment, bytes: Int) {
    let place: Int
    if let known = places[segment] {
      place = known
      assert(!records[place].isLeaving, "space reserved in a segment that is leaving")
    } else {
      place = insert(segment)
      if records[place].pinCount == 0 { linkNewest(place) }
    }
    records[place].allocatedInBytes += bytes
    usedInBytes += bytes
    if records[place].pinCount > 0 { pinnedInBytes += bytes }
  }

  /// Gives back space that was reserved and is (again) a hole on disk.
  public mutating func giveBack(_ segment: Segment, bytes: Int) {
    guard let place = places[segment] else { return }
    records[place].allocatedInBytes -= bytes
    usedInBytes -= bytes
    if records[place].pinCount > 0 { pinnedInBytes -= bytes }
    assert(records[place].allocatedInBytes >= 0)
    if records[place].allocatedInBytes == 0, records[place].pinCount == 0 { drop(place) }
  }

  public mutating func pin(_ segment: Segment) {
    guard let place = places[segment], !records[place].isLeaving else {
      earlyPins[segment, default: 0] += 1
      return
    }
    if records[place].pinCount == 0 {
      unlink(place)
      pinnedInBytes += records[place].allocatedInBytes
    }
    records[place].pinCount += 1
  }

  /// Ends one use of the segment, which becomes the most recently used.
  public mutating func unpin(_ segment: Segment) {
    if let count = earlyPins[segment] {
      earlyPins[segment] = count > 1 ? count - 1 : nil
      return
    }
    guard let place = places[segment], records[place].pinCount > 0 else { return }
    records[place].pinCount -= 1
    guard records[place].pinCount == 0 else { return }
    pinnedInBytes -= records[place].allocatedInBytes
    linkNewest(place)
    if records[place].allocatedInBytes == 0 { drop(place) }
  }

  mutating func pin(_ segments: Range<Int>, of entry: EntryID) {
    for index in segments { pin(Segment(entry: entry, index: index)) }
  }

  mutating func unpin(_ segments: Range<Int>, of entry: EntryID) {
    for index in segments { unpin(Segment(entry: entry, index: index)) }
  }

  public func isPinned(_ segment: Segment) -> Bool {
    earlyPins[segment] != nil || places[segment].map { records[$0].pinCount > 0 } ?? false
  }

  /// Frees the space of a segment whose hole is punched. Returns whether that was the entry's last
  /// segment.
  public mutating func evicted(_ segment: Segment) -> Bool {
    guard let place = places[segment], records[place].isLeaving else { return false }
    drop(place)
    return isEmpty(segment.entry)
  }

  // MARK: The list of recency

  private mutating func startLeaving(_ place: Int) -> Segment {
    unlink(place)
    records[place].isLeaving = true
    leavingInBytes += records[place].allocatedInBytes
    return records[place].segment
  }

  private mutating func insert(_ segment: Segment) -> Int {
    let place: Int
    if let free = freeRecords.popLast() {
      place = free
      records[place] = Record(segment: segment)
    } else {
      place = records.count
      records.append(Record(segment: segment))
    }
    places[segment] = place
    records[place].pinCount = earlyPins.removeValue(forKey: segment) ?? 0
    var entry = entries[segment.entry] ?? Entry(overheadInBytes: 0)
    entry.segmentCount += 1
    entry.segmentEnd = max(entry.segmentEnd, segment.index + 1)
    entries[segment.entry] = entry
    return place
  }

  private mutating func drop(_ place: Int) {
    let record = records[place]
    if record.isLeaving {
      leavingInBytes -= record.allocatedInBytes
    } else if record.pinCount == 0 {
      unlink(place)
    } else {
      pinnedInBytes -= record.allocatedInBytes
    }
    usedInBytes -= record.allocatedInBytes
    places[record.segment] = nil
    entries[record.segment.entry]?.segmentCount -= 1
    freeRecords.append(place)
  }

  private mutating func linkNewest(_ place: Int) {
    records[place].older = newest
    records[place].newer = Self.none
    if newest != Self.none { records[newest].newer = place } else { oldest = place }
    newest = place
  }

  private mutating func linkOldest(_ place: Int) {
    records[place].newer = oldest
    records[place].older = Self.none
    if oldest != Self.none { records[oldest].older = place } else { newest = place }
    oldest = place
  }

  private mutating func unlink(_ place: Int) {
    let (newer, older) = (records[place].newer, records[place].older)
    if newer != Self.none { records[newer].older = older } else { newest = older }
    if older != Self.none { records[older].newer = newer } else { oldest = newer }
    records[place].newer = Self.none
    records[place].older = Self.none
  }
}
