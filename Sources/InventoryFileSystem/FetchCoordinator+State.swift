import Logging
import ObjectStore
import ReadPlanning

// The coordinator's state and the waiting readers, all under one lock.

extension FetchCoordinator {
  struct State {
    let clock: any FileSystemClock
    var planner: FetchPlanner
    var open: [ChunkID: OpenChunk] = [:]
    var eTags: [ChunkID: String] = [:]
    /// The ETags that chunks had when this run first saw them. The kernel may have pages of those
    /// versions.
    var firstETags: [ChunkID: String] = [:]
    /// Chunks that had another version afterwards, so that pages of both may be there.
    var replaced: Set<ChunkID> = []
    /// Chunks whose object was replaced under their readers: they fail until the last one closes.
    var changed: Set<ChunkID> = []
    /// The ETags of those objects, which must not be requested again.
    var goneETags: [ChunkID: String] = [:]
    /// Chunks whose cache files cannot be used: they are read through memory until the last reader
    /// closes.
    var memoryOnly: Set<ChunkID> = []
    var transfers: [PartID: PartTransfer] = [:]
    var requests: [PartID: StoreTransfer] = [:]
    /// Parts that were cancelled while their request was just about to be sent.
    var unwanted: Set<PartID> = []
    var waiting: [WaitID: Waiting] = [:]
    var deadlines = WaitDeadlines()
    /// When `expireWaits` will be called.
    var plannedExpiry: Duration?
    /// Reads whose timeout passed a moment ago.
    var overdue: [OverdueRead] = []
    /// The last failures of chunks whose parts had to be retried, until a part has all its bytes.
    var lastFailures: [ChunkID: FetchFailure] = [:]
    var failures = FailureReports()
    /// When the log last had a warning of a store that keeps failing.
    var warnedAt: Duration?
    /// Work that is not one of the planner's actions.
    var work: [Work] = []
    /// Loaded chunks that no reader has open, the oldest first.
    var lingering: [ChunkID] = []
    var lastNumber: UInt64 = 0
    var disk = DiskState()
    var isShutDown = false
    /// How many cached blocks differed from the bytes that had been stored.
    var damagedBlockCount = 0

    mutating func nextNumber() -> UInt64 {
      lastNumber += 1
      return lastNumber
    }

    mutating func know(_ eTag: String, of id: ChunkID) {
      eTags[id] = eTag
      if firstETags[id, default: eTag] != eTag { replaced.insert(id) }
      firstETags[id] = firstETags[id] ?? eTag
    }

    /// Whether the kernel may keep its pages of a chunk which is being opened, because they are of
    /// the chunk's version and undamaged.
    func mayKeepPages(of id: ChunkID) -> Bool {
      planner.mayKeepPages(of: id) && !replaced.contains(id)
        && (eTags[id] != nil || firstETags[id] == nil)
    }

    mutating func forget(_ part: PartID) {
      transfers[part] = nil
      requests[part] = nil
      unwanted.remove(part)
    }

    /// Logs a line once the lock is released, because a slow log must not block readers. Readers
    /// that fail because of this event get the error after the line is written, unless the thread
    /// may not block.
    mutating func log(_ level: Logger.Level, _ line: String) {
      work.append(.log(level, line))
    }

    mutating func close(_ handle: HandleID, of id: ChunkID) -> [FetchPlanner.Action] {
      let actions = planner.close(handle)
      // Parts that waited for their next attempt have ended with the chunk's last reader.
      for part in transfers.keys where !planner.isUnderWay(part) { forget(part) }
      letLinger(id)
      return actions
    }

    mutating func letLinger(_ id: ChunkID) {
      if planner.isUnused(id), !lingering.contains(id) { lingering.append(id) }
    }

    /// Unloads unused chunks, the longest unused first, and at once those whose object has changed
    /// or whose files are not used.
    mutating func closeIdle(keeping limit: Int) {
      guard lingering.count > limit || !changed.isEmpty || !memoryOnly.isEmpty else { return }
      var excess = lingering.count - limit
      lingering.removeAll { id in
        guard excess > 0 || changed.contains(id) || memoryOnly.contains(id), planner.isIdle(id),
          let chunk = open.removeValue(forKey: id)
        else { return false }
        excess -= 1
        let isEmpty = planner.unload(id)
        eTags[id] = nil
        lastFailures[id] = nil
        let isOfNoUse = [changed.remove(id), memoryOnly.remove(id)].contains(id)
        work.append(.close(chunk, isRemoved: isOfNoUse || isEmpty))
        return true
      }
    }
  }

  /// A parked request, which gets a reply when the bytes that it waits for arrive or fail; the
  /// planner's `WaitID` is its key.
  enum Waiting: Sendable {
    case read(any ParkedRead, OpenChunk, Range<Int>)
    case open(any ParkedOpen, OpenFile)
    /// An attribute that depends on the cache's content.
    case attribute(any ParkedAttribute, @Sendable () throws(FileSystemError) -> [UInt8])

    func succeed() {
      switch self {
      case .read(let read, _, _): read.ready()
      case .open(let open, let file): open.opened(file)
      case .attribute(let attribute, let value):
        do throws(FileSystemError) {
          attribute.found(try value())
        } catch {
          attribute.fail(error)
        }
      }
    }

    func fail(_ error: FileSystemError) {
      switch self {
      case .read(let read, _, _): read.fail(error)
      case .open(let open, _): open.fail(error)
      case .attribute(let attribute, _): attribute.fail(error)
      }
    }
  }
}
