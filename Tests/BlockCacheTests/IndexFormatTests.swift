import Testing

@testable import BlockCache

@Suite struct IndexFormatTests {
  private static let digest = [UInt8](1...32)

  @Test(
    "A header is read as it was written",
    arguments: [nil, "\"0123456789abcdef\"", String(repeating: "x", count: 1024)])
  func headerRoundTrip(eTag: String?) {
    for size in [0, 1, 5 << 40] {
      let header = IndexFormat.Header(
        sizeInBytes: size, identityDigest: Self.digest, eTag: eTag)
      let bytes = IndexFormat.encode(header)
      #expect(bytes.count == IndexFormat.headerSizeInBytes)
      #expect(IndexFormat.decodeHeader(bytes) == header)
    }
  }

  @Test("An ETag that is too long is not stored, rather than its beginning")
  func longETag() throws {
    let bytes = IndexFormat.encode(
      IndexFormat.Header(
        sizeInBytes: 5, identityDigest: Self.digest, eTag: String(repeating: "x", count: 1025)))
    let header = try #require(IndexFormat.decodeHeader(bytes))
    #expect(header.eTag == nil)
  }

  @Test("A header of a chunk that is larger than any object is none")
  func hugeChunk() {
    for (size, isRead) in [(50 << 40, true), ((50 << 40) + 1, false), (Int.max, false)] {
      let bytes = IndexFormat.encode(
        IndexFormat.Header(sizeInBytes: size, identityDigest: Self.digest))
      #expect((IndexFormat.decodeHeader(bytes) != nil) == isRead, "\(size)")
    }
  }

  @Test("A header with any one bit flipped is none")
  func damagedHeader() {
    let whole = IndexFormat.encode(
      IndexFormat.Header(sizeInBytes: 12345, identityDigest: Self.digest, eTag: "\"e\""))
    for place in whole.indices {
      var bytes = whole
      bytes[place] ^= 1 << UInt8(place % 8)
      #expect(IndexFormat.decodeHeader(bytes) == nil, "byte \(place)")
    }
    #expect(IndexFormat.decodeHeader(Array(whole.dropLast())) == nil)
    #expect(IndexFormat.decodeHeader([]) == nil)
  }

  @Test("A block's entry is read as it was written, for any checksum")
  func entryRoundTrip() {
    for block in [0, 1, 4095, 80_000_000] {
      for checksum: UInt32 in [0, 1, 0xffff_ffff, 0x9e37_79b9] {
        let entry = IndexFormat.encodeEntry(block: block, checksum: checksum)
        #expect(IndexFormat.decodeEntry(entry, block: block) == checksum)
        #expect(IndexFormat.decodeEntry(entry, block: block + 1) == nil)
        for bit in 0..<64 {
          #expect(IndexFormat.decodeEntry(entry ^ 1 << UInt64(bit), block: block) == nil)
        }
      }
      #expect(IndexFormat.decodeEntry(0, block: block) == nil, "a hole is no entry")
    }
  }
}
