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
      return cachingFailed(error) { state in
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
    if case .store(let error) = failure, error.isRetryable { retries.noteFailure(error) }
    perform(failure: failure.fileSystemError) { state in
      state.requests[part.id] = nil
      var followUps: [FetchPlanner.Action] = []
      if failure.isShortOfDescriptors { state.closeIdle(keeping: 0) }
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
          let remaining = transfer.remaining
          let isWorthWarning = state.isWorthWarning(pause)
          if isWorthWarning { retries.noteReport() }
          state.log(
            isWorthWarning ? .warning : .debug,
            "\(transfer.chunk.location): fetching bytes \(remaining.lowerBound)-\(remaining.upperBound - 1) failed, retrying in \(delay.roundedText): \(failure.text)"
          )
          state.work.append(.retry(part.id, after: delay))
          return followUps
        }
      }
      state.forget(part.id)
      let actions = state.planner.failed(part.id)
      if let what = state.firstToFail(of: actions) {
        if failure.isRetryable { retries.noteReport() }
        state.reportFailure(
          "\(what) failed: \(failure.text)", cause: failure.cause, of: part.chunk,
          transfer.chunk.location)
      } else if failure.isChange, !state.planner.isUnused(part.chunk) {
        // The next read of the chunk's readers fails without another request.
        state.reportFailure(
          "reading it failed: \(failure.text)", cause: failure.cause, of: part.chunk,
          transfer.chunk.location)
      } else {
        let bytes = part.bytes
        state.log(
          .debug,
          "\(transfer.chunk.location): reading ahead bytes \(bytes.lowerBound)-\(bytes.upperBound - 1) failed, which no reader waits for: \(failure.text)"
        )
      }
      return followUps + actions
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

  /// What the first of the requests that these actions fail has been doing; nil if they fail none.
  fileprivate func firstToFail(of actions: [FetchPlanner.Action]) -> String? {
    for case .fail(let wait) in actions {
      if let waiting = waiting[wait] { return waiting.subject(in: self).operation }
    }
    return nil
  }

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
