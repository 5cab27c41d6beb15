import Crypto

/// The 16 bytes of an MD5, held in two words: a manifest has one per chunk, and 100,000 arrays or strings
/// would cost several times as much.
public struct MD5Digest: Sendable, Hashable, CustomStringConvertible {
  private var high: UInt64
  private var low: UInt64

  /// Computes the MD5 of `bytes`.
  public init(of bytes: [UInt8]) {
    self.init(Insecure.MD5.hash(data: bytes))
  }

  init(_ digest: Insecure.MD5Digest) {
    (high, low) = digest.withUnsafeBytes {
      (
        UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
        UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      )
    }
  }

  /// Takes 16 bytes; nil for any other number of them.
  public init?(_ bytes: some Sequence<UInt8>) {
    var (high, low, count) = (UInt64(0), UInt64(0), 0)
    for byte in bytes {
      guard count < 16 else { return nil }
      high = high << 8 | low >> 56
      low = low << 8 | UInt64(byte)
      count += 1
    }
    guard count == 16 else { return nil }
    (self.high, self.low) = (high, low)
  }

  /// Reads 32 hexadecimal digits in either case; nil for anything else, such as a multipart ETag ("…-7").
  public init?(hex: some StringProtocol) {
    guard hex.utf8.count == 32 else { return nil }
    var (high, low) = (UInt64(0), UInt64(0))
    for digit in hex.utf8 {
      let value: UInt8
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = digit - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): value = digit - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): value = digit - UInt8(ascii: "A") + 10
      default: return nil
      }
      high = high << 4 | low >> 60
      low = low << 4 | UInt64(value)
    }
    (self.high, self.low) = (high, low)
  }

  /// The 16 bytes, first byte first.
  public var bytes: [UInt8] {
    [high, low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - $0 * 8)) } }
  }

  /// 32 lower-case hexadecimal digits, as md5sum prints them.
  public var description: String {
    [high, low].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}

/// Computes the MD5 of bytes that come piece by piece.
public struct MD5Hasher {
  private var hash = Insecure.MD5()

  public init() {}

  public mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }

  public func finish() -> MD5Digest { MD5Digest(hash.finalize()) }
}
