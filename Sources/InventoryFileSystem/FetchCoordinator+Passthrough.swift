import BlockCache
import Dispatch
import ReadPlanning

// Chunks that the kernel reads by itself.

extension FetchCoordinator {
  /// How often it is checked whether a chunk is still mapped; at first sooner, because the kernel
  /// closes a file a moment after it has told us.
  private static let longestMappingCheck = Duration.seconds(1)

  /// Lends the chunk's cache file to the kernel, for a handle that was just opened, if all of it is
  /// there and checked: none of it is evicted until `takeBack(_:)`.
  ///
  /// - Returns: its descriptor, open while the chunk is.
  func lend(_ id: ChunkID, to handle: HandleID) -> Int32? {
    state.withLock { state in
      guard let chunk = state.open[id], !state.isShutDown, !state.changed.contains(id),
        chunk.entry.isWhollyChecked, state.planner.mayLend(id, to: handle),
        // Where it cannot be told when the last mapping is gone, nothing is lent.
        state.planner.wholePinCount(id) > 0 || chunk.entry.isOpenElsewhere() == false,
        state.planner.pinWhole(id)
      else { return nil }
      return chunk.entry.dataDescriptor
    }
  }

  /// The kernel serves this handle by itself, from a file that it was lent.
  func kernelServes(_ id: ChunkID, _ handle: HandleID) {
    perform { $0.planner.chunkIsLent(id, to: handle) }
  }

  /// Ends a loan, as soon as nobody reads the file any more: a mapping goes on when the handle that
  /// it was made through has been closed, and the kernel does not tell.
  func takeBack(_ id: ChunkID, checkingAgainAfter delay: Duration = .milliseconds(10)) {
    var isMapped = false
    perform { state in
      // Loans begin under this lock too, so with one left nobody is just about to open the file.
      isMapped =
        !state.isShutDown && state.planner.wholePinCount(id) == 1
        && state.open[id]?.entry.isOpenElsewhere() == true
      return isMapped ? [] : state.planner.unpinWhole(id)
    }
    guard isMapped else { return }
    clock.schedule(after: delay, on: background) { [weak self] in
      self?.takeBack(id, checkingAgainAfter: min(delay * 2, Self.longestMappingCheck))
    }
  }

  /// Whether the kernel has the chunk's file, or can get it with the next open: an inode that is
  /// open otherwise stays so.
  func isLendable(_ id: ChunkID) -> Bool {
    state.withLock { state in
      if state.planner.wholePinCount(id) > 0 { return true }
      return state.planner.isUnused(id) && state.planner.canPinWhole(id)
        && state.planner.mayLend(id)
        && state.open[id]?.entry.isWhollyChecked == true
    }
  }
}
