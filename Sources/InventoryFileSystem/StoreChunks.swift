import BlockCache
import InventoryManifest
import Locks
import Logging
import ObjectStore
import ReadPlanning

/// Chunks that are objects in a bucket; they are fetched on demand, through the cache.
final class StoreChunks: Sendable {
  var bucket: String { references.bucket }
  let coordinator: FetchCoordinator
  private let references: ChunkReferences
  private let store: any ChunkStore
  private let logger: Logger
  /// The ETags that were requested by HEAD, without reading the chunk.
  private let askedETags = Lock<[Int: String]>([:])

  init(
    _ references: ChunkReferences, store: any ChunkStore, coordinator: FetchCoordinator,
    logger: Logger
  ) {
    self.references = references
    self.store = store
    self.coordinator = coordinator
    self.logger = logger
  }

  func open(
    _ node: NodeID, index: Int, _ chunk: Inventory.Chunk, parked: () -> any ParkedOpen
  ) throws(FileSystemError) -> InventoryFileSystem.OpenOutcome {
    guard chunk.sizeInBytes <= references.largestChunkInBytes else {
      logger.error(
        "\(references.location(of: chunk)): the manifest says \(chunk.sizeInBytes) bytes, but with this cache only chunks of up to \(references.largestChunkInBytes) bytes can be opened: check the manifest, or set a larger --cache-size (1GiB is enough for chunks of 64 GiB, the maximum)"
      )
      throw .tooLarge
    }
    let eTag = knownETag(ofChunk: index, chunk)
    if let reference = references.reference(to: ChunkID(index: index), eTag: eTag) {
      return try open(node, reference, parked: parked)
    }
    // Without an MD5 in the manifest only the ETag tells versions apart, and it is needed before
    // the chunk's cache entry can be found. The store's response arrives on a network thread, which
    // must not open files.
    let waiting = parked()
    return .parked(
      ask(index, chunk) { [self] answer in
        let eTag: String
        do throws(FileSystemError) {
          eTag = try answer.get()
        } catch {
          return waiting.fail(error)
        }
        coordinator.background.async { [self] in
          do throws(FileSystemError) {
            guard let reference = references.reference(to: ChunkID(index: index), eTag: eTag) else {
              throw .inputOutput
            }
            // With its version known, the open does not wait for the store a second time.
            if case .opened(let file) = try open(node, reference, parked: { waiting }) {
              waiting.opened(file)
            }
          } catch {
            waiting.fail(error)
          }
        }
      })
  }

  /// Asks the store for the chunk's ETag.
  ///
  /// - Parameter completion: called once, on a network thread or this one, and must not block.
  private func ask(
    _ index: Int, _ chunk: Inventory.Chunk,
    completion: @escaping @Sendable (Result<String, FileSystemError>) -> Void
  ) -> Interruption {
    let request = RetriedRequest<ResponseHead>.head(
      references.location(of: chunk), objectSizeInBytes: chunk.sizeInBytes, from: store,
      coordinator.retries, timeout: coordinator.readTimeout
    ) { [self] answer in
      let eTag: String
      do throws(FileSystemError) {
        eTag = try check(answer, chunk)
      } catch {
        return completion(.failure(error))
      }
      askedETags.withLock { $0[index] = eTag }
      completion(.success(eTag))
    }
    // The pending response keeps this object alive.
    return Interruption { [weak request] in request?.cancel() }
  }

  private func open(
    _ node: NodeID, _ reference: ChunkReference, parked: () -> any ParkedOpen
  ) throws(FileSystemError) -> InventoryFileSystem.OpenOutcome {
    let size = reference.identity.sizeInBytes
    let outcome = try coordinator.open(
      reference,
      file: {
        OpenFile(
          node: node, content: .chunk(reference.id, $0), sizeInBytes: size, mayKeepPages: $1)
      },
      parked: parked)
    switch outcome {
    case .opened(let file): return .opened(file)
    case .parked(let wait): return .parked(Interruption(wait: wait, coordinator))
    }
  }

  /// The chunk's ETag, which is requested from the store if no bytes have been read of it yet.
  func eTag(
    ofChunk index: Int, _ chunk: Inventory.Chunk, parked: () -> any ParkedAttribute
  ) -> InventoryFileSystem.AttributeOutcome {
    if let known = knownETag(ofChunk: index, chunk) { return .known(Array(known.utf8)) }
    let waiting = parked()
    return .parked(
      ask(index, chunk) { answer in
        switch answer {
        case .success(let eTag): waiting.found(Array(eTag.utf8))
        case .failure(let error): waiting.fail(error)
        }
      })
  }

  func cachedBytes(ofChunk index: Int, _ chunk: Inventory.Chunk) -> Int {
    guard
      let reference = references.reference(
        to: ChunkID(index: index), eTag: knownETag(ofChunk: index, chunk))
    else { return 0 }
    return coordinator.cachedBytes(of: reference)
  }

  func verification(ofChunk index: Int, _ chunk: Inventory.Chunk) -> VerificationState {
    coordinator.verification(of: chunk, ChunkID(index: index))
  }

  private func knownETag(ofChunk index: Int, _ chunk: Inventory.Chunk) -> String? {
    let id = ChunkID(index: index)
    if let current = coordinator.eTag(of: id) { return current }
    // An object whose ETag was requested once may have been replaced since, as a reader found out.
    return [askedETags.withLock { $0[index] }, chunk.eTag].compactMap { $0 }
      .first { !coordinator.isGone($0, of: id) }
  }

  /// Checks a response: the object must be as long as the manifest says, and have an ETag that can
  /// be stored.
  private func check(
    _ result: Result<ResponseHead, StoreError>, _ chunk: Inventory.Chunk
  ) throws(FileSystemError) -> String {
    let failure: FetchFailure
    switch result {
    case .failure(let error):
      if error.kind == .cancelled, !coordinator.isShutDown { throw .interrupted }
      failure = .store(error)
    case .success(let head):
      do throws(FetchFailure) {
        return try head.version()
      } catch {
        failure = error
      }
    }
    logger.error("\(failure.message(about: references.location(of: chunk)))")
    throw failure.fileSystemError
  }
}
