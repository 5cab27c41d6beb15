import Digests
import Testing

@Suite struct DigestTests {
  /// A million times the letter a, as the published vectors have it.
  private static let millionLetters = String(repeating: "a", count: 1_000_000)

  @Test(
    "SHA-256 gives what FIPS 180-4's examples give",
    arguments: [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
      (millionLetters, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ])
  func sha256(text: String, digits: String) {
    #expect(Hexadecimal.text(SHA256.digest(of: text)) == digits)
  }

  @Test(
    "SHA-1 gives what RFC 3174 and FIPS 180-4's examples give",
    arguments: [
      ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
      ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
      ),
      (millionLetters, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
    ])
  func sha1(text: String, digits: String) {
    #expect(Hexadecimal.text(SHA1.digest(of: text)) == digits)
  }

  @Test(
    "MD5 gives what the suite in RFC 1321 gives",
    arguments: [
      ("", "d41d8cd98f00b204e9800998ecf8427e"), ("a", "0cc175b9c0f1b6a831c399e269772661"),
      ("abc", "900150983cd24fb0d6963f7d28e17f72"),
      ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
      ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
      (
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        "d174ab98d277d9f5a5611c2c9f419d9f"
      ),
      (String(repeating: "1234567890", count: 8), "57edf4a22be3c955ac49da2e2107b67a"),
    ])
  func md5(text: String, digits: String) {
    #expect(Hexadecimal.text(MD5.digest(of: text)) == digits)
  }

  @Test("The digest of bytes in pieces is that of all of them, and of a copy that goes its own way")
  func pieces() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    func check<Function: DigestFunction>(_ type: Function.Type) {
      for cut in [0, 1, 63, 64, 65, 999, 1000] {
        var whole = Function()
        bytes[..<cut].withUnsafeBytes { whole.update($0) }
        var other = whole
        other.update("something else")
        #expect(whole.digest() == Function.digest(of: bytes[..<cut]))
        bytes[cut...].withUnsafeBytes { whole.update($0) }
        #expect(whole.digest() == Function.digest(of: bytes))
        #expect(other.digest() != whole.digest())
      }
      // A sequence that has no memory of its own is copied.
      #expect(Function.digest(of: bytes.lazy.map { $0 }) == Function.digest(of: bytes))
    }
    check(SHA256.self)
    check(SHA1.self)
    check(MD5.self)
  }

  private static let ascending = Array(UInt8(1)...25)

  @Test(
    "HMAC-SHA256 gives what RFC 4231 gives",
    arguments: [
      (
        [UInt8](repeating: 0x0b, count: 20), Array("Hi There".utf8),
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
      ),
      (
        Array("Jefe".utf8), Array("what do ya want for nothing?".utf8),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
      ),
      (
        [UInt8](repeating: 0xaa, count: 20), [UInt8](repeating: 0xdd, count: 50),
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"
      ),
      (
        ascending, [UInt8](repeating: 0xcd, count: 50),
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"
      ),
      (
        [UInt8](repeating: 0x0c, count: 20), Array("Test With Truncation".utf8),
        "a3b6167473100ee06e0c796c2955552b"
      ),
      (
        [UInt8](repeating: 0xaa, count: 131),
        Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
      ),
      (
        [UInt8](repeating: 0xaa, count: 131),
        Array(
          """
          This is a test using a larger than block-size key and a larger than block-size data. \
          The key needs to be hashed before being used by the HMAC algorithm.
          """.utf8),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"
      ),
    ])
  func hmac(key: [UInt8], message: [UInt8], digits: String) {
    // One vector has the first 16 bytes only.
    #expect(Hexadecimal.text(hmacSHA256(message, key: key)).hasPrefix(digits))
  }

  @Test("A key of a whole block is used as it is, and a longer one is digested first")
  func keyOfOneBlock() {
    let (block, longer) = ([UInt8](repeating: 7, count: 64), [UInt8](repeating: 7, count: 65))
    #expect(hmacSHA256([1], key: block) != hmacSHA256([1], key: SHA256.digest(of: block)))
    #expect(hmacSHA256([1], key: longer) == hmacSHA256([1], key: SHA256.digest(of: longer)))
    #expect(hmacSHA256([1], key: []) == hmacSHA256([1], key: [0]))
  }
}
