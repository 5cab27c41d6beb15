public import InventoryManifest
import ReadPlanning

/// A manifest that has been read and checked, and the place of its chunks.
public struct Inventory: Sendable {
  public enum Place: Sendable, Equatable {
    /// The chunks are objects of this bucket.
    case bucket(String)
    /// The chunks are files under this folder.
    case folder(String)
  }

  public struct Chunk: Sendable {
    /// The key in the manifest.
    public let key: String
    /// The chunk's file name in data/.
    public let name: String
    /// The chunk's size, from the manifest or, where that does not give it, from the store.
    public let sizeInBytes: Int
    public let md5: MD5Digest?
    /// The ETag that the store gave with the size; nil if it was not asked.
    public let eTag: String?
    /// Why the chunk cannot be opened: the manifest does not give its size, and neither did the
    /// store. Nil if it can be opened.
    public let failure: FileSystemError?

    public init(
      key: String, name: String, sizeInBytes: Int, md5: MD5Digest?, eTag: String? = nil,
      failure: FileSystemError? = nil
    ) {
      self.key = key
      self.name = name
      self.sizeInBytes = sizeInBytes
      self.md5 = md5
      self.eTag = eTag
      self.failure = failure
    }
  }

  /// The mounted source, as the user named it.
  public let source: String
  public let manifest: [UInt8]
  /// The bytes of manifest.checksum; nil where there is none.
  public let checksum: [UInt8]?
  public let creationTimeInMilliseconds: Int64
  public let format: InventoryManifest.FileFormat
  public let place: Place
  /// How the keys of the objects, or the paths of the files, differ from those in the manifest.
  public let keyPrefix: KeyPrefix
  /// The bucket that the manifest names.
  public let destinationBucket: String?
  public let chunks: InventoryChunks
  /// The ETag of the manifest's object; nil if the store gave none, or there is no store.
  public var manifestETag: String?
  /// When the manifest's object was last modified; nil if the store did not say, or there is none.
  public var manifestModifiedAtSecondsSinceEpoch: Int64?

  public init(
    source: String, manifest: [UInt8], checksum: [UInt8]?, creationTimeInMilliseconds: Int64,
    format: InventoryManifest.FileFormat, place: Place, keyPrefix: KeyPrefix = .unchanged,
    destinationBucket: String?, chunks: InventoryChunks
  ) {
    self.source = source
    self.manifest = manifest
    self.checksum = checksum
    self.creationTimeInMilliseconds = creationTimeInMilliseconds
    self.format = format
    self.place = place
    self.keyPrefix = keyPrefix
    self.destinationBucket = destinationBucket
    self.chunks = chunks
  }

  /// Makes an inventory of chunks that come from no manifest.
  public init(
    source: String, manifest: [UInt8], checksum: [UInt8]?, creationTimeInMilliseconds: Int64,
    format: InventoryManifest.FileFormat, place: Place, keyPrefix: KeyPrefix = .unchanged,
    destinationBucket: String?, chunks: [Chunk]
  ) {
    self.init(
      source: source, manifest: manifest, checksum: checksum,
      creationTimeInMilliseconds: creationTimeInMilliseconds, format: format, place: place,
      keyPrefix: keyPrefix, destinationBucket: destinationBucket, chunks: InventoryChunks(chunks))
  }

  /// The memory that the inventory takes as long as it is mounted: its manifest's text, and some 60
  /// bytes for each chunk.
  public var memoryInBytes: Int {
    manifest.count + chunks.count * InventoryChunks.bytesPerChunk
  }

  /// The bytes that a reader of this format reads first: Parquet and ORC have their footer at the
  /// end. A small chunk is fetched whole: up to 4 MiB the rest costs little more than the round
  /// trip it saves.
  func openingRange(ofChunkWithSize sizeInBytes: Int) -> Range<Int> {
    guard sizeInBytes > PartSizing.smallChunkInBytes else { return 0..<sizeInBytes }
    return switch format {
    case .parquet, .orc: max(0, sizeInBytes - Self.footerInBytes)..<sizeInBytes
    default: 0..<min(sizeInBytes, Self.openingInBytes)
    }
  }

  /// The size of the first request at a chunk's end. The footer of a 100 MB Parquet chunk takes
  /// some 10 KB for each row group, with the statistics of its columns.
  private static let footerInBytes = 128 << 10
  private static let openingInBytes = 1 << 20
}
