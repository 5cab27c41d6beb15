// An S3 Inventory manifest as a value: which chunk files make up one inventory, and in which
// format.
//
// AWS writes `manifest.json` once per report, beside a `manifest.checksum`; tools that imitate it
// deviate in small ways, so everything that a mount can do without is optional here. What a mount
// needs, a list of keys and a known format, is required, and its absence is an error that says what
// the file is instead.
//
// The value is immutable and shared by every layer above. Of each chunk it keeps 32 bytes beside
// the manifest's text, which the mount shows anyway.

import FoundationEssentials

/// The content of one `manifest.json`.
///
/// Source: "Locating your inventory list" in the Amazon S3 user guide.
public struct InventoryManifest: Sendable, Equatable {
  /// The largest manifest that is read, 256 MiB: 100,000 chunks take about 25 MB, so this is ten
  /// times the largest one expected, and small enough to hold in memory while it is decoded.
  public static let maximumSizeInBytes = 256 << 20

  /// The most chunks of a manifest, 1,000,000: the largest inventories known have some thousands.
  public static let mostChunks = 1_000_000

  /// The plain name of the bucket that holds the chunks, whichever way the manifest spelled it;
  /// nil if the manifest names none, or something that is not a bucket.
  public var destinationBucket: String?

  /// The text of `destinationBucket` in the manifest if it is not the name of a bucket.
  public var unusableDestination: String?

  /// When the inventory began; nil if absent or not a time.
  public var creationTime: CreationTime?

  public var fileFormat: FileFormat

  /// The columns, in a notation that depends on `fileFormat`: a comma-separated list for CSV, a
  /// `struct<…>` for ORC, a `message … { … }` for Parquet.
  public var fileSchema: String?

  /// The chunk files in the manifest's order, which is not the order of their names. The array may
  /// be empty.
  public var chunks: ChunkTable

  public init(
    destinationBucket: String? = nil, unusableDestination: String? = nil,
    creationTime: CreationTime? = nil, fileFormat: FileFormat, fileSchema: String? = nil,
    chunks: ChunkTable
  ) {
    self.destinationBucket = destinationBucket
    self.unusableDestination = unusableDestination
    self.creationTime = creationTime
    self.fileFormat = fileFormat
    self.fileSchema = fileSchema
    self.chunks = chunks
  }

  /// One chunk file of the inventory.
  public struct Chunk: Sendable, Hashable {
    /// The largest size accepted, 50 TiB: an object of S3 has at most 10,000 parts of 5 GiB, 48.8
    /// TiB ("Amazon S3 objects overview" in the Amazon S3 user guide).
    public static let maximumSizeInBytes: UInt64 = 50 << 40

    /// The object's key, verbatim: never decoded, never built from parts.
    public var key: String

    /// The object's length; nil if the manifest does not say, so that the store has to be asked.
    public var sizeInBytes: UInt64?

    /// The MD5 of the object's bytes; nil if the manifest has none that is usable, so that the
    /// chunk cannot be verified.
    public var md5: MD5Digest?

    public init(key: String, sizeInBytes: UInt64? = nil, md5: MD5Digest? = nil) {
      self.key = key
      self.sizeInBytes = sizeInBytes
      self.md5 = md5
    }
  }

  /// The format of every chunk file of one inventory.
  public enum FileFormat: String, Sendable, Hashable, CaseIterable {
    case csv = "CSV"
    case orc = "ORC"
    case parquet = "Parquet"

    /// Reads the manifest's `fileFormat`, whose case varies; nil for any other word.
    public init?(named name: String) {
      let name = name.lowercased()
      guard let format = Self.allCases.first(where: { $0.rawValue.lowercased() == name }) else {
        return nil
      }
      self = format
    }
  }

  /// A moment in milliseconds since 1970-01-01T00:00:00Z, from 0 to the end of the year 9999.
  public struct CreationTime: Sendable, Hashable {
    public let millisecondsSinceEpoch: Int64

    private static let endOfYear9999: Int64 = 253_402_300_799_999

    /// Returns nil for a time outside these bounds.
    public init?(millisecondsSinceEpoch: Int64) {
      guard (0...Self.endOfYear9999).contains(millisecondsSinceEpoch) else { return nil }
      self.millisecondsSinceEpoch = millisecondsSinceEpoch
    }

    /// Returns nil for a time before 1970, or after the end of the year 9999.
    public init?(secondsSinceEpoch: Int64) {
      let (milliseconds, overflow) = secondsSinceEpoch.multipliedReportingOverflow(by: 1000)
      guard !overflow else { return nil }
      self.init(millisecondsSinceEpoch: milliseconds)
    }

    /// 1970-01-01T00:00:00Z.
    public static let epoch = Self(unchecked: 0)

    private init(unchecked millisecondsSinceEpoch: Int64) {
      self.millisecondsSinceEpoch = millisecondsSinceEpoch
    }

    /// Reads the name of the folder that S3 writes an inventory to, `YYYY-MM-DDTHH-MMZ`; nil for
    /// any other name.
    public init?(dateFolder name: some StringProtocol) {
      let text = Array(name.utf8)
      let isDate = zip(text, "0000-00-00T00-00Z".utf8).allSatisfy { byte, wanted in
        wanted == UInt8(ascii: "0")
          ? (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) : byte == wanted
      }
      guard text.count == 17, isDate else { return nil }
      let (date, hour, minute) = (text[..<10], text[11..<13], text[14..<16])
      guard hour.lexicographicallyPrecedes("24".utf8), minute.lexicographicallyPrecedes("60".utf8)
      else { return nil }
      func string(_ bytes: ArraySlice<UInt8>) -> String { String(decoding: bytes, as: UTF8.self) }
      self.init(iso8601: "\(string(date))T\(string(hour)):\(string(minute)):00Z")
    }

    /// Reads a time as ISO 8601 writes it, such as `2026-11-22T01:00:00Z`; nil for anything else.
    init?(iso8601 text: String) {
      guard let date = try? Date(text, strategy: .iso8601),
        let milliseconds = Int64(exactly: (date.timeIntervalSince1970 * 1000).rounded())
      else { return nil }
      self.init(millisecondsSinceEpoch: milliseconds)
    }

    /// Reads a manifest's timestamp: milliseconds as AWS writes them, or seconds as Alibaba OSS
    /// does. Below 10^11 it is seconds, for as milliseconds it would be a day before March 1973.
    init?(timestamp: Int64) {
      guard timestamp >= 0 else { return nil }
      self.init(
        millisecondsSinceEpoch: timestamp < 100_000_000_000 ? timestamp * 1000 : timestamp)
    }
  }
}
