import BlockCache
import InventoryManifest
import Locks
import Logging
import ObjectStore
import Posix
import ReadPlanning

/// Chunks that are objects in a bucket; they are fetched on demand, through the cache.
final class StoreChunks: Sendable {
  var bucket: String { references.bucket }
  let coordinator: FetchCoordinator
  private let references: ChunkReferences
  private let store: any ChunkStore
  private let logger: Logger
  /// How long an attribute that only the store knows is waited for.
  private static let longestWaitForAttribute = Duration.seconds(2)
  /// How long the store is not asked for attributes after it has not answered in that time: a
  /// program that lists the attributes of many files would wait for each of them.
  private static let pauseOfAttributes = Duration.seconds(10)

  /// When the store was last asked for an attribute in vain.
  private let askedInVainAt = Lock<Duration?>(nil)
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
      ask(index, chunk, timeout: coordinator.readTimeout) { [self] answer in
        let eTag: String
        do throws(FetchFailure) {
          eTag = try answer.get()
        } catch {
          if !error.isCancellation {
            coordinator.report(
              error, of: ChunkID(index: index), references.location(of: chunk), doing: "opening it")
          }
          return waiting.fail(fileSystemError(error))
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
    _ index: Int, _ chunk: Inventory.Chunk, timeout: Duration,
    completion: @escaping @Sendable (Result<String, FetchFailure>) -> Void
  ) -> Interruption {
    let request = RetriedRequest<ResponseHead>.head(
      references.location(of: chunk), objectSizeInBytes: chunk.sizeInBytes, from: store,
      coordinator.retries, timeout: timeout
    ) { [self] answer in
      let eTag: String
      do throws(FetchFailure) {
        eTag = try Self.eTag(in: answer)
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

  /// The chunk's ETag. It is requested from the store if neither this run nor the cache knows it,
  /// for a short time: an answer that is late or fails temporarily counts as no attribute.
  func eTag(
    ofChunk index: Int, _ chunk: Inventory.Chunk, parked: () -> any ParkedAttribute
  ) throws(FileSystemError) -> InventoryFileSystem.AttributeOutcome {
    if let known = knownETag(ofChunk: index, chunk) ?? cachedETag(ofChunk: index) {
      return .known(Array(known.utf8))
    }
    let now = coordinator.clock.now
    if let last = askedInVainAt.withLock({ $0 }), now - last < Self.pauseOfAttributes {
      throw .noSuchAttribute
    }
    let waiting = parked()
    let location = references.location(of: chunk)
    let timeout = min(Self.longestWaitForAttribute, coordinator.readTimeout)
    return .parked(
      ask(index, chunk, timeout: timeout) { [self] answer in
        let failure: FetchFailure
        switch answer {
        case .success(let eTag): return waiting.found(Array(eTag.utf8))
        case .failure(let found): failure = found
        }
        guard failure.isRetryable else {
          if !failure.isCancellation {
            coordinator.report(
              failure, of: ChunkID(index: index), location, doing: "asking for its ETag")
          }
          return waiting.fail(fileSystemError(failure))
        }
        askedInVainAt.withLock { $0 = coordinator.clock.now }
        coordinator.report(
          failure, of: ChunkID(index: index), location,
          doing: "asking for its ETag, for \(timeout.roundedText) at most,", at: .warning)
        waiting.fail(.noSuchAttribute)
      })
  }

  /// The key of the chunk's object.
  func key(of chunk: Inventory.Chunk) -> String { references.location(of: chunk).key }

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

  /// The ETag of the chunk's version that the cache holds from an earlier run.
  private func cachedETag(ofChunk index: Int) -> String? {
    let id = ChunkID(index: index)
    guard let identity = references.reference(to: id, eTag: nil)?.identity,
      let eTag = coordinator.cache.eTag(of: identity), !coordinator.isGone(eTag, of: id)
    else { return nil }
    return eTag
  }

  private func fileSystemError(_ failure: FetchFailure) -> FileSystemError {
    failure.isCancellation && !coordinator.isShutDown ? .interrupted : failure.fileSystemError
  }

  /// The ETag in a response, which must be one that can be stored.
  private static func eTag(
    in answer: Result<ResponseHead, StoreError>
  ) throws(FetchFailure) -> String {
    switch answer {
    case .failure(let error): throw .store(error)
    case .success(let head): return try head.version()
    }
  }
}
