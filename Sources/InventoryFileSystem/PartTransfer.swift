import BlockCache
import ObjectStore
import ReadPlanning

/// Fetches one part of a chunk from the store into the cache, with all its attempts.
///
/// Bytes are written to the chunk's cache file as they arrive, and are collected in memory only
/// while the planner says so (`Part.isInMemory`). The checksum of the block that is arriving is
/// carried along, so that an attempt after a failure continues at the very next byte. One thread at
/// a time uses it: the network's, or the one that starts the next attempt after the network's has
/// ended the last.
final class PartTransfer: ObjectReceiver, @unchecked Sendable {
  let part: FetchPlanner.Part
  let chunk: OpenChunk
  // The coordinator outlives this object: it is released only after its `shutDown`, which waits for
  // the network's threads to end.
  private unowned let coordinator: FetchCoordinator

  // Touched by one thread at a time, as above.
  private var position: Int
  private var checksum = BlockChecksum()
  private var refusal: FetchFailure?
  /// How many attempts were made since the last byte arrived.
  private var attempts = 0

  init(part: FetchPlanner.Part, chunk: OpenChunk, coordinator: FetchCoordinator) {
    self.part = part
    self.chunk = chunk
    self.coordinator = coordinator
    position = part.bytes.lowerBound
  }

  /// The bytes that are still missing.
  var remaining: Range<Int> { position..<part.bytes.upperBound }

  func nextAttempt() -> Int {
    attempts += 1
    return attempts
  }

  func accept(_ head: ResponseHead) -> Bool {
    refusal = nil
    do {
      try check(head)
      return true
    } catch {
      refusal = error
      return false
    }
  }

  func receive(_ body: UnsafeRawBufferPointer) -> Bool {
    do {
      try store(body)
      attempts = 0
      coordinator.arrived(part.id, count: body.count)
      return true
    } catch {
      refusal = .cache(error)
      return false
    }
  }

  func finish(_ result: Result<Void, StoreError>) {
    if let refusal { return coordinator.ended(self, failure: refusal) }
    switch result {
    case .success: coordinator.ended(self, failure: nil)
    case .failure(let error): coordinator.ended(self, failure: .store(error))
    }
  }

  /// Compares the response's ETag with the chunk's version; the store has checked status, range and
  /// lengths.
  private func check(_ head: ResponseHead) throws(FetchFailure) {
    try coordinator.versionSeen(try head.version(), of: chunk)
  }

  private func store(_ body: UnsafeRawBufferPointer) throws(BlockCacheError) {
    if part.isInMemory {
      chunk.entry.keep(body, at: position)
      position += body.count
      return
    }
    try chunk.entry.write(body.bytes, at: position)
    let firstBlock = chunk.grid.block(at: position)
    var checksums: [UInt32] = []
    var rest = body[...]
    while !rest.isEmpty {
      let block = chunk.grid.block(at: position)
      let blockEnd = chunk.grid.bytes(of: block..<block + 1).upperBound
      let piece = rest.prefix(blockEnd - position)
      checksum.update(UnsafeRawBufferPointer(rebasing: piece))
      position += piece.count
      rest = rest.dropFirst(piece.count)
      if position == blockEnd {
        checksums.append(checksum.value)
        checksum = BlockChecksum()
      }
    }
    try chunk.entry.commit(from: firstBlock, checksums: checksums)
  }
}
