import ReadPlanning

/// The index file of a cached chunk.
///
///     byte  0   8  magic "IFSINDEX"
///           8   4  format version
///          12   4  block size in bytes
///          16   8  chunk size in bytes
///          24  32  SHA-256 of the chunk's identity
///          56   2  length of the ETag; 0 while it is not known
///          58   …  the ETag
///        4060  32  seal: SHA-256 of all entries below as they were when the chunk had the manifest's MD5; else zeros
///        4092   4  checksum of bytes 0 ..< 4092
///        4096   8  block 0: checksum of its bytes, then the same with the block's number mixed in
///        4104   8  block 1 …
///
/// All integers are little-endian.
///
/// **Why any order of writes is safe.** A block's entry counts only if its two halves agree, and the block's bytes
/// count only if they have the entry's checksum, which is compared before their first use after a start. So an entry
/// that reached the disk before its bytes (power loss), bytes without an entry (a crash between the two), a torn
/// entry, and a flipped bit anywhere all end the same way: the block is absent and is fetched again. A header that is
/// torn, of another version or of another chunk makes the whole entry absent. A seal counts only while every block is
/// present with the checksum that it had; so nothing need take it off when a block is evicted or comes anew, and it
/// holds again when the same bytes have come back. Nothing is ever repaired in place.
enum IndexFormat {
  static let version: UInt32 = 2
  static let headerSizeInBytes = 4096
  static let entrySizeInBytes = 8
  static let maximumETagLength = 1024

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
    let eTag = Array((header.eTag ?? "").utf8.prefix(maximumETagLength))
    append(UInt16(eTag.count), to: &bytes)
    bytes += eTag
    bytes += [UInt8](repeating: 0, count: sealOffset - bytes.count)
    bytes += header.seal?.digest ?? [UInt8](repeating: 0, count: EntrySeal.sizeInBytes)
    append(bytes.withUnsafeBytes { BlockChecksum(of: $0).value }, to: &bytes)
    return bytes
  }

  /// Nil for anything but a whole header of this version.
  static func decodeHeader(_ bytes: [UInt8]) -> Header? {
    guard bytes.count >= headerSizeInBytes, bytes.starts(with: magic),
      integer(UInt32.self, bytes, at: 8) == version,
      integer(UInt32.self, bytes, at: 12) == UInt32(BlockGrid.blockSizeInBytes),
      let size = Int(exactly: integer(UInt64.self, bytes, at: 16)),
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

  /// Never zero, so that a hole in the index is no entry.
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
