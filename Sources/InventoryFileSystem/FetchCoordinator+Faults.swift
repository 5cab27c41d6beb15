import BlockCache
import Blocks
import Dispatch
import Posix
import ReadPlanning
import SystemPackage

// Handles a cache disk that is full or fails: the planner meanwhile serves reads through memory,
// and the code here tests now and then whether the disk works again.

extension FetchCoordinator {
  private static let probeInterval = Duration.seconds(2)
  private static let roomCheckInterval = Duration.seconds(1)
  /// The shortest time between two warnings, since a disk may fail again and again.
  private static let warningInterval = Duration.seconds(600)

  /// The state of the cache's disk; guarded by `state`.
  struct DiskState {
    var roomCheckedAt: Duration?
    var warnedAt: Duration?
    var isProbing = false
    /// Whether the log has a warning of the present failure.
    var isAnnounced = false
    /// Whether the entries of earlier runs could not be listed yet.
    var isScanDue = false
    /// The evicted segments whose holes could not be punched yet.
    var stuckSegments: [Segment] = []
  }

  /// Handles a failed write to the cache: logs one warning, makes the planner do without caching,
  /// and tests the disk again later.
  func cachingFailed(
    _ error: BlockCacheError,
    _ event: (inout sending State) -> [FetchPlanner.Action] = { $0.planner.cachingFailed() }
  ) {
    var isNew = false
    perform { state in
      isNew = noteFailure(&state)
      return event(&state)
    }
    // Which descriptors are missing does not matter: the disk is as well as ever.
    report(
      error.descriptorShortage.map { "cache: a file cannot be opened: \($0)" } ?? "\(error)",
      isNew: isNew)
  }

  /// Closes the files of chunks that nobody has open.
  func closeIdleChunks() {
    perform { state in
      state.closeIdle(keeping: 0)
      return []
    }
  }

  /// Plans the next test of the disk.
  ///
  /// - Returns: whether to log a warning.
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
    state.disk.isAnnounced = true
    return true
  }

  private func report(_ reason: String, isNew: Bool) {
    if isNew {
      logger.warning(
        "\(reason); until it works again, chunks are read without caching, which is slower")
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
    do throws(BlockCacheError) {
      if state.withLock({ $0.disk.isScanDue }) {
        try adoptEntries()
        state.withLock { $0.disk.isScanDue = false }
      }
      try cache.probe()
    } catch {
      failure = error
      if error.descriptorShortage != nil { closeIdleChunks() }
    }
    let room = cache.roomInBytes()
    var isWell = false
    var isAnnounced = false
    perform { state in
      let actions = room.map { state.planner.noteRoom(inBytes: $0) } ?? []
      isWell = failure == nil && state.disk.stuckSegments.isEmpty && !state.planner.isShortOfRoom
      guard isWell else { return actions }
      state.disk.isProbing = false
      isAnnounced = exchange(&state.disk.isAnnounced, with: false)
      return actions + state.planner.cachingResumed()
    }
    if isWell {
      logger.log(
        level: isAnnounced ? .notice : .debug,
        "cache: \(cache.path) can be written again; caching resumes")
    } else {
      scheduleProbe()
    }
  }

  /// Punches a hole, and lets the planner account for it if that succeeded; if not, the space
  /// counts as used until it does.
  func evict(
    _ segment: Segment,
    tellPlanner: ((inout State) -> [FetchPlanner.Action]) -> Void
  ) {
    do {
      try cache.evict(segment)
    } catch {
      return cachingFailed(error) { state in
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

  /// Checks once in a while how much room the disk has, before a request whose bytes will need
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

  /// Handles stored bytes that could not be read: drops them, and repeats the read.
  func unreadable(_ chunk: OpenChunk, _ bytes: Range<Int>, _ error: BlockCacheError) {
    let isGivenUp = state.withLock { state in
      guard
        state.planner.unreadable(chunk.id, blocks: chunk.grid.blocks(covering: bytes))
      else { return false }
      state.memoryOnly.insert(chunk.id)
      return true
    }
    logger.warning("\(chunk.location): \(error); fetching the bytes again")
    // An open after the chunk's last reader has gone starts with an empty entry.
    if isGivenUp { cache.discard(chunk.entry) }
  }
}

extension BlockCacheError {
  /// The shortage of file descriptors that the error is due to.
  var descriptorShortage: DescriptorShortage? {
    guard case .system(_, _, let errno) = self else { return nil }
    return DescriptorShortage(errno: errno.rawValue)
  }
}
