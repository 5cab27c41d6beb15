import Blocks
import OrderedCollections

/// When the chunks' bytes are compared with the manifest's MD5 (`--verify`).
public enum VerificationMode: String, Sendable, CaseIterable {
  /// Chunks are compared some time after they have become complete.
  case background
  /// Chunks are compared when they become complete, and no reader gets a chunk's last byte before.
  case strict
  case off
}

/// What is known of a chunk's MD5: the value of the extended attribute `user.inventoryfs.verified`.
public enum VerificationState: String, Sendable {
  /// All that the cache has of the chunk was in it when the MD5 was the manifest's.
  case ok
  /// The chunk was fetched twice, and its bytes were wrong twice.
  case failed
  /// The manifest has no MD5, or the chunk cannot be had whole.
  case unverifiable
  /// The chunk can be compared, and has not been yet.
  case pending
  /// The chunk does not fit the cache, which therefore never has all of its bytes to compare them.
  case tooLarge = "too_large"
}

/// How a comparison ended.
public enum VerificationOutcome: Sendable {
  case same
  case different
  /// A block was not there any more.
  case interrupted
  /// The cache's files cannot be read.
  case unreadable
}

/// What follows from it.
public enum VerificationVerdict: Sendable, Equatable {
  case ok
  /// What is cached has been dropped and will be fetched anew.
  case fetchAgain
  case failed
  /// The comparison will be repeated, or is no longer needed.
  case undecided
}

/// One chunk's part in it.
struct ChunkVerification: Sendable {
  var state: VerificationState
  /// How often in a row its bytes were not the manifest's.
  var mismatchCount = 0
  /// Its bytes were wrong once in this run: the kernel may still have pages of them.
  var wasWrong = false
  /// It cannot be had whole.
  var isTooLarge = false
  /// It cannot be had whole as long as the cache's disk fails, or has too little room.
  var isUncached = false
  /// A block has left since the comparison began.
  var isDisturbed = false
  /// Counts reads, so that it can be seen that there were none.
  var readCount = 0
  var readCountAtLastLook = -1

  var isWorthRemembering: Bool { wasWrong || isTooLarge }

  mutating func forgetDiskFailure() {
    guard isUncached else { return }
    isUncached = false
    state = .pending
  }
}

/// All chunks' part in it.
struct Verification: Sendable {
  let mode: VerificationMode
  /// Chunks that were complete when last heard of, and not compared yet; the one waiting longest
  /// first.
  var queue: OrderedSet<ChunkID> = []
  /// One at a time.
  var running: ChunkID?
  /// What the running one has pinned, all of a chunk.
  var pinned: (entry: EntryID, segmentCount: Int, bytes: Int)?
  var isLookPlanned = false
  /// Looks in a row at which there was something to compare, and something being fetched.
  var busyLookCount = 0
  /// What outlasts the chunk's unloading.
  var remembered: [ChunkID: ChunkVerification] = [:]
  /// Strict: the chunk that is being made complete for a reader of its last byte. None of it leaves
  /// meanwhile.
  var held: ChunkID?
  var heldSegments: Set<Int> = []
}
