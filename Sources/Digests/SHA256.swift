import CCrypto

/// SHA-256 (FIPS 180-4), of 32 bytes.
public struct SHA256: DigestFunction {
  private var context = SHA256_CTX()

  public init() { SHA256_Init(&context) }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    SHA256_Update(&context, bytes.baseAddress, bytes.count)
  }

  public func digest() -> [UInt8] {
    // SHA256_Final pads what it is given, so it is given a copy.
    var context = context
    return [UInt8](unsafeUninitializedCapacity: 32) { digest, count in
      // It writes exactly 32 bytes, which is the capacity.
      SHA256_Final(digest.baseAddress, &context)
      count = 32
    }
  }
}
