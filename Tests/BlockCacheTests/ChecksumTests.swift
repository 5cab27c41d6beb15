import TestSupport
import Testing

@testable import BlockCache

@Suite("The checksum of a block")
struct ChecksumTests {
  private typealias Algorithm = BlockChecksum.Algorithm

  private func checksum(_ algorithm: Algorithm, of pieces: ArraySlice<UInt8>...) -> UInt32 {
    var checksum = BlockChecksum(algorithm)
    for piece in pieces { piece.withUnsafeBytes { checksum.update($0) } }
    return checksum.value
  }

  /// Those that this processor can compute.
  private static var available: [Algorithm] {
    Algorithm.allCases.filter { $0 == .crc32 || $0 == .preferred }
  }

  @Test("The values are those published: RFC 3720, appendix B.4, and zlib's", arguments: available)
  private func publishedValues(_ algorithm: Algorithm) {
    #expect(checksum(algorithm, of: []) == 0)
    let digits = checksum(algorithm, of: Array("123456789".utf8)[...])
    let zeros = checksum(algorithm, of: [UInt8](repeating: 0, count: 32)[...])
    let ones = checksum(algorithm, of: [UInt8](repeating: 0xFF, count: 32)[...])
    let ascending = checksum(algorithm, of: [UInt8](0..<32)[...])
    let values = [digits, zeros, ones, ascending]
    switch algorithm {
    case .crc32c: #expect(values == [0xE306_9283, 0x8A91_36AA, 0x62A8_AB43, 0x46DD_794E])
    case .crc32: #expect(values == [0xCBF4_3926, 0x190A_55AD, 0xFF6C_AB0B, 0x9126_7E8A])
    }
  }

  @Test("Pieces of any length and at any address add up to the whole", arguments: available)
  private func pieces(_ algorithm: Algorithm) {
    var generator = SeededGenerator(seed: 3)
    let bytes = (0..<1000).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let whole = checksum(algorithm, of: bytes[...])
    for first in [0, 1, 7, 8, 9, 63, 500, 1000] {
      for second in first...min(first + 17, 1000) {
        #expect(
          checksum(algorithm, of: bytes[..<first], bytes[first..<second], bytes[second...]) == whole
        )
      }
    }
  }
}
