import InventoryManifest
import Testing

@Suite struct ManifestChecksumTests {
  // The MD5 test suite of RFC 1321, appendix A.5.
  private let message = Array("message digest".utf8)
  private let hex = "f96b697d7cb7938d525a2f31aaf161d0"

  @Test(
    "A checksum file may end in white space and use either case",
    arguments: [
      "f96b697d7cb7938d525a2f31aaf161d0", "f96b697d7cb7938d525a2f31aaf161d0\n",
      " \tF96B697D7CB7938D525A2F31AAF161D0\r\n",
      "f96b697d7cb7938d525a2f31aaf161d0  manifest.json\n",
      "f96b697d7cb7938d525a2f31aaf161d0 *./a b/manifest.json\r\n",
      "\\f96b697d7cb7938d525a2f31aaf161d0  a\\nmanifest.json\n",
      "MD5 (manifest.json) = f96b697d7cb7938d525a2f31aaf161d0\n",
      "MD5 (my manifest.json) = f96b697d7cb7938d525a2f31aaf161d0\n",
      "\"f96b697d7cb7938d525a2f31aaf161d0\"", "\u{feff}f96b697d7cb7938d525a2f31aaf161d0",
      "+WtpfXy3k41SWi8xqvFh0A==\n",
    ])
  func usable(content: String) throws {
    let digest = try ManifestChecksum.digest(
      fromChecksumFile: Array(content.utf8), at: "m.checksum")
    #expect(digest.description == hex)
    try ManifestChecksum.verify(message, is: digest, at: "m.json")
  }

  @Test(
    "Anything else is not a checksum",
    arguments: [
      ("", "nothing"), ("\n", "nothing"), ("f96b697d", "'f96b697d'"),
      ("manifest.json f96b697d7cb7938d525a2f31aaf161d0", "'manifest.json"),
      (
        "f96b697d7cb7938d525a2f31aaf161d0 a\nd41d8cd98f00b204e9800998ecf8427e b",
        "'f96b697d7cb7938d525a2f31aaf161d0 a"
      ),
      ("f96b697d7cb7938d 525a2f31aaf161d0", "'f96b697d7cb7938d 525a2f31aaf161d0'"),
      ("g96b697d7cb7938d525a2f31aaf161d0", "'g96b"), ("<?xml version=\"1.0\"?>", "'<?xml"),
    ])
  func malformed(content: String, found: String) {
    let error = #expect(throws: ManifestError.self) {
      try ManifestChecksum.digest(fromChecksumFile: Array(content.utf8), at: "m.checksum")
    }
    #expect(
      error?.description.hasPrefix("m.checksum: holds \(found)") == true
        || error?.description.contains(found) == true, "\(String(describing: error))")
    #expect(error?.description.contains("32 hexadecimal digits") == true)
  }

  @Test("A checksum file that is too large is malformed, even if it starts well")
  func tooLarge() {
    let content = Array(hex.utf8) + [UInt8](repeating: UInt8(ascii: " "), count: 4096)
    #expect(throws: ManifestError.self) {
      try ManifestChecksum.digest(fromChecksumFile: content, at: "m.checksum")
    }
  }

  @Test("A mismatch names both digests and the next step")
  func mismatch() throws {
    let expected = try #require(MD5Digest(hex: hex))
    let error = #expect(throws: ManifestError.self) {
      try ManifestChecksum.verify(Array("message digesu".utf8), is: expected, at: "s3://b/m.json")
    }
    let found = MD5Digest(of: Array("message digesu".utf8))
    #expect(error?.problem == .checksumMismatch(expected: expected, found: found))
    let description = error?.description ?? ""
    #expect(description.contains(hex) && description.contains(found.description))
    #expect(description.contains("Download both again"))
  }
}

@Suite struct MD5DigestTests {
  @Test("Hexadecimal, bytes and description are the same digest")
  func conversions() throws {
    let digest = try #require(MD5Digest(hex: "0123456789abcdef00ff00000000fe01"))
    #expect(digest.description == "0123456789abcdef00ff00000000fe01")
    #expect(
      digest.bytes == [
        0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0xff, 0, 0, 0, 0, 0xfe, 0x01,
      ])
    #expect(MD5Digest(digest.bytes) == digest)
    #expect(MD5Digest(digest.bytes.dropLast()) == nil)
    #expect(MD5Digest(digest.bytes + [0]) == nil)
  }

  @Test("The digest takes sixteen bytes, and seventeen where it may be absent")
  func size() {
    #expect(MemoryLayout<MD5Digest>.size == 16)
    #expect(MemoryLayout<MD5Digest?>.size == 17)
  }
}
