import Posix
import ReadPlanning

// The longest time that a reader waits (`--read-timeout`): a wait that has no result by then fails,
// whatever the store or this process is doing, and even while the cache's disk hangs, because the
// threads that report timeouts do not access the disk.
//
// A disk that hangs under a thread which serves readers has no timeout. A read whose bytes are in
// the cache no longer waits for the store, and is copied for as long as that takes; a call to
// read(2) on a local disk cannot be cancelled. Two such reads that had to wait before block the
// next reads that had to wait (`ReplyPool`); four that did not wait, or four opens of chunks that
// are not loaded, block all requests of the kernel.
//
// When a request of its read-ahead fails, Linux reads the first page once more, at once, before the
// reader gets the error. That reader has waited already: bytes whose timeout passed a moment ago,
// and which are still missing, are an error without another wait.

/// A read whose timeout has passed.
struct OverdueRead {
  /// How long after a timeout reads of the same bytes fail without another wait.
  static let memory = Duration.seconds(2)

  let chunk: ChunkID
  let bytes: Range<Int>
  let forgottenAt: Duration
}

extension FetchCoordinator.State {
  /// Registers a wait, which ends after `timeout` at the latest.
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

  /// Removes a wait, whose reader the caller must reply to; nil when another thread has replied to
  /// it already, or is just about to.
  mutating func letGo(
    of wait: WaitID
  ) -> (waiting: FetchCoordinator.Waiting?, [FetchPlanner.Action]) {
    // The planner does not know waits for attributes.
    if case .attribute? = waiting[wait] { return (waiting.removeValue(forKey: wait), []) }
    guard let actions = planner.cancel(wait) else { return (nil, []) }
    return (waiting.removeValue(forKey: wait), actions)
  }

  /// Whether a read of some of these bytes has just timed out.
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
  /// Fails the waits whose timeout has passed.
  ///
  /// - Parameter planned: the time that this call was planned for. Where an earlier call was
  ///   planned afterwards, that one has planned this time once more.
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
        let reason =
          failure.map { "last failure: \($0.text)" }
          ?? "no request has failed meanwhile: check the store and the network, or set a longer --read-timeout"
        let text = "\(what) took longer than --read-timeout \(readTimeout.roundedText); \(reason)"
        if let chunk {
          if failure?.isRetryable == true { retries.noteReport() }
          state.reportFailure(text, cause: "timeout", of: chunk.id, chunk.location)
        } else {
          state.log(.error, text)
        }
        state.work.append(.fail(waiting, failure?.fileSystemError ?? .inputOutput))
      }
      state.planExpiry()
      return actions
    }
  }
}

extension FetchCoordinator.Waiting {
  /// The chunk that the wait is for, and the operation on it.
  func subject(
    in state: FetchCoordinator.State
  ) -> (chunk: OpenChunk?, operation: String) {
    switch self {
    case .read(_, let chunk, let bytes):
      return (chunk, "reading bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)")
    case .open(_, let file):
      guard case .chunk(let id, _) = file.content else { return (nil, "opening it") }
      return (state.open[id], "opening it")
    case .attribute: return (nil, "looking up what the cache holds")
    }
  }
}
