import BlockCache
import Blocks
import Dispatch
import ReadPlanning

// What becomes of reads while the cache's disk is full or fails: the planner has them served
// through memory, and here it is tried now and then whether the disk works again.

extension FetchCoordinator {
  private static let probeInterval = Duration.seconds(2)
  private static let roomCheckInterval = Duration.seconds(1)
  /// A disk that comes and goes is not worth a warning each time.
  private static let warningInterval = Duration.seconds(600)

  /// What is known of the cache's disk; guarded by `state`.
  struct DiskState {
    var roomCheckedAt: Duration?
    var warnedAt: Duration?
    var isProbing = false
    /// Leaving segments whose holes could not be punched.
    var stuckSegments: [Segment] = []
  }

  /// Something could not be written to the cache: says so once, has the planner do without, and
  /// tries again later.
  func cachingFailed(
    _ reason: String,
    _ event: (inout sending State) -> [FetchPlanner.Action] = { $0.planner.cachingFailed() }
  ) {
    var isNew = false
    perform { state in
      isNew = noteFailure(&state)
      return event(&state)
    }
    report(reason, isNew: isNew)
  }

  /// - Returns: whether it is worth a warning.
  private func noteFailure(_ state: inout State) -> Bool {
    if !state.disk.isProbing {
      state.disk.isProbing = true
      scheduleProbe()
    }
    let now = clock.now
    if let last = state.disk.warnedAt, now - last < Self.warningInterval {
      return false
    }
    state.disk.warnedAt = now
    return true
  }

  private func report(_ reason: String, isNew: Bool) {
    if isNew {
      logger.warning(
        "\(reason); until that is mended chunks are read without being cached, and slower")
    } else {
      logger.debug("\(reason); not caching")
    }
  }

  private func scheduleProbe() {
    clock.schedule(after: Self.probeInterval, on: background) { [weak self] in self?.probe() }
  }

  private func probe() {
    let stuck = state.withLock { $0.isShutDown ? nil : exchange(&$0.disk.stuckSegments, with: []) }
    guard let stuck else { return }
    for segment in stuck { evict(segment) { event in perform { event(&$0) } } }
    var failure: BlockCacheError?
    do {
      try cache.probe()
    } catch {
      failure = error
    }
    let room = cache.roomInBytes()
    var isWell = false
    perform { state in
      let actions = room.map { state.planner.noteRoom(inBytes: $0) } ?? []
      isWell = failure == nil && state.disk.stuckSegments.isEmpty && !state.planner.isShortOfRoom
      guard isWell else { return actions }
      state.disk.isProbing = false
      return actions + state.planner.cachingResumed()
    }
    if isWell {
      logger.notice("cache: \(cache.path) can be written again; caching goes on")
    } else {
      scheduleProbe()
    }
  }

  /// Punches a hole, and has it booked if that succeeded; if not, the space stays on the books
  /// until it does.
  func evict(
    _ segment: Segment,
    tellPlanner: ((inout State) -> [FetchPlanner.Action]) -> Void
  ) {
    do {
      try cache.evict(segment)
    } catch {
      return cachingFailed("\(error)") { state in
        state.disk.stuckSegments.append(segment)
        return state.planner.cachingFailed()
      }
    }
    var isIdle = false
    tellPlanner { state in
      let (isEntryIdle, actions) = state.planner.evicted(segment)
      isIdle = isEntryIdle
      return actions
    }
    if isIdle, cache.removeIfIdle(segment.entry) {
      tellPlanner { $0.planner.removed(segment.entry) }
    }
  }

  /// Looks, once in a while, how much room the disk has; before a request whose bytes will need
  /// some.
  func checkRoom() {
    let isDue = state.withLock { state in
      let now = clock.now
      if let last = state.disk.roomCheckedAt, now - last < Self.roomCheckInterval {
        return false
      }
      state.disk.roomCheckedAt = now
      return true
    }
    guard isDue, let room = cache.roomInBytes() else { return }
    var warning: Bool?
    perform { state in
      let actions = state.planner.noteRoom(inBytes: room)
      guard state.planner.isShortOfRoom, !state.planner.isCachingPaused else { return actions }
      warning = noteFailure(&state)
      return actions + state.planner.cachingFailed()
    }
    if let warning {
      report("cache: the disk of \(cache.path) has too little room", isNew: warning)
    }
  }

  /// Stored bytes could not be read: they are dropped, and the read is made anew.
  func unreadable(_ chunk: OpenChunk, _ bytes: Range<Int>, _ error: BlockCacheError) {
    let isGivenUp = state.withLock { state in
      guard
        state.planner.unreadable(chunk.id, blocks: chunk.grid.blocks(covering: bytes))
      else { return false }
      state.memoryOnly.insert(chunk.id)
      return true
    }
    logger.warning("\(chunk.location): \(error); fetching the bytes again")
    // Whoever opens the chunk after its last reader has gone starts with an empty entry.
    if isGivenUp { cache.discard(chunk.entry) }
  }
}
