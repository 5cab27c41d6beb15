import Logging
import ObjectStore
import ReadPlanning

// What the coordinator knows, all of it under one lock, and who waits.

extension FetchCoordinator {
  struct State {
    let clock: any FileSystemClock
    var planner: FetchPlanner
    var open: [ChunkID: OpenChunk] = [:]
    var eTags: [ChunkID: String] = [:]
    /// The versions that chunks had when this run first knew them. The kernel may have pages of
    /// them.
    var firstETags: [ChunkID: String] = [:]
    /// Chunks that had another version afterwards, so that pages of both may be there.
    var replaced: Set<ChunkID> = []
    /// Chunks whose object was replaced under their readers: they fail until the last one closes.
    var changed: Set<ChunkID> = []
    /// The versions that those were, which nobody should ask for again.
    var goneETags: [ChunkID: String] = [:]
    /// Chunks whose cache files cannot be used: they are read through memory until the last reader
    /// closes.
    var memoryOnly: Set<ChunkID> = []
    var transfers: [PartID: PartTransfer] = [:]
    var requests: [PartID: StoreTransfer] = [:]
    /// Parts that were to be cancelled while their request was just about to be sent.
    var unwanted: Set<PartID> = []
    var waiting: [WaitID: Waiting] = [:]
    var deadlines = WaitDeadlines()
    /// When `expireWaits` will be called.
    var plannedExpiry: Duration?
    /// Reads whose time was over a moment ago.
    var overdue: [OverdueRead] = []
    /// Why a chunk's parts had to be tried again, until one has all its bytes.
    var lastFailures: [ChunkID: FetchFailure] = [:]
    /// When a store that goes on failing was last warned of.
    var warnedAt: Duration?
    /// Work that is not one of the planner's actions.
    var work: [Work] = []
    /// Oldest first.
    var lingering: [ChunkID] = []
    var lastNumber: UInt64 = 0
    var disk = DiskState()
    var isShutDown = false
    /// Cached blocks that were not what had been stored.
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

    /// Whether the pages that the kernel has of a chunk which is being opened are of its version,
    /// and right.
    func mayKeepPages(of id: ChunkID) -> Bool {
      planner.mayKeepPages(of: id) && !replaced.contains(id)
        && (eTags[id] != nil || firstETags[id] == nil)
    }

    mutating func forget(_ part: PartID) {
      transfers[part] = nil
      requests[part] = nil
      unwanted.remove(part)
    }

    /// Has a line written once the lock is released: a log that takes its time must not keep
    /// readers from it. Readers that this event fails are told after the line is there, unless the
    /// thread may not block.
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

    /// Unloads chunks that nobody uses, the longest unused first, and at once those whose object
    /// has changed or whose files are not used.
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

  /// Who is told when what a wait is for is there, or cannot be had; the key is the planner's
  /// `WaitID`.
  enum Waiting: Sendable {
    case read(any ParkedRead, OpenChunk, Range<Int>)
    case open(any ParkedOpen, OpenFile)
    /// For what the cache holds.
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
