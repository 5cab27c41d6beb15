import HeapModule

/// The deadlines of all waits.
///
/// Waits that are answered are not looked for and taken out: they leave when they are the next to
/// end, or when they have become the most of what is here. There are never more than twice as many
/// entries as waits, and some.
public struct WaitDeadlines: Sendable {
  private struct Entry: Comparable {
    let deadline: Duration
    let wait: WaitID

    static func < (one: Entry, other: Entry) -> Bool { one.deadline < other.deadline }
  }

  private var heap = Heap<Entry>()

  public init() {}

  public var count: Int { heap.count }

  /// - Parameters:
  ///   - deadline: the wait's deadline, on any clock.
  ///   - waitCount: how many waits there are.
  ///   - isWaiting: whether a wait has not been answered yet.
  public mutating func add(
    _ wait: WaitID, deadline: Duration, waitCount: Int, isWaiting: (WaitID) -> Bool
  ) {
    while let first = heap.min, !isWaiting(first.wait) { heap.removeMin() }
    if heap.count > 2 * waitCount + 64 {
      heap = Heap(heap.unordered.filter { isWaiting($0.wait) })
    }
    heap.insert(Entry(deadline: deadline, wait: wait))
  }

  /// Takes out the waits whose time is over, the earliest first.
  public mutating func takeExpired(at now: Duration, isWaiting: (WaitID) -> Bool) -> [WaitID] {
    var expired: [WaitID] = []
    while let first = heap.min, first.deadline <= now || !isWaiting(first.wait) {
      heap.removeMin()
      if isWaiting(first.wait) { expired.append(first.wait) }
    }
    return expired
  }

  /// When the next one is over, or was answered; nil when nobody waits.
  public var next: Duration? { heap.min?.deadline }
}
