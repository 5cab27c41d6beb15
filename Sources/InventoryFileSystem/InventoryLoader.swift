import Glibc
import InventoryManifest
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
  private let readTimeout: Duration
  private let clock: any FileSystemClock
  private let logger: Logger
  /// How long an unreachable store is retried: a mistyped endpoint should be reported soon, but a
  /// store that is just restarting deserves a moment.
  private static let unreachableTimeout = Duration.seconds(5)

  /// - Parameters:
  ///   - bucketOverride: the bucket of the chunks, instead of the manifest's.
  ///   - readTimeout: how long a request is retried.
  ///   - clock: the clock of that timeout.
  public init(
    bucketOverride: String?, readTimeout: Duration = .seconds(60),
    clock: any FileSystemClock = SystemClock(), logger: Logger
  ) {
    self.bucketOverride = bucketOverride
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
    let bytes: [UInt8]
    do throws(StoreError) {
      bytes = try pendingManifest.wait().get()
    } catch {
      throw .store(error)
    }
    let checksum = try checksum(pendingChecksum.wait(), of: checksumLocation)
    let manifest = try decode(
      bytes, checksum, from: "\(location)", checksumLocation: "\(checksumLocation)")
    guard let bucket = bucketOverride ?? manifest.destinationBucket else {
      throw .noBucket("\(location)", found: manifest.unusableDestination)
    }
    let asked = ask(store, retries, manifest, bucket, maxRequests: maxRequests)
    return inventory(
      source: "\(location)", manifest, bytes, checksum, place: .bucket(bucket)
    ) { index, chunk in asked[index] ?? Size(sizeInBytes: chunk.sizeInBytes) }
  }

  /// The checksum's bytes, or nil where it does not exist or cannot be read.
  private func checksum(
    _ result: Result<[UInt8], StoreError>, of location: S3Location
  ) throws(InventoryLoadError) -> [UInt8]? {
    switch result {
    case .success(let bytes): return bytes
    // Without permission to list the bucket, S3 responds with 403 for a key that does not exist.
    case .failure(let error) where error.kind == .noSuchKey || error.kind == .accessDenied:
      logger.warning(
        "\(location) does not exist or cannot be read: the manifest is used unverified, and its inventory may be incomplete"
      )
      return nil
    case .failure(let error): throw .store(error)
    }
  }

  private struct Size {
    var sizeInBytes: UInt64?
    var eTag: String?
    var failure: FileSystemError?
  }

  /// Asks the store for the sizes that the manifest does not give.
  private func ask(
    _ store: any ChunkStore, _ retries: StoreRetries, _ manifest: InventoryManifest,
    _ bucket: String,
    maxRequests: Int
  ) -> [Int: Size] {
    let unknown = manifest.chunks.indices.filter { manifest.chunks[$0].sizeInBytes == nil }
    guard !unknown.isEmpty else { return [:] }
    logger.info(
      "asking the store for the sizes of \(unknown.count) chunks, which the manifest does not give")
    var sizes: [Int: Size] = [:]
    var pending: [(index: Int, S3Location, PendingHead)] = []
    func takeFirst() {
      let (index, location, head) = pending.removeFirst()
      switch head.wait() {
      case .success(let head):
        sizes[index] = Self.size(head)
        if sizes[index]?.failure != nil {
          let found = head.contentLength.map { "\($0)" } ?? "none"
          logger.error(
            "\(location): expected a Content-Length of at most \(InventoryManifest.Chunk.maximumSizeInBytes) in the response to HEAD, found \(found); the chunk cannot be opened"
          )
        }
      case .failure(let error):
        logger.error("\(error)")
        sizes[index] = Size(failure: FetchFailure.store(error).fileSystemError)
      }
    }
    for index in unknown {
      if pending.count == max(1, maxRequests) { takeFirst() }
      let location = S3Location(bucket: bucket, key: manifest.chunks[index].key)
      let head = PendingHead(
        location, objectSizeInBytes: nil, from: store, retries, timeout: readTimeout)
      pending.append((index, location, head))
    }
    while !pending.isEmpty { takeFirst() }
    return sizes
  }

  /// The size and ETag in a response to HEAD, or the reason why it has none of use.
  private static func size(_ head: ResponseHead) -> Size {
    guard let length = head.contentLength, length <= InventoryManifest.Chunk.maximumSizeInBytes
    else { return Size(failure: .inputOutput) }
    // Without an ETag the store is asked again when the chunk is opened, which then reports the
    // failure.
    return Size(sizeInBytes: length, eTag: try? head.version())
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
    let root = try findRoot(path, firstKey: manifest.chunks.first?.key)
    return inventory(source: path, manifest, bytes, checksum, place: .folder(root)) { _, chunk in
      if let size = chunk.sizeInBytes { return Size(sizeInBytes: size) }
      guard let size = LocalChunks.sizeInBytes(ofKey: chunk.key, under: root) else {
        logger.error(
          "\(printable(chunk.key, limit: 1024)): the manifest does not give its size, and no such file exists under \(printable(root, limit: 1024)); the chunk cannot be opened"
        )
        return Size(failure: .notFound)
      }
      return Size(sizeInBytes: size)
    }
  }

  /// The nearest folder above the manifest under which the first chunk's key is a file. It is never
  /// "/", under which a key could name any file of this machine.
  private func findRoot(_ path: String, firstKey: String?) throws(InventoryLoadError) -> String {
    var folder = FilePath(path)
    folder.removeLastComponent()
    guard let firstKey else { return folder.string }
    while !folder.components.isEmpty {
      let place = folder.string
      // Another file system may be mounted where the chunks are.
      guard
        let holds = answer(withinMilliseconds: 5000, { LocalChunks.holds(firstKey, under: place) })
      else {
        throw .file(
          path: "\(place)/\(firstKey)",
          "the file system that this chunk is on does not respond; see which it is with: findmnt")
      }
      if holds { return place }
      folder.removeLastComponent()
    }
    throw .noRoot(manifest: path, key: firstKey)
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
    source: String, _ manifest: InventoryManifest, _ bytes: [UInt8], _ checksum: [UInt8]?,
    place: Inventory.Place, size: (Int, InventoryManifest.Chunk) -> Size
  ) -> Inventory {
    let names = ChunkNames.names(forKeys: manifest.chunks.map(\.key))
    let chunks = manifest.chunks.enumerated().map { index, chunk in
      let size = size(index, chunk)
      return Inventory.Chunk(
        key: chunk.key, name: names[index], sizeInBytes: Int(clamping: size.sizeInBytes ?? 0),
        md5: chunk.md5, eTag: size.eTag, failure: size.failure)
    }
    return Inventory(
      source: source, manifest: bytes, checksum: checksum,
      creationTimeInMilliseconds: creationTime(of: manifest, source).millisecondsSinceEpoch,
      format: manifest.fileFormat, place: place, destinationBucket: manifest.destinationBucket,
      chunks: chunks)
  }

  /// The time that the files show: the manifest's, or that of its folder's name.
  private func creationTime(
    of manifest: InventoryManifest, _ source: String
  ) -> InventoryManifest.CreationTime {
    if let time = manifest.creationTime { return time }
    let folder = source.split(separator: "/").dropLast().last ?? ""
    if let time = InventoryManifest.CreationTime(dateFolder: folder) {
      logger.warning(
        "\(source): the manifest has no creationTimestamp that is a time; the files show that of its folder's name"
      )
      return time
    }
    logger.warning(
      "\(source): the manifest has no creationTimestamp that is a time, and its folder is not named by a date; the files show 1970-01-01"
    )
    return .epoch
  }

  /// The key or path of a file beside another.
  private static func sibling(of path: String, named name: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return name }
    return path[...slash] + name
  }
}
