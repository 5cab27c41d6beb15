@testable import BlockCache

/// The index file of a cached chunk. Half of the inputs get right what chance would never find:
/// what this version of the format begins with, and the header's checksum. Half of these have their
/// last bytes where the seal is.
@Sendable func fuzzCacheIndex(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  var index = Array(bytes.dropFirst())
  if first & 1 == 0 {
    let any = IndexFormat.Header(sizeInBytes: 0, identityDigest: [])
    // Magic, version, block size.
    index = IndexFormat.encode(any).prefix(16) + index
    let shortfall = IndexFormat.headerSizeInBytes - index.count
    if shortfall > 0 { index += [UInt8](repeating: 0, count: shortfall) }
    let end = IndexFormat.headerSizeInBytes - 4
    if first & 2 == 0, bytes.count > EntrySeal.sizeInBytes {
      index.replaceSubrange(
        end - EntrySeal.sizeInBytes..<end, with: bytes.suffix(EntrySeal.sizeInBytes))
    }
    let checksum = index[..<end].withUnsafeBytes { BlockChecksum(of: $0).value }
    for place in 0..<4 { index[end + place] = UInt8(truncatingIfNeeded: checksum >> (place * 8)) }
  }
  if let header = IndexFormat.decodeHeader(index) {
    check(header.sizeInBytes >= 0, "\(header.sizeInBytes) bytes")
    check(header.identityDigest.count == 32, "\(header.identityDigest.count) bytes of digest")
    let encoded = IndexFormat.encode(header)
    check(encoded.count == IndexFormat.headerSizeInBytes, "another length")
    check(IndexFormat.decodeHeader(encoded)?.seal == header.seal, "another seal")
  }
  var entry: UInt64 = 0
  for byte in bytes.suffix(8) { entry = entry << 8 | UInt64(byte) }
  let block = Int(first) << 24 | bytes.count
  if let checksum = IndexFormat.decodeEntry(entry, block: block) {
    check(IndexFormat.encodeEntry(block: block, checksum: checksum) == entry, "another entry")
  }
}
