import CCrypto

/// MD5 (RFC 1321), of 16 bytes: S3's ETags and inventories name bytes by it. It withstands
/// accidents, not people.
public struct MD5: DigestFunction {
  private var context = MD5_CTX()

  public init() { MD5_Init(&context) }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    MD5_Update(&context, bytes.baseAddress, bytes.count)
  }

  public func digest() -> [UInt8] {
    // MD5_Final pads what it is given, so it is given a copy.
    var context = context
    return [UInt8](unsafeUninitializedCapacity: 16) { digest, count in
      // It writes exactly 16 bytes, which is the capacity.
      MD5_Final(digest.baseAddress, &context)
      count = 16
    }
  }
}
