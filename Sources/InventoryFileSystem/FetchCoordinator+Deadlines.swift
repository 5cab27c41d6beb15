import ReadPlanning

// The longest that a reader waits (`--read-timeout`): a wait that is not answered by then fails,
// whatever the store or we ourselves are doing, and although the cache's disk hangs: the threads
// that tell do not touch it.
//
// What has no bound is a disk that hangs under a thread which serves readers. A read whose bytes
// are in the cache waits for nobody any more, and is copied for as long as that takes; no call to
// read(2) of a local disk can be taken back. Two of them that had to wait before keep the next ones
// that had to (`ReplyPool`), four that did not, or four opens of chunks that are not loaded, keep
// all requests of the kernel.
//
// When a request of its read-ahead fails, Linux asks for the first page once more, at once, before
// the reader is told. Who waits then has waited already: bytes whose time was over a moment ago,
// and which are still not here, are an error without waiting.

/// A read whose time is over.
struct OverdueRead {
  /// For so long bytes that did not come in time are not waited for again.
  static let memory = Duration.seconds(2)

  let chunk: ChunkID
  let bytes: Range<Int>
  let forgottenAt: Duration
}

extension FetchCoordinator.State {
  /// Keeps who waits, for no longer than `timeout`.
  mutating func park(
    _ wait: WaitID, _ waiting: FetchCoordinator.Waiting, for timeout: Duration
  ) {
    self.waiting[wait] = waiting
    let everyone = self.waiting
    deadlines.add(
      wait, deadline: clock.now + timeout, waitCount: everyone.count,
      isWaiting: { everyone[$0] != nil })
    planExpiry()
  }

  /// Takes out who waits, for the caller to answer: nil when that has been done already, or is just
  /// about to be.
  mutating func letGo(
    of wait: WaitID
  ) -> (waiting: FetchCoordinator.Waiting?, [FetchPlanner.Action]) {
    // What the planner knows nothing of.
    if case .attribute? = waiting[wait] { return (waiting.removeValue(forKey: wait), []) }
    guard let actions = planner.cancel(wait) else { return (nil, []) }
    return (waiting.removeValue(forKey: wait), actions)
  }

  /// Whether somebody has just waited for some of these bytes as long as one may.
  mutating func isOverdue(_ chunk: ChunkID, _ bytes: Range<Int>) -> Bool {
    guard !overdue.isEmpty else { return false }
    let now = clock.now
    overdue.removeAll { $0.forgottenAt <= now }
    return overdue.contains { $0.chunk == chunk && $0.bytes.overlaps(bytes) }
  }

  mutating func planExpiry() {
    guard let next = deadlines.next, plannedExpiry.map({ next < $0 }) ?? true else { return }
    plannedExpiry = next
    work.append(.expire(next, after: max(.milliseconds(10), next - clock.now)))
  }
}

extension FetchCoordinator {
  /// - Parameter planned: the time that this call was planned for. Where an earlier one was planned
  ///   afterwards, that one has planned this time once more.
  func expireWaits(planned: Duration) {
    perform(mayBlock: false) { state in
      guard state.plannedExpiry == planned else { return [] }
      state.plannedExpiry = nil
      let everyone = state.waiting
      let now = clock.now
      var actions: [FetchPlanner.Action] = []
      for wait in state.deadlines.takeExpired(at: now, isWaiting: { everyone[$0] != nil }) {
        let (found, more) = state.letGo(of: wait)
        actions += more
        guard let waiting = found else { continue }
        if case .read(_, let chunk, let bytes) = waiting {
          state.overdue.append(
            OverdueRead(chunk: chunk.id, bytes: bytes, forgottenAt: now + OverdueRead.memory))
        }
        let (chunk, what) = waiting.subject(in: state)
        let failure = chunk.flatMap { state.lastFailures[$0.id] }
        let location = chunk.map { "\($0.location)" } ?? "a chunk"
        let reason =
          chunk.flatMap { chunk in failure.map { $0.message(about: chunk.location) } }
          ?? "the store reported no error"
        state.log(
          .error,
          "\(location): \(what) took longer than --read-timeout \(readTimeout); last: \(reason)")
        state.work.append(.fail(waiting, failure?.fileSystemError ?? .inputOutput))
      }
      state.planExpiry()
      return actions
    }
  }
}

extension FetchCoordinator.Waiting {
  /// The chunk that is waited for, and what of it.
  fileprivate func subject(in state: FetchCoordinator.State) -> (chunk: OpenChunk?, String) {
    switch self {
    case .read(_, let chunk, let bytes):
      return (chunk, "reading bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)")
    case .open(_, let file):
      guard case .chunk(let id, _) = file.content else { return (nil, "opening it") }
      return (state.open[id], "opening it")
    case .attribute: return (nil, "looking through the cache for what it holds of it")
    }
  }
}
