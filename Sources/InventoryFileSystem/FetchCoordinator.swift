import BlockCache
import Dispatch
import Locks
import Logging
import ObjectStore
import ReadPlanning

/// Carries out the decisions of `FetchPlanner`, and connects planner, store, cache and parked
/// readers.
///
/// For every event (a reader's, the network's, a timer's) the reporting thread takes the lock,
/// tells the planner, collects its actions with the objects that they concern, releases the lock,
/// and carries the actions out. A read whose bytes are present never leaves its own thread and
/// takes the lock three times, each for a moment: for the planner to pin, for the chunk's files,
/// and for the planner to unpin.
final class FetchCoordinator: Sendable {
  // Dependencies
  let store: any ChunkStore
  let cache: BlockCache
  let references: ChunkReferences
  let logger: Logger
  let clock: any FileSystemClock
  let retries: StoreRetries
  let verifier: ChunkVerifier
  // Constants
  /// How many chunks that no reader has open any more are kept ready for the next open: their index
  /// is in memory, their ETag known and their blocks checked.
  let lingeringChunkCount: Int
  /// The part of the cache's size that the planner does not give out; see
  /// `BlockCache.boundForBlocks(cacheSizeInBytes:)`.
  let cacheReserveInBytes: Int
  let readTimeout: Duration
  /// How long a chunk must not have been read before it is compared with the manifest's MD5 in the
  /// background.
  let quietTime: Duration
  let isStrict: Bool
  // Queues, for work that the thread that reports an event does not do itself
  /// Runs work that accesses the cache's disk: preparing chunks before their reader opens them,
  /// opening chunks once their version is known, decoding footers, testing whether the disk works
  /// again.
  let background = DispatchQueue(label: "background")
  /// Ends waits. Work that accesses the disk or the log, which may hang, does not run here.
  let deadlines = DispatchQueue(label: "deadlines")
  /// Writes log lines of threads that the log must not block.
  let lines = DispatchQueue(label: "lines")
  // Mutable state
  let state: Lock<State>
  /// One lock per chunk, which is held while its files are opened, so that two readers do not load
  /// it twice. It is taken before `state`.
  private let loading = KeyedLock<ChunkID>()
  /// One lock per chunk, which is held while a loan of its file to the kernel begins or ends: both
  /// ask the cache's file system who has the file open, which must not keep `state` when the disk
  /// hangs. It is taken before `state`.
  let lending = KeyedLock<ChunkID>()

  init(
    store: any ChunkStore, cache: BlockCache, cacheReserveInBytes: Int, planner: FetchPlanner,
    references: ChunkReferences, readTimeout: Duration, verificationMode: VerificationMode,
    quietTime: Duration, lingeringChunkCount: Int, clock: any FileSystemClock, logger: Logger
  ) {
    isStrict = verificationMode == .strict
    verifier = ChunkVerifier(isPatient: !isStrict)
    self.cacheReserveInBytes = cacheReserveInBytes
    self.quietTime = quietTime
    self.store = store
    self.clock = clock
    retries = StoreRetries(clock, logger)
    self.lingeringChunkCount = lingeringChunkCount
    self.readTimeout = readTimeout
    self.cache = cache
    self.references = references
    self.logger = logger
    state = Lock(State(clock: clock, planner: planner))
  }

  /// Reads the entries that earlier runs left in the cache. Until it returns no bytes are fetched,
  /// because the cache's fill level is unknown; it needs a thread of its own.
  func takeOverCache() {
    do {
      try adoptEntries()
    } catch {
      // Until the entries can be listed, nothing is stored beside them.
      state.withLock { $0.disk.isScanDue = true }
      cachingFailed(error)
    }
    checkRoom()
    perform { state in
      for (wait, waiting) in state.waiting {
        guard case .attribute = waiting else { continue }
        state.waiting[wait] = nil
        state.work.append(.succeed(waiting))
      }
      return state.planner.cacheIsKnown()
    }
  }

  /// Lets the planner count the entries that earlier runs left.
  func adoptEntries() throws(BlockCacheError) {
    try cache.scan { found in
      state.withLock {
        $0.planner.adopt(
          found.entry, overheadInBytes: found.overheadInBytes, segments: found.segments)
      }
    }
  }

  // MARK: Readers

  /// Opens a chunk for a reader.
  ///
  /// - Parameter file: the file for the reader; `parked` gets it later when the store has to be
  ///   asked first.
  func open(
    _ chunk: ChunkReference, file: (HandleID, _ mayKeepPages: Bool) -> OpenFile,
    parked: () -> any ParkedOpen
  ) throws(FileSystemError) -> OpenOutcome {
    while true {
      var outcome: Result<OpenOutcome, FileSystemError>?
      perform { state in
        guard !state.isShutDown else {
          outcome = .failure(.shuttingDown)
          return []
        }
        // The chunk is loaded, and loaded again where another reader's close has unloaded it since.
        guard state.open[chunk.id] != nil else { return [] }
        guard !state.changed.contains(chunk.id) else {
          outcome = .failure(.stale)
          return []
        }
        state.lingering.removeAll { $0 == chunk.id }
        let handle = HandleID(number: state.nextNumber())
        let wait = WaitID(number: state.nextNumber())
        let file = file(handle, state.mayKeepPages(of: chunk.id))
        let (decision, actions) = state.planner.open(chunk.id, handle: handle, wait: wait)
        switch decision {
        case .present:
          outcome = .success(.opened(file))
        case .wait:
          state.park(wait, .open(parked(), file), for: readTimeout)
          outcome = .success(.parked(wait))
        }
        return actions
      }
      if let outcome { return try outcome.get() }
      load(chunk, isForReader: true)
    }
  }

  enum OpenOutcome {
    case opened(OpenFile)
    case parked(WaitID)
  }

  func close(_ handle: HandleID, of id: ChunkID, mayBlock: Bool = true) {
    perform(mayBlock: mayBlock) { $0.close(handle, of: id) }
  }

  /// - Parameter isForReader: the chunk must be loaded, if need be without files.
  func load(_ chunk: ChunkReference, isForReader: Bool) {
    loading.withLock(of: chunk.id) {
      guard state.withLock({ $0.open[chunk.id] == nil && !$0.isShutDown }) else { return }
      guard let entry = openEntry(chunk, isForReader: isForReader) else {
        return state.withLock { $0.planner.cannotPrepare(chunk.id) }
      }
      let eTag = entry.eTag ?? chunk.eTag
      if entry.eTag == nil, let eTag { entry.record(eTag: eTag) }
      let isVerified = entry.isVerified
      perform { state in
        state.open[chunk.id] = OpenChunk(id: chunk.id, location: chunk.location, entry: entry)
        if let eTag { state.know(eTag, of: chunk.id) }
        state.planner.load(
          chunk.id, sizeInBytes: chunk.identity.sizeInBytes, entry: entry.id,
          overheadInBytes: entry.overheadInBytes, present: entry.presentBlocks,
          isVersionKnown: eTag != nil, opening: chunk.opening, isMemoryOnly: entry.isMemoryOnly,
          isVerifiable: chunk.md5 != nil, isVerified: isVerified)
        if entry.isMemoryOnly { state.memoryOnly.insert(chunk.id) }
        return state.planner.resume()
      }
    }
  }

  private func openEntry(_ chunk: ChunkReference, isForReader: Bool) -> CacheEntry? {
    do {
      return try openFiles(chunk)
    } catch {
      if !isForReader, let shortage = error.descriptorShortage {
        logger.debug("\(chunk.location): not prepared for its reader: \(shortage)")
        return nil
      }
      cachingFailed(error)
      return isForReader ? cache.openInMemory(chunk.identity) : nil
    }
  }

  /// Opens the chunk's files. If no descriptors are left for them, those of chunks that nobody has
  /// open are closed before.
  private func openFiles(_ chunk: ChunkReference) throws(BlockCacheError) -> CacheEntry {
    do {
      return try cache.open(chunk.identity)
    } catch {
      guard error.descriptorShortage != nil else { throw error }
    }
    closeIdleChunks()
    return try cache.open(chunk.identity)
  }

  enum ReadOutcome: Equatable {
    case copied
    case parked(WaitID)
  }

  /// Copies `bytes`, which lie inside the chunk and are not empty, or parks the reader.
  func read(
    _ id: ChunkID, handle: HandleID, bytes: Range<Int>, into buffer: UnsafeMutableRawBufferPointer,
    parked: () -> any ParkedRead
  ) throws(FileSystemError) -> ReadOutcome {
    while true {
      var wait: WaitID?
      var failure: FileSystemError?
      perform { state in
        guard let chunk = state.open[id], !state.isShutDown else {
          failure = .shuttingDown
          return []
        }
        guard !state.changed.contains(chunk.id) else {
          failure = .stale
          return []
        }
        let ticket = WaitID(number: state.nextNumber())
        let (decision, actions) = state.planner.read(id, handle: handle, bytes: bytes, wait: ticket)
        if decision == .wait {
          if state.isOverdue(id, bytes), let more = state.planner.cancel(ticket) {
            failure = state.lastFailures[id]?.fileSystemError ?? .inputOutput
            return actions + more
          }
          state.park(ticket, .read(parked(), chunk, bytes), for: readTimeout)
          wait = ticket
        }
        return actions
      }
      if let failure { throw failure }
      if let wait { return .parked(wait) }
      if try copy(id, bytes: bytes, into: buffer) { return .copied }
    }
  }

  /// Copies bytes that are pinned, and unpins them. Returns false when stored bytes are corrupt:
  /// they are then dropped, and the read has to be repeated.
  func copy(
    _ id: ChunkID, bytes: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(FileSystemError) -> Bool {
    guard let chunk = state.withLock({ $0.open[id] }) else { throw .shuttingDown }
    defer { perform { $0.planner.finishedReading(id, bytes: bytes) } }
    do {
      guard try dropFirstCorruptBlock(in: bytes, of: chunk) else { return false }
      try chunk.entry.read(
        into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<bytes.count]), at: bytes.lowerBound)
      return true
    } catch {
      unreadable(chunk, bytes, error)
      return false
    }
  }

  /// Checks blocks of an earlier run; returns false when a block is damaged and will be fetched
  /// again.
  func dropFirstCorruptBlock(
    in bytes: Range<Int>, of chunk: OpenChunk
  ) throws(BlockCacheError) -> Bool {
    guard let corrupt = try chunk.entry.firstCorruptBlock(in: chunk.grid.blocks(covering: bytes))
    else { return true }
    logger.warning(
      "\(chunk.location): cached bytes \(chunk.grid.bytes(of: corrupt..<corrupt + 1)) are damaged; fetching them again"
    )
    state.withLock { state in
      state.damagedBlockCount += 1
      state.planner.discarded(chunk.id, blocks: corrupt..<corrupt + 1)
    }
    return false
  }

  /// Ends the wait of an interrupted reader, which gets `.interrupted`, unless it has a reply
  /// already.
  func interrupt(_ wait: WaitID) {
    var waiting: Waiting?
    perform(mayBlock: false) { state in
      let (found, actions) = state.letGo(of: wait)
      waiting = found
      return actions
    }
    guard let waiting else { return }
    if case .open(_, let file) = waiting, case .chunk(let id, let handle) = file.content {
      close(handle, of: id, mayBlock: false)
    }
    waiting.fail(.interrupted)
  }

  // MARK: For the tree

  /// The ETag of an open chunk.
  func eTag(of id: ChunkID) -> String? { state.withLock { $0.eTags[id] } }

  /// Whether the chunk's object was seen to have another version by now.
  func isGone(_ eTag: String, of id: ChunkID) -> Bool {
    state.withLock { $0.goneETags[id] == eTag }
  }

  /// Parks a request for the cache's content, as long as the cache is still being scanned.
  ///
  /// - Returns: nil when the content is known, and no request was parked.
  func untilCacheIsKnown(
    parked: () -> any ParkedAttribute,
    value: @escaping @Sendable () throws(FileSystemError) -> [UInt8]
  ) -> Interruption? {
    var wait: WaitID?
    perform { state in
      guard !state.planner.isCacheKnown, !state.isShutDown else { return [] }
      let number = WaitID(number: state.nextNumber())
      state.park(number, .attribute(parked(), value), for: readTimeout)
      wait = number
      return []
    }
    return wait.map { Interruption(wait: $0, self) }
  }

  /// How many bytes of the chunk are in the cache.
  func cachedBytes(of chunk: ChunkReference) -> Int {
    let entry = cache.find(chunk.identity)
    return state.withLock {
      $0.planner.cachedBytes(
        of: chunk.id, entry: entry, sizeInBytes: chunk.identity.sizeInBytes)
    }
  }

  var isShutDown: Bool { state.withLock { $0.isShutDown } }

  /// Fails all present and later requests, waits for the network to end, and closes the cache's
  /// files.
  func shutDown() {
    let waiting = state.withLock { state in
      state.isShutDown = true
      return exchange(&state.waiting, with: [:]).values
    }
    for waiting in waiting { waiting.fail(.shuttingDown) }
    retries.shutDown()
    store.shutDown()
    verifier.stop()
    for chunk in state.withLock({ Array($0.open.values) }) { cache.close(chunk.entry) }
  }
}
