import BlockCache
import Blocks
import Dispatch
import InventoryManifest
import ObjectStore
import ReadPlanning

// Carries out the comparisons with the manifest's MD5 that the planner asks for
// (`FetchPlanner+Verification.swift`).

extension FetchCoordinator {
  func carryOutVerification(_ action: FetchPlanner.Action) {
    switch action {
    case .verifyLater:
      clock.schedule(after: quietTime, on: background) { [weak self] in
        self?.perform { $0.isShutDown ? [] : $0.planner.verificationIsDue() }
      }
    case .verify(let id):
      let isStarted = verifier.start { [weak self] buffer in self?.verify(id, buffer) }
      guard !isStarted, !isShutDown else { return }
      // The planner is told later, because it then continues with the next chunk, and there may be
      // thousands.
      background.async { [weak self] in
        self?.perform { $0.planner.verificationEnded(id, .unreadable).1 }
      }
    case .cannotVerify(let id, let isTooLarge):
      let chunks = references.inventory.chunks
      guard chunks.indices.contains(id.index) else { return }
      let chunk = chunks[id.index]
      let location = references.location(of: chunk)
      logger.warning(
        isTooLarge
          ? "\(location): its \(chunk.sizeInBytes) bytes are too much for this cache to keep until they are compared with the manifest's MD5; it is read without verification. For --verify=strict, set --cache-size to at least three times the largest chunk"
          : "\(location): the cache's disk fails or is too full to keep its bytes until they are compared with the manifest's MD5; it is read without verification until the disk works again"
      )
    default: break
    }
  }

  /// The verification state of the chunk; `reference` is nil where the manifest has no MD5 and the
  /// ETag is not known either.
  func verification(of chunk: Inventory.Chunk, _ id: ChunkID) -> VerificationState {
    guard chunk.md5 != nil, let reference = references.reference(to: id, eTag: nil) else {
      return .unverifiable
    }
    let (known, fits) = state.withLock { state in
      (state.planner.verificationState(of: id), fitsCache(chunk, state))
    }
    if let known, known == .ok || known == .failed { return known }
    guard fits else { return .tooLarge }
    return known ?? (cache.isVerified(reference.identity) ? .ok : .pending)
  }

  private func fitsCache(_ chunk: Inventory.Chunk, _ state: borrowing State) -> Bool {
    state.planner.fitsCache(
      sizeInBytes: chunk.sizeInBytes,
      overheadInBytes: BlockCache.overheadInBytes(chunkSizeInBytes: chunk.sizeInBytes))
  }

  /// Logs which chunks the cache cannot hold: reading them works, at a cost.
  func noteLargeChunks(cacheSizeInBytes: Int) {
    let large = state.withLock { state in
      references.inventory.chunks.filter { !fitsCache($0, state) }
    }
    guard let largest = large.max(by: { $0.sizeInBytes < $1.sizeInBytes }) else { return }
    let count = references.inventory.chunks.count
    logger.notice(
      "\(large.count) of \(count) chunks are larger than the cache of \(cacheSizeInBytes) bytes (the largest, \(largest.name), has \(largest.sizeInBytes)): they can be read, but not kept whole, so that they are fetched again for the next reader and not compared with the manifest's MD5; set --cache-size to more than the largest chunk to change that"
    )
  }

  /// Runs on the verifier's thread.
  private func verify(_ id: ChunkID, _ buffer: UnsafeMutableRawBufferPointer) {
    guard let reference = references.reference(to: id, eTag: nil), let expected = reference.md5
    else { return perform { $0.planner.verificationEnded(id, .unreadable).1 } }
    load(reference, isForReader: false)
    let begun = state.withLock { state -> OpenChunk? in
      guard !state.isShutDown, !state.changed.contains(id), let chunk = state.open[id],
        state.planner.beginVerification(id)
      else { return nil }
      return chunk
    }
    guard let chunk = begun else {
      return perform { $0.planner.verificationEnded(id, .interrupted).1 }
    }
    if chunk.entry.isVerified {
      logger.debug("\(chunk.location): its bytes were verified before and are unchanged")
      end(chunk, .same)
      return
    }
    let seal = chunk.entry.makeSeal()
    guard let found = hash(chunk, buffer) else {
      end(chunk, .interrupted)
      return
    }
    guard found == expected else {
      return endDifferent(chunk, found: found, expected: expected)
    }
    logger.debug("\(chunk.location): its \(chunk.grid.sizeInBytes) bytes have the manifest's MD5")
    guard end(chunk, .same) == .ok, let seal else { return }
    do {
      try chunk.entry.record(verified: seal)
    } catch {
      cachingFailed(error)
    }
  }

  /// The MD5 of the chunk's bytes; nil when a block has been evicted or cannot be read, or when the
  /// result is no longer needed.
  private func hash(
    _ chunk: OpenChunk, _ buffer: UnsafeMutableRawBufferPointer
  ) -> MD5Digest? {
    var hasher = MD5Hasher()
    let size = chunk.grid.sizeInBytes
    // Each step takes the lock that readers take too, and this thread may be preempted while it
    // holds it.
    for start in stride(from: 0, to: size, by: BlockGrid.segmentSizeInBytes) {
      let bytes = start..<min(size, start + BlockGrid.segmentSizeInBytes)
      let goesOn = state.withLock { state in
        !state.isShutDown && !state.changed.contains(chunk.id)
          && state.planner.continueVerification(chunk.id, bytes: bytes)
      }
      guard goesOn else { return nil }
      defer { perform { $0.planner.finishedReading(chunk.id, bytes: bytes) } }
      do {
        guard try dropFirstCorruptBlock(in: bytes, of: chunk) else { return nil }
        for offset in stride(from: start, to: bytes.upperBound, by: buffer.count) {
          let count = min(buffer.count, bytes.upperBound - offset)
          let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
          try chunk.entry.read(into: piece, at: offset)
          hasher.update(UnsafeRawBufferPointer(piece))
        }
      } catch {
        unreadable(chunk, bytes, error)
        return nil
      }
    }
    return hasher.finish()
  }

  @discardableResult
  private func end(_ chunk: OpenChunk, _ outcome: VerificationOutcome) -> VerificationVerdict {
    var verdict = VerificationVerdict.undecided
    perform { state in
      let (decided, actions) = state.planner.verificationEnded(chunk.id, outcome)
      verdict = decided
      return actions
    }
    return verdict
  }

  private func endDifferent(_ chunk: OpenChunk, found: MD5Digest, expected: MD5Digest) {
    // The index comes first, so that no later run takes the blocks for valid. A reader that meets a
    // block without its checksum meanwhile treats it as damaged.
    do {
      try chunk.entry.forgetAllBlocks()
    } catch {
      cachingFailed(error)
    }
    let message =
      "\(chunk.location): its \(chunk.grid.sizeInBytes) bytes as fetched have the MD5 \(found), but the manifest says \(expected)"
    let earlier =
      isStrict
      ? "its last byte was given to no reader" : "readers may have been given wrong bytes before"
    perform { state in
      let (verdict, actions) = state.planner.verificationEnded(chunk.id, .different)
      switch verdict {
      case .fetchAgain:
        state.log(
          .warning,
          "\(message); they are dropped from the cache and fetched once more (\(earlier))")
      case .failed:
        state.log(
          .error,
          "\(message), for the second time; reading it fails from now on (\(earlier)). Compare the object with the manifest, and mount again once they agree; set --verify=off to read it as it is"
        )
      case .ok, .undecided: break
      }
      return actions
    }
  }
}
