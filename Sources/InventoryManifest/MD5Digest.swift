import Digests
import FoundationEssentials

/// The 16 bytes of an MD5, held in two words: a manifest has one per chunk, and 100,000 arrays or
/// strings would cost several times as much.
public struct MD5Digest: Sendable, Hashable, CustomStringConvertible {
  private var high: UInt64
  private var low: UInt64

  /// 16 zero bytes, where there is no digest.
  static let zero = MD5Digest(words: [UInt8](repeating: 0, count: 16))

  /// Computes the MD5 of `bytes`.
  public init(of bytes: [UInt8]) {
    self.init(words: MD5.digest(of: bytes))
  }

  /// Takes 16 bytes; nil for any other number of them.
  public init?(_ bytes: some Sequence<UInt8>) {
    let bytes = Array(bytes.prefix(17))
    guard bytes.count == 16 else { return nil }
    self.init(words: bytes)
  }

  /// Reads 32 hexadecimal digits in either case; nil for anything else, such as a multipart ETag
  /// ("…-7").
  public init?(hex: some StringProtocol) {
    guard hex.utf8.count == 32, let bytes = Hexadecimal.bytes(hex) else { return nil }
    self.init(words: bytes)
  }

  /// Reads 16 bytes in Base64, as the header Content-MD5 has them (RFC 1864); nil for anything
  /// else.
  public init?(base64: some StringProtocol) {
    guard base64.utf8.count == 24, let bytes = Data(base64Encoded: String(base64)) else {
      return nil
    }
    self.init(bytes)
  }

  /// Takes 16 bytes, first byte first.
  fileprivate init(words bytes: [UInt8]) {
    (high, low) = bytes.withUnsafeBytes {
      (
        UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
        UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      )
    }
  }

  /// The 16 bytes, first byte first.
  public var bytes: [UInt8] {
    [high, low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - $0 * 8)) } }
  }

  /// 32 lower-case hexadecimal digits, as md5sum prints them.
  public var description: String { Hexadecimal.text(bytes) }
}

/// Computes the MD5 of bytes that come piece by piece.
public struct MD5Hasher {
  private var hash = MD5()

  public init() {}

  public mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bytes) }

  public func finish() -> MD5Digest { MD5Digest(words: hash.digest()) }
}
