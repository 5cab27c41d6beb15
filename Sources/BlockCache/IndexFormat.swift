import Blocks

/// The format of a cached chunk on disk: two files.
///
///     <digest>.data    the chunk's length, sparse: blocks of 64 KiB at their own offsets
///     ┌─ block 0 ─┬─ block 1 ─┬─  hole  ─┬─ block 3 ─┬ … ┬─ last ─┐
///     └───────────┴───────────┴──────────┴───────────┴───┴────────┘
///     <digest>.index
///     ┌─ header ──────────────┬─ entry 0 ─┬─ entry 1 ─┬─ zeros ─┬─ entry 3 ─┬ …
///     └───────────────────────┴───────────┴───────────┴─────────┴───────────┴
///
///     byte  0   8  magic "IFSINDEX"
///           8   4  format version
///          12   4  block size in bytes
///          16   8  chunk size in bytes
///          24  32  SHA-256 of the chunk's identity
///          56   2  length of the ETag; 0 while it is not known
///          58   …  the ETag
///        1116  32  seal: SHA-256 of all entries below, as they were when the chunk had the
///                  manifest's MD5; else zeros
///        1148   4  checksum of bytes 0 ..< 1148
///        1152   8  block 0: checksum of its bytes, then the same with the block's number mixed in
///        1160   8  block 1 …
///
/// The header leaves room for the entries of 368 blocks in the first 4 KiB, so that the index of a
/// chunk of up to 23 MiB takes one unit of the disk: of many small chunks the indexes would
/// otherwise take more space than the chunks.
///
/// All integers are little-endian.
///
/// **Steps.** New entry: data file, its length, index file, its length, header. Version: header
/// again, now with the ETag, before the first block; and with the seal, once the chunk was compared
/// with the manifest's MD5. Blocks: their bytes, in pieces, then their entries. Eviction: entries
/// to zero, then the hole. Removal: index file, then data file. A process may be killed between any
/// two, and nothing is synced, so that after a power loss any of the steps, in sectors, may be
/// missing while later ones are there.
///
/// **Why any order of writes is safe.** No step is believed because of its place in the order; each
/// thing that is read vouches for itself.
///
/// - A block is used only if the two halves of its entry agree and its bytes have that checksum,
///   which is compared before the first use after a start (and never again: until the process ends
///   it knows what it wrote). An entry without its bytes, bytes without their entry, a torn entry,
///   an old entry over new bytes or the reverse, an entry whose hole was punched, and a flipped
///   bit: each makes the block absent, and it is fetched again.
/// - The bytes of one entry are all of one version of the object, because the version is part of
///   the identity whose digest names the files and stands in the header. Files that a removal left
///   over are therefore right or unusable, not outdated. Should the ETag in the header be older,
///   the store's next response shows it, by `If-Match` or by its own ETag, before a byte of it is
///   mixed with these; should it be missing, the whole entry is absent.
/// - A seal counts only while every block is present with the checksum that it had when the chunk
///   was hashed. So it need not be removed when a block is evicted or fetched again, and it holds
///   again when the same bytes have come back.
/// - A header that is torn, of another format version or of another chunk makes the whole entry
///   absent; so does a data file of another length, or one half without the other. Another
///   version's folder (`chunks-v…`) is removed, and so is one with the checksums of another
///   processor.
/// - Space: what is on disk and named by no entry is punched by `BlockCache.scan` or `open`, before
///   anything is written, so that the books begin with all that is there.
///
/// Nothing is ever repaired in place.
enum IndexFormat {
  static let version: UInt32 = 4
  static let headerSizeInBytes = 1152
  static let entrySizeInBytes = 8
  static let maximumETagLength = 1024
  /// The size of the largest chunk, 50 TiB, which is also the manifest's limit: a header with a
  /// larger size is invalid.
  static let maximumChunkSizeInBytes = 50 << 40

  private static let magic = Array("IFSINDEX".utf8)
  private static let eTagOffset = 58
  private static let headerChecksumOffset = headerSizeInBytes - 4
  private static let sealOffset = headerChecksumOffset - EntrySeal.sizeInBytes
  private static let entrySalt: UInt32 = 0x9E37_79B9

  struct Header: Equatable {
    var sizeInBytes: Int
    var identityDigest: [UInt8]
    var eTag: String?
    var seal: EntrySeal?
  }

  static func fileSize(blockCount: Int) -> Int { headerSizeInBytes + blockCount * entrySizeInBytes }

  static func offset(ofBlock block: Int) -> Int { headerSizeInBytes + block * entrySizeInBytes }

  static func encode(_ header: Header) -> [UInt8] {
    var bytes = magic
    append(version, to: &bytes)
    append(UInt32(BlockGrid.blockSizeInBytes), to: &bytes)
    append(UInt64(header.sizeInBytes), to: &bytes)
    bytes += header.identityDigest
    var eTag = Array((header.eTag ?? "").utf8)
    // A truncated ETag would be another ETag.
    if eTag.count > maximumETagLength { eTag = [] }
    append(UInt16(eTag.count), to: &bytes)
    bytes += eTag
    bytes += [UInt8](repeating: 0, count: sealOffset - bytes.count)
    bytes += header.seal?.digest ?? [UInt8](repeating: 0, count: EntrySeal.sizeInBytes)
    append(bytes.withUnsafeBytes { BlockChecksum(of: $0).value }, to: &bytes)
    return bytes
  }

  /// Reads a header; nil unless it is whole and of this version.
  static func decodeHeader(_ bytes: [UInt8]) -> Header? {
    guard bytes.count >= headerSizeInBytes, bytes.starts(with: magic),
      integer(UInt32.self, bytes, at: 8) == version,
      integer(UInt32.self, bytes, at: 12) == UInt32(BlockGrid.blockSizeInBytes),
      let size = Int(exactly: integer(UInt64.self, bytes, at: 16)), size <= maximumChunkSizeInBytes,
      integer(UInt32.self, bytes, at: headerChecksumOffset)
        == bytes[..<headerChecksumOffset].withUnsafeBytes({ BlockChecksum(of: $0).value })
    else { return nil }
    let eTagLength = Int(integer(UInt16.self, bytes, at: 56))
    guard eTagLength <= maximumETagLength else { return nil }
    let eTag = String(decoding: bytes[eTagOffset..<eTagOffset + eTagLength], as: UTF8.self)
    return Header(
      sizeInBytes: size, identityDigest: Array(bytes[24..<56]), eTag: eTag.isEmpty ? nil : eTag,
      seal: EntrySeal(Array(bytes[sealOffset..<headerChecksumOffset])))
  }

  static func encodeEntry(block: Int, checksum: UInt32) -> UInt64 {
    UInt64(checksum) | UInt64(checksum ^ salt(block)) << 32
  }

  /// The block's checksum, or nil when the block is absent.
  static func decodeEntry(_ entry: UInt64, block: Int) -> UInt32? {
    let checksum = UInt32(truncatingIfNeeded: entry)
    return UInt32(truncatingIfNeeded: entry >> 32) == checksum ^ salt(block) ? checksum : nil
  }

  /// The number mixed into a block's entry. It is never zero, so that a hole in the index is no
  /// entry.
  private static func salt(_ block: Int) -> UInt32 {
    (UInt32(truncatingIfNeeded: block) &* 2 &+ 1) ^ entrySalt
  }

  private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }

  private static func integer<T: FixedWidthInteger>(_: T.Type, _ bytes: [UInt8], at offset: Int)
    -> T
  {
    bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
  }
}
