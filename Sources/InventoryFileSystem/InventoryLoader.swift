import Glibc
public import InventoryManifest
public import Logging
public import ObjectStore
import Posix
import PrintableText
import SystemPackage

/// Reads a manifest and its checksum, checks them, and finds the place of the chunks.
///
/// The two files are requested from the store in parallel. Chunk sizes come from the manifest; the
/// loader asks the store only for those that the manifest does not give, a bounded number at a
/// time.
public struct InventoryLoader: Sendable {
  private let bucketOverride: String?
  private let keyPrefix: KeyPrefix?
  private let readTimeout: Duration
  private let clock: any FileSystemClock
  private let logger: Logger
  /// How long an unreachable store is retried: a mistyped endpoint should be reported soon, but a
  /// store that is just restarting deserves a moment.
  private static let unreachableTimeout = Duration.seconds(5)
  /// How long a mount waits for a byte of the first chunk: a store that gives none is only warned
  /// of.
  private static let firstByteTimeout = Duration.seconds(5)

  /// - Parameters:
  ///   - bucketOverride: the bucket of the chunks, instead of the manifest's.
  ///   - keyPrefix: how the keys of the chunks differ from the manifest's; nil if they are the
  ///     manifest's, or, for an inventory that was copied, to be found.
  ///   - readTimeout: how long a request is retried.
  ///   - clock: the clock of that timeout.
  public init(
    bucketOverride: String?, keyPrefix: KeyPrefix? = nil, readTimeout: Duration = .seconds(60),
    clock: any FileSystemClock = SystemClock(), logger: Logger
  ) {
    self.bucketOverride = bucketOverride
    self.keyPrefix = keyPrefix
    self.readTimeout = readTimeout
    self.clock = clock
    self.logger = logger
  }

  // MARK: From a store

  /// Loads an inventory from a store, which holds its chunks too. Waits for the store.
  ///
  /// - Parameter maxRequests: how many chunks are asked about at once.
  /// - Throws: `InventoryLoadError` where the manifest cannot be read or used. Problems of single
  ///   chunks are logged, and kept for later opens (`Inventory.Chunk.failure`).
  public func load(
    _ location: S3Location, from store: any ChunkStore, maxRequests: Int
  ) throws(InventoryLoadError) -> Inventory {
    let checksumLocation = S3Location(
      bucket: location.bucket, key: Self.sibling(of: location.key, named: "manifest.checksum"))
    let retries = StoreRetries(clock, logger)
    let pendingChecksum = PendingObject(
      checksumLocation, from: store, retries, timeout: readTimeout,
      unreachableTimeout: Self.unreachableTimeout, limitInBytes: ManifestChecksum.maximumSizeInBytes
    )
    let pendingManifest = PendingObject(
      location, from: store, retries, timeout: readTimeout,
      unreachableTimeout: Self.unreachableTimeout,
      limitInBytes: InventoryManifest.maximumSizeInBytes)
    let object: FetchedObject
    do throws(StoreError) {
      object = try pendingManifest.wait().get()
    } catch {
      throw .store(error)
    }
    let checksum = try checksum(pendingChecksum.wait(), of: checksumLocation)
    let manifest = try decode(
      object.bytes, checksum, from: "\(location)", checksumLocation: "\(checksumLocation)")
    guard let bucket = bucketOverride ?? manifest.destinationBucket else {
      throw .noBucket("\(location)", found: manifest.unusableDestination)
    }
    let places = ChunkPlaces(
      store: store, retries: retries, timeout: min(readTimeout, Self.firstByteTimeout),
      maxRequests: maxRequests, logger: logger)
    let named = ChunkPlaces.Place(bucket: bucket, keyPrefix: keyPrefix ?? .unchanged)
    // The names are made while the store is asked for a byte of the first chunk.
    let pendingFirst = manifest.chunks.first.map { places.ask($0, at: named) }
    var chunks = InventoryChunks(manifest.chunks)
    var place = named
    var known: [Int: Result<ResponseHead, StoreError>] = [:]
    if let answer = pendingFirst?.wait() {
      let isSearched =
        keyPrefix == nil && (bucketOverride == nil || bucketOverride == location.bucket)
      place = try places.find(
        Self.sample(manifest.chunks, count: 5), named: named, answer,
        near: isSearched ? location : nil)
      // An answer that did not come in the short time for it may come in the time for sizes.
      if place == named, answer.isFinal { known[0] = answer }
    }
    let sizes = ChunkSizes(
      store: store, retries: retries, readTimeout: readTimeout, maxRequests: maxRequests,
      logger: logger)
    sizes.ask(Self.indicesWithoutSize(manifest.chunks), known: known) { index in
      let key = manifest.chunks.key(index)
      return S3Location(bucket: place.bucket, key: place.keyPrefix.applied(to: key))
    } take: { index, size in
      chunks.set(index, size)
    }
    var inventory = inventory(
      source: "\(location)", manifest, chunks, object.bytes, checksum,
      place: .bucket(place.bucket), keyPrefix: place.keyPrefix,
      modifiedAtSeconds: object.head.lastModifiedInSeconds)
    inventory.manifestETag = object.head.eTag
    return inventory
  }

  /// Loads an inventory from a manifest that the cache has kept, without asking the store.
  ///
  /// - Throws: `InventoryLoadError.manifest` for a manifest that does not match its checksum.
  public func load(
    _ kept: KeptManifest, of location: S3Location
  ) throws(InventoryLoadError) -> Inventory {
    let manifest = try decode(
      kept.manifest, kept.checksum, from: "\(location)", checksumLocation: "\(location)")
    var chunks = InventoryChunks(manifest.chunks)
    let unknown = Self.indicesWithoutSize(manifest.chunks)
    for index in unknown { chunks.set(index, ChunkSizes.Size(failure: .inputOutput)) }
    if !unknown.isEmpty {
      logger.error(
        "\(location): the manifest does not give the sizes of \(unknown.count) chunks, and the store cannot be asked; they cannot be opened until the next mount"
      )
    }
    return inventory(
      source: "\(location)", manifest, chunks, kept.manifest, kept.checksum,
      place: .bucket(bucketOverride ?? kept.bucket), keyPrefix: keyPrefix ?? kept.keyPrefix,
      modifiedAtSeconds: kept.modifiedAtSecondsSinceEpoch)
  }

  private static func indicesWithoutSize(_ chunks: ChunkTable) -> [Int] {
    chunks.indices.filter { chunks.sizeInBytes($0) == nil }
  }

  /// Some elements, the first and the last among them.
  private static func sample(_ elements: ChunkTable, count: Int) -> [InventoryManifest.Chunk] {
    guard elements.count > count else { return Array(elements) }
    return (0..<count).map { elements[$0 * (elements.count - 1) / (count - 1)] }
  }

  /// The checksum's bytes, or nil where it does not exist or cannot be read.
  private func checksum(
    _ result: Result<FetchedObject, StoreError>, of location: S3Location
  ) throws(InventoryLoadError) -> [UInt8]? {
    switch result {
    case .success(let object): return object.bytes
    // Without permission to list the bucket, S3 responds with 403 for a key that does not exist.
    case .failure(let error) where error.kind == .noSuchKey || error.kind == .accessDenied:
      logger.warning(
        "\(location) does not exist or cannot be read: the manifest is used unverified, and its inventory may be incomplete"
      )
      return nil
    case .failure(let error): throw .store(error)
    }
  }

  // MARK: From a disk

  /// Loads an inventory from the local disk, where its chunks are files too.
  ///
  /// - Throws: `InventoryLoadError` as for a store, and where the folder that the chunks' keys are
  ///   relative to is not found.
  public func load(_ path: String) throws(InventoryLoadError) -> Inventory {
    var path = try Self.absolute(path)
    // The folder of a date stands for the manifest in it.
    var info = stat()
    if stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
      path = try Self.absolute(path + "/manifest.json")
    }
    let checksumPath = Self.sibling(of: path, named: "manifest.checksum")
    let bytes = try Self.read(
      path, limitInBytes: InventoryManifest.maximumSizeInBytes, expected: "a manifest.json")
    var checksum: [UInt8]?
    if access(checksumPath, F_OK) == 0 {
      checksum = try Self.read(
        checksumPath, limitInBytes: ManifestChecksum.maximumSizeInBytes,
        expected: "the MD5 of the manifest.json beside it")
    } else {
      logger.warning("\(checksumPath) does not exist: the manifest is used unverified")
    }
    let manifest = try decode(bytes, checksum, from: path, checksumLocation: checksumPath)
    let places = LocalPlaces(manifestPath: path, logger: logger)
    let sample = Self.sample(manifest.chunks, count: LocalPlaces.sampleCount)
    let keys = sample.map(\.key)
    // Another file system may be mounted where the chunks are.
    let found = answer(withinMilliseconds: 10_000) {
      Result { () throws(InventoryLoadError) in try places.find(keys) }
    }
    guard let found else {
      throw .file(
        path: keys.first ?? path,
        "the file system that this chunk is on does not respond; see which it is with: findmnt")
    }
    let place = try found.get()
    places.warnOfMissing(manifest.chunks.indices.lazy.map { manifest.chunks.key($0) }, at: place)
    var lines = SummedLines(logger, what: "chunks without a size whose files do not exist")
    var chunks = InventoryChunks(manifest.chunks)
    for index in Self.indicesWithoutSize(manifest.chunks) {
      let filePath = place.keyPrefix.applied(to: manifest.chunks.key(index))
      if let size = LocalChunks.sizeInBytes(ofKey: filePath, under: place.root) {
        chunks.set(index, ChunkSizes.Size(sizeInBytes: size))
      } else {
        chunks.set(index, ChunkSizes.Size(failure: .notFound))
        lines.error(
          "\(printable(filePath, limit: 1024)): the manifest does not give its size, and no such file exists under \(printable(place.root, limit: 1024)); the chunk cannot be opened"
        )
      }
    }
    lines.finish()
    let isKnown = stat(path, &info) == 0
    return inventory(
      source: path, manifest, chunks, bytes, checksum, place: .folder(place.root),
      keyPrefix: place.keyPrefix, modifiedAtSeconds: isKnown ? Int64(info.st_mtim.tv_sec) : nil)
  }

  private static func absolute(_ path: String) throws(InventoryLoadError) -> String {
    guard let real = realpath(path, nil) else {
      throw .file(path: path, "\(Errno(rawValue: errno)); expected a manifest.json")
    }
    defer { free(real) }
    return String(cString: real)
  }

  /// Reads a whole file.
  ///
  /// - Parameter expected: the expected kind of file, for messages.
  private static func read(
    _ path: String, limitInBytes: Int, expected: String
  ) throws(InventoryLoadError) -> [UInt8] {
    do {
      return try WholeFile.read(path, limitInBytes: limitInBytes, mustBeRegular: true)
    } catch {
      switch error {
      case .system(let code):
        throw .file(path: path, "\(Errno(rawValue: code)); expected \(expected)")
      case .tooLarge:
        throw .file(path: path, "larger than \(limitInBytes) bytes; expected \(expected)")
      case .notRegular:
        throw .file(
          path: path, "a pipe or a device; expected a regular file, which is \(expected)")
      case .silent:
        throw .file(path: path, "its file system does not respond; expected \(expected)")
      }
    }
  }

  // MARK: From either

  private func decode(
    _ bytes: [UInt8], _ checksum: [UInt8]?, from location: String, checksumLocation: String
  ) throws(InventoryLoadError) -> InventoryManifest {
    do {
      if let checksum {
        let digest = try ManifestChecksum.digest(fromChecksumFile: checksum, at: checksumLocation)
        try ManifestChecksum.verify(bytes, is: digest, at: location)
      }
      return try InventoryManifest(decoding: bytes, from: location)
    } catch {
      throw .manifest(error)
    }
  }

  private func inventory(
    source: String, _ manifest: InventoryManifest, _ chunks: InventoryChunks, _ bytes: [UInt8],
    _ checksum: [UInt8]?, place: Inventory.Place, keyPrefix: KeyPrefix, modifiedAtSeconds: Int64?
  ) -> Inventory {
    let time = creationTime(of: manifest, source, modifiedAtSeconds: modifiedAtSeconds)
    var inventory = Inventory(
      source: source, manifest: bytes, checksum: checksum,
      creationTimeInMilliseconds: time.millisecondsSinceEpoch,
      format: manifest.fileFormat, place: place, keyPrefix: keyPrefix,
      destinationBucket: manifest.destinationBucket, chunks: chunks)
    inventory.manifestModifiedAtSecondsSinceEpoch = modifiedAtSeconds
    return inventory
  }

  /// The time that the files show: the manifest's, that of its folder's name, or that at which the
  /// manifest was last modified.
  private func creationTime(
    of manifest: InventoryManifest, _ source: String, modifiedAtSeconds: Int64?
  ) -> InventoryManifest.CreationTime {
    if let time = manifest.creationTime { return time }
    let folder = source.split(separator: "/").dropLast().last ?? ""
    if let time = InventoryManifest.CreationTime(dateFolder: folder) {
      logger.warning(
        "\(source): the manifest has no creationTimestamp that is a time; the files show that of its folder's name"
      )
      return time
    }
    if let time = modifiedAtSeconds.flatMap({
      InventoryManifest.CreationTime(secondsSinceEpoch: $0)
    }) {
      logger.warning(
        "\(source): the manifest has no creationTimestamp that is a time, and its folder is not named by a date; the files show when the manifest was last modified"
      )
      return time
    }
    logger.warning(
      "\(source): the manifest has no creationTimestamp that is a time, its folder is not named by a date, and it is not known when the manifest was last modified; the files show 1970-01-01"
    )
    return .epoch
  }

  /// The key or path of a file beside another.
  private static func sibling(of path: String, named name: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return name }
    return path[...slash] + name
  }
}
