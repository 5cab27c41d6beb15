import PrintableText

/// Checks a `manifest.json` against the `manifest.checksum` beside it.
///
/// S3 writes the checksum last, so that its presence shows the inventory to be complete. It holds
/// the MD5 of the manifest's bytes in hexadecimal; real ones end in a newline.
public enum ManifestChecksum {
  /// The largest checksum file worth reading; a real one has 33 bytes.
  public static let maximumSizeInBytes = 4096

  /// Reads the content of a `manifest.checksum`: 32 hexadecimal digits, white space around them
  /// ignored.
  ///
  /// - Parameter location: the checksum file's URL or path, for messages.
  public static func digest(
    fromChecksumFile bytes: [UInt8], at location: String
  ) throws(ManifestError) -> MD5Digest {
    let text = String(decoding: bytes.prefix(maximumSizeInBytes), as: UTF8.self)
      .split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard bytes.count <= maximumSizeInBytes, let digest = MD5Digest(hex: text) else {
      let found = text.isEmpty ? "nothing" : "'\(printable(text, limit: 80))'"
      throw ManifestError(location: location, problem: .malformedChecksum(found: found))
    }
    return digest
  }

  /// Compares a manifest's MD5 with the expected one.
  ///
  /// - Parameter location: the manifest's URL or path, for messages.
  /// - Throws: `ManifestError` with both digests if they differ.
  public static func verify(
    _ manifest: [UInt8], is expected: MD5Digest, at location: String
  ) throws(ManifestError) {
    let found = MD5Digest(of: manifest)
    guard found == expected else {
      throw ManifestError(
        location: location, problem: .checksumMismatch(expected: expected, found: found))
    }
  }
}
