import BlockCache
import Dispatch
import ReadPlanning

// Chunks that the kernel reads by itself.

extension FetchCoordinator {
  /// The interval of the checks whether a chunk is still mapped. The first checks are sooner,
  /// because the kernel closes a file a moment after it has told us.
  private static let longestMappingCheck = Duration.seconds(1)

  /// Lends the chunk's cache file to the kernel, for a handle that was just opened, if all blocks
  /// are present and checked: none of them is evicted until `takeBack(_:)`.
  ///
  /// - Returns: the file's descriptor, which is open while the chunk is; nil if it is not lent.
  func lend(_ id: ChunkID, to handle: HandleID) -> Int32? {
    lending.withLock(of: id) {
      func isPossible(_ state: State) -> OpenChunk? {
        guard let chunk = state.open[id], !state.isShutDown, !state.changed.contains(id),
          chunk.entry.isWhollyChecked, state.planner.mayLend(id, to: handle)
        else { return nil }
        return chunk
      }
      let (found, isLent) = state.withLock { (isPossible($0), $0.planner.wholePinCount(id) > 0) }
      // A file is not lent where the end of its last mapping cannot be detected.
      guard let found, isLent || found.entry.isOpenElsewhere() == false else { return nil }
      return state.withLock { state in
        // The chunk stays loaded, because this handle of it is open.
        guard isPossible(state) != nil, state.planner.pinWhole(id) else { return nil }
        return found.entry.dataDescriptor
      }
    }
  }

  /// Notes that the kernel serves this handle by itself, from a lent file.
  func kernelServes(_ id: ChunkID, _ handle: HandleID) {
    perform { $0.planner.chunkIsLent(id, to: handle) }
  }

  /// Ends a loan, as soon as no reader uses the file any more: a mapping outlives the handle that
  /// it was made through, and the kernel does not report its end.
  func takeBack(_ id: ChunkID, checkingAgainAfter delay: Duration = .milliseconds(10)) {
    // Loans begin under this lock too, so with one loan left no thread is just about to open the
    // file.
    let work: [Work]? = lending.withLock(of: id) {
      let last = state.withLock { state in
        !state.isShutDown && state.planner.wholePinCount(id) == 1 ? state.open[id]?.entry : nil
      }
      return last?.isOpenElsewhere() == true ? nil : plan { $0.planner.unpinWhole(id) }
    }
    if let work { return carryOut(work) }
    clock.schedule(after: delay, on: background) { [weak self] in
      self?.takeBack(id, checkingAgainAfter: min(delay * 2, Self.longestMappingCheck))
    }
  }

  /// Whether the kernel has the chunk's file, or can get it with the next open. An inode that is
  /// open in cached mode stays so.
  func isLendable(_ id: ChunkID) -> Bool {
    state.withLock { state in
      if state.planner.wholePinCount(id) > 0 { return true }
      return state.planner.isUnused(id) && state.planner.canPinWhole(id)
        && state.planner.mayLend(id)
        && state.open[id]?.entry.isWhollyChecked == true
    }
  }
}
