import CCrypto

/// SHA-1 (FIPS 180-4), of 20 bytes: the AWS command line names its files by it. It withstands
/// accidents, not people.
public struct SHA1: DigestFunction {
  private var context = SHA_CTX()

  public init() { SHA1_Init(&context) }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    SHA1_Update(&context, bytes.baseAddress, bytes.count)
  }

  public func digest() -> [UInt8] {
    // SHA1_Final pads what it is given, so it is given a copy.
    var context = context
    return [UInt8](unsafeUninitializedCapacity: 20) { digest, count in
      // It writes exactly 20 bytes, which is the capacity.
      SHA1_Final(digest.baseAddress, &context)
      count = 20
    }
  }
}
