import Glibc
import InventoryManifest
public import Logging
public import ObjectStore
import Posix
import PrintableText
import SystemPackage

/// Reads a manifest and its checksum, checks them, and finds out where the chunks are.
///
/// The store is asked for the two files at once, and for nothing else: chunk sizes come from the
/// manifest. Only a chunk whose size the manifest does not say is asked about, a bounded number at
/// a time.
public struct InventoryLoader: Sendable {
  private let bucketOverride: String?
  private let readTimeout: Duration
  private let clock: any FileSystemClock
  private let logger: Logger
  /// A mistyped endpoint is to be said soon; a store that is just being restarted is worth a
  /// moment.
  private static let unreachableTimeout = Duration.seconds(5)

  /// - Parameters:
  ///   - bucketOverride: where the chunks are, instead of where the manifest says.
  ///   - readTimeout: how long a request is tried again for.
  ///   - clock: the time by which that is counted.
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
  /// - Throws: where the manifest cannot be had or used; what is wrong with single chunks is
  ///   logged, and kept for who opens them (`Inventory.Chunk.failure`).
  public func load(
    _ location: S3Location, from store: any ChunkStore, maxRequests: Int
  ) throws(InventoryLoadError) -> Inventory {
    let checksumLocation = S3Location(
      bucket: location.bucket, key: Self.sibling(of: location.key, named: "manifest.checksum"))
    let retries = StoreRetries(clock)
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
      throw .noBucket("\(location)")
    }
    let asked = ask(store, retries, manifest, bucket, maxRequests: maxRequests)
    return inventory(
      source: "\(location)", manifest, bytes, checksum, place: .bucket(bucket)
    ) { index, chunk in asked[index] ?? Size(sizeInBytes: chunk.sizeInBytes) }
  }

  /// The checksum's bytes, or nil where there is none to be had.
  private func checksum(
    _ result: Result<[UInt8], StoreError>, of location: S3Location
  ) throws(InventoryLoadError) -> [UInt8]? {
    switch result {
    case .success(let bytes): return bytes
    // Without permission to list the bucket, S3 answers 403 for a key that does not exist.
    case .failure(let error) where error.kind == .noSuchKey || error.kind == .accessDenied:
      logger.warning(
        "\(location) is not there or cannot be read: the manifest is used unverified, and may be of an inventory that is not complete yet"
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

  /// Asks the store for the sizes that the manifest does not say.
  private func ask(
    _ store: any ChunkStore, _ retries: StoreRetries, _ manifest: InventoryManifest,
    _ bucket: String,
    maxRequests: Int
  ) -> [Int: Size] {
    let unknown = manifest.chunks.indices.filter { manifest.chunks[$0].sizeInBytes == nil }
    guard !unknown.isEmpty else { return [:] }
    logger.info(
      "asking the store for the size of \(unknown.count) chunks that the manifest does not tell")
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
            "\(location): the store's answer to HEAD should have a Content-Length of at most \(InventoryManifest.Chunk.maximumSizeInBytes), and has \(found); the chunk cannot be opened"
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

  /// What an answer to HEAD says, or that it says nothing of use.
  private static func size(_ head: ResponseHead) -> Size {
    guard let length = head.contentLength, length <= InventoryManifest.Chunk.maximumSizeInBytes
    else { return Size(failure: .inputOutput) }
    // Without a version it is asked for again, and the failure told, when the chunk is opened.
    return Size(sizeInBytes: length, eTag: try? head.version())
  }

  // MARK: From a disk

  /// Loads an inventory from the local disk, where its chunks are files too.
  ///
  /// - Throws: as for a store, and where the folder that the chunks' keys begin in is not found.
  public func load(_ path: String) throws(InventoryLoadError) -> Inventory {
    let path = try Self.absolute(path)
    let checksumPath = Self.sibling(of: path, named: "manifest.checksum")
    let bytes = try Self.read(
      path, limitInBytes: InventoryManifest.maximumSizeInBytes, expected: "a manifest.json")
    var checksum: [UInt8]?
    if access(checksumPath, F_OK) == 0 {
      checksum = try Self.read(
        checksumPath, limitInBytes: ManifestChecksum.maximumSizeInBytes,
        expected: "the MD5 of the manifest.json beside it")
    } else {
      logger.warning("\(checksumPath) is not there: the manifest is used unverified")
    }
    let manifest = try decode(bytes, checksum, from: path, checksumLocation: checksumPath)
    let root = try findRoot(path, firstKey: manifest.chunks.first?.key)
    return inventory(source: path, manifest, bytes, checksum, place: .folder(root)) { _, chunk in
      if let size = chunk.sizeInBytes { return Size(sizeInBytes: size) }
      guard let size = LocalChunks.sizeInBytes(ofKey: chunk.key, under: root) else {
        logger.error(
          "\(printable(chunk.key, limit: 1024)): the manifest does not tell its size, and there is no such file under \(printable(root, limit: 1024))"
        )
        return Size(failure: .notFound)
      }
      return Size(sizeInBytes: size)
    }
  }

  /// The nearest folder above the manifest under which the first chunk's key is a file. Never "/",
  /// under which any file of this machine could be named.
  private func findRoot(_ path: String, firstKey: String?) throws(InventoryLoadError) -> String {
    var folder = FilePath(path)
    folder.removeLastComponent()
    guard let firstKey else { return folder.string }
    while !folder.components.isEmpty {
      if LocalChunks.holds(firstKey, under: folder.string) { return folder.string }
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

  /// - Parameter expected: what the file should be, for messages.
  private static func read(
    _ path: String, limitInBytes: Int, expected: String
  ) throws(InventoryLoadError) -> [UInt8] {
    do {
      return try WholeFile.read(path, limitInBytes: limitInBytes)
    } catch {
      switch error {
      case .system(let code):
        throw .file(path: path, "\(Errno(rawValue: code)); expected \(expected)")
      case .tooLarge:
        throw .file(path: path, "larger than \(limitInBytes) bytes; expected \(expected)")
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
      creationTimeInMilliseconds: manifest.creationTime?.millisecondsSinceEpoch ?? 0,
      format: manifest.fileFormat, place: place, destinationBucket: manifest.destinationBucket,
      chunks: chunks)
  }

  /// The key or path of a file beside another.
  private static func sibling(of path: String, named name: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return name }
    return path[...slash] + name
  }
}
