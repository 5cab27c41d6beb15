import BlockCache
import Posix
import ReadPlanning

// The events that network threads report: bytes, versions and endings of parts.

extension FetchCoordinator {
  func arrived(_ part: PartID, count: Int) {
    perform { $0.planner.arrived(part, count: count) }
  }

  /// Takes the version that a response names: the first response fixes it, all others must have the
  /// same.
  func versionSeen(_ eTag: String, of chunk: OpenChunk) throws(FetchFailure) {
    let known = state.withLock { $0.eTags[chunk.id] }
    if let known {
      guard known == eTag else { throw .versionChanged(expected: known, found: eTag) }
      return
    }
    chunk.entry.record(eTag: eTag)
    perform { state in
      state.know(eTag, of: chunk.id)
      return state.planner.versionIsKnown(chunk.id)
    }
  }

  func ended(_ transfer: PartTransfer, failure: FetchFailure?) {
    let part = transfer.part
    guard let failure else {
      logger.trace("\(transfer): complete")
      retries.noteSuccess()
      return perform { state in
        state.forget(part.id)
        state.lastFailures[part.chunk] = nil
        return state.planner.finished(part.id)
      }
    }
    if failure.isCancellation {
      return perform { state in
        state.forget(part.id)
        return state.planner.cancelled(part.id)
      }
    }
    if case .cache(let error) = failure {
      return cachingFailed("\(error)") { state in
        state.forget(part.id)
        return state.planner.cachingFailed(part.id)
      }
    }
    if failure.isChange {
      // An open after the chunk's last reader has gone starts with an empty entry.
      cache.discard(transfer.chunk.entry)
      state.withLock { state in
        state.changed.insert(transfer.chunk.id)
        state.goneETags[transfer.chunk.id] = state.eTags[transfer.chunk.id]
      }
    }
    perform(failure: failure.fileSystemError) { state in
      state.requests[part.id] = nil
      var followUps: [FetchPlanner.Action] = []
      if failure.isRetryable {
        state.lastFailures[part.chunk] = failure
        let pause = state.planner.paused(
          part.id, isThrottled: failure.isThrottling, isToldToWait: failure.retryAfter != nil)
        followUps = pause?.actions ?? []
        if let pause,
          let delay = retries.delay(
            afterAttempt: pause.attempts, isWaitedFor: pause.isWaitedFor,
            requested: failure.retryAfter)
        {
          state.log(
            state.isWorthWarning(pause) ? .warning : .debug,
            "\(failure.message(about: transfer.chunk.location)); retrying in \(delay.roundedText)")
          state.work.append(.retry(part.id, after: delay))
          return followUps
        }
      }
      state.log(.error, failure.message(about: transfer.chunk.location))
      state.forget(part.id)
      return followUps + state.planner.failed(part.id)
    }
  }

  func decodeFooter(of chunk: OpenChunk, tail: Range<Int>) {
    let bytes = [UInt8](unsafeUninitializedCapacity: tail.count) { buffer, count in
      let isRead =
        (try? chunk.entry.firstCorruptBlock(in: chunk.grid.blocks(covering: tail))) == .some(nil)
        && (try? chunk.entry.read(into: UnsafeMutableRawBufferPointer(buffer), at: tail.lowerBound))
          != nil
      count = isRead ? tail.count : 0
    }
    let decoding: ParquetLayout.Decoding =
      bytes.isEmpty
      ? .notParquet
      : ParquetLayout.decode(tail: bytes, fileSizeInBytes: chunk.grid.sizeInBytes)
    perform { $0.planner.footerIsDecoded(chunk.id, tail: tail, decoding) }
  }
}

extension FetchCoordinator.State {
  /// The number of failed attempts after which a request that a reader waits for is worth a
  /// warning.
  private static let attemptsUntilWarning = 3
  /// The shortest time between two such warnings, since a store that is down fails many requests.
  private static let pauseOfWarnings = Duration.seconds(30)

  /// Whether to warn of this failure although the request is retried: readers wait, and the log
  /// would be silent until `--read-timeout`.
  fileprivate mutating func isWorthWarning(_ pause: FetchPlanner.Pause) -> Bool {
    let now = clock.now
    guard pause.isWaitedFor, pause.attempts >= Self.attemptsUntilWarning,
      warnedAt.map({ now - $0 >= Self.pauseOfWarnings }) ?? true
    else { return false }
    warnedAt = now
    return true
  }
}
