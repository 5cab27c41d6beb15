import BlockCache
import Blocks
import Dispatch
import Locks
import Logging
import ObjectStore
import ReadPlanning

// Carries out the planner's decisions, on the thread that reported the event, once the lock is
// released.

extension FetchCoordinator {
  /// An action with the objects needed to carry it out.
  enum Work: Sendable {
    case send(PartTransfer, eTag: String?)
    case cancel(StoreTransfer)
    case succeed(Waiting)
    case fail(Waiting, FileSystemError)
    case evict(Segment)
    case close(OpenChunk, isRemoved: Bool)
    case retry(PartID, after: Duration)
    case expire(Duration, after: Duration)
    case prepare(ChunkReference)
    case decodeFooter(OpenChunk, tail: Range<Int>)
    case verification(FetchPlanner.Action)
    case log(Logger.Level, String)
    case summarize(FailureReports.Key, after: Duration)

    /// Whether the work accesses the cache's disk.
    var isForDisk: Bool {
      switch self {
      case .evict, .close: true
      default: false
      }
    }
  }

  /// Reports an event to the planner, under the lock, and carries out its decisions without the
  /// lock.
  ///
  /// - Parameters:
  ///   - failure: the error for requests that fail because of this event.
  ///   - mayBlock: whether the thread may block in a disk or a log that hangs. Otherwise actions
  ///     that access those are left to `background` and `lines`.
  func perform(
    failure: FileSystemError = .inputOutput, mayBlock: Bool = true,
    _ event: (inout sending State) -> [FetchPlanner.Action]
  ) {
    carryOut(plan(failure: failure, event), mayBlock: mayBlock)
  }

  /// The first half of `perform`, for a caller that holds a lock of its own, which it releases
  /// before it carries the work out.
  func plan(
    failure: FileSystemError = .inputOutput,
    _ event: (inout sending State) -> [FetchPlanner.Action]
  ) -> [Work] {
    state.withLock { state in
      let actions = event(&state)
      return resolve(actions, failure, &state)
    }
  }

  func carryOut(_ work: [Work], mayBlock: Bool = true) {
    var pending = work
    while !pending.isEmpty {
      var next: [Work] = []
      for work in pending {
        guard mayBlock || !work.isForDisk else {
          background.async { [weak self] in self?.carryOut([work], mayBlock: true) }
          continue
        }
        carryOut(work, mayBlock: mayBlock, &next)
      }
      pending = next
    }
  }

  private func resolve(
    _ actions: [FetchPlanner.Action], _ failure: FileSystemError, _ state: inout State
  ) -> [Work] {
    for action in actions {
      switch action {
      case .fetch(let part):
        // A request that is refused at once would be planned again at once, and so on without end.
        guard let chunk = state.open[part.chunk], !state.isShutDown else { continue }
        let transfer =
          state.transfers[part.id] ?? PartTransfer(part: part, chunk: chunk, coordinator: self)
        state.transfers[part.id] = transfer
        state.work.append(.send(transfer, eTag: state.eTags[part.chunk]))
      case .cancel(let part):
        if let request = state.requests[part] {
          state.work.append(.cancel(request))
        } else {
          state.unwanted.insert(part)
        }
      case .answer(let wait), .opened(let wait):
        if let waiting = state.waiting.removeValue(forKey: wait) {
          state.work.append(.succeed(waiting))
        }
      case .fail(let wait):
        if let waiting = state.waiting.removeValue(forKey: wait) {
          state.work.append(.fail(waiting, failure))
        }
      case .evict(let segment):
        state.work.append(.evict(segment))
      case .drop(let chunk, let block):
        // This is done at once, so that there are never more blocks in memory than the planner
        // counts.
        state.open[chunk]?.entry.drop(block: block)
      case .decodeFooter(let chunk, let tail):
        if let open = state.open[chunk] { state.work.append(.decodeFooter(open, tail: tail)) }
      case .verify, .verifyLater, .cannotVerify:
        state.work.append(.verification(action))
      case .prepare(let chunk):
        if let reference = references.reference(to: chunk, eTag: nil) {
          state.work.append(.prepare(reference))
        } else {
          state.planner.cannotPrepare(chunk)
        }
      }
    }
    for chunk in state.planner.takeReleased() { state.letLinger(chunk) }
    state.closeIdle(keeping: lingeringChunkCount)
    return state.work.isEmpty ? [] : exchange(&state.work, with: [])
  }

  private func carryOut(_ work: Work, mayBlock: Bool, _ next: inout [Work]) {
    func follow(_ event: (inout State) -> [FetchPlanner.Action]) {
      next += state.withLock { resolve(event(&$0), .inputOutput, &$0) }
    }
    switch work {
    case .send(let transfer, let eTag):
      if mayBlock { checkRoom() }
      let request = store.get(
        ObjectRequest(
          transfer.chunk.location, range: transfer.remaining,
          objectSizeInBytes: transfer.chunk.grid.sizeInBytes, ifMatch: eTag,
          attempt: transfer.nextAttempt()),
        to: transfer)
      let isUnwanted = state.withLock { state in
        // The transfer may have ended before this line.
        guard state.transfers[transfer.part.id] != nil else { return false }
        state.requests[transfer.part.id] = request
        return state.unwanted.remove(transfer.part.id) != nil
      }
      if isUnwanted { request.cancel() }
    case .cancel(let request):
      request.cancel()
    case .succeed(let waiting):
      waiting.succeed()
    case .fail(let waiting, let error):
      if case .open(_, let file) = waiting, case .chunk(let id, let handle) = file.content {
        follow { $0.close(handle, of: id) }
      }
      waiting.fail(error)
    case .evict(let segment):
      evict(segment) { follow($0) }
    case .close(let chunk, let isRemoved):
      cache.close(chunk.entry)
      if isRemoved, cache.removeIfIdle(chunk.entry.id) {
        follow { $0.planner.removed(chunk.entry.id) }
      }
    case .decodeFooter(let chunk, let tail):
      background.async { [weak self] in self?.decodeFooter(of: chunk, tail: tail) }
    case .verification(let action):
      carryOutVerification(action)
    case .log(let level, let line):
      guard mayBlock else {
        return lines.async { [logger] in logger.log(level: level, "\(line)") }
      }
      logger.log(level: level, "\(line)")
    case .prepare(let chunk):
      background.async { [weak self] in
        guard let self else { return }
        load(chunk, isForReader: false)
        // The part may have been cancelled by now.
        perform { state in
          if state.planner.isIdle(chunk.id) { state.letLinger(chunk.id) }
          return []
        }
      }
    case .retry(let part, let delay):
      clock.schedule(after: delay, on: retries.queue) { [weak self] in
        self?.perform(mayBlock: false) { $0.planner.retry(part) }
      }
    case .summarize(let key, let delay):
      clock.schedule(after: delay, on: deadlines) { [weak self] in self?.summarize(key) }
    case .expire(let planned, let delay):
      clock.schedule(after: delay, on: deadlines) { [weak self] in
        self?.expireWaits(planned: planned)
      }
    }
  }
}
