import PrintableText

/// Checks a `manifest.json` against the `manifest.checksum` beside it.
///
/// S3 writes the checksum last, so that its presence shows the inventory to be complete. It holds
/// the MD5 of the manifest's bytes in hexadecimal; real ones end in a newline.
public enum ManifestChecksum {
  /// The largest checksum file worth reading; a real one has 33 bytes.
  public static let maximumSizeInBytes = 4096

  /// Reads the content of a `manifest.checksum`.
  ///
  /// S3 writes 32 hexadecimal digits. Also read is what other programs write of the same sum: the
  /// lines of `md5sum` and `md5sum --tag` or `md5`, an ETag with its quotes, and Base64 as in the
  /// header Content-MD5.
  ///
  /// - Parameter location: the checksum file's URL or path, for messages.
  public static func digest(
    fromChecksumFile bytes: [UInt8], at location: String
  ) throws(ManifestError) -> MD5Digest {
    let text = String(decoding: bytes.prefix(maximumSizeInBytes), as: UTF8.self)
      .drop { $0 == "\u{feff}" }
      .split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard bytes.count <= maximumSizeInBytes, let digest = digest(in: text) else {
      let found = text.isEmpty ? "nothing" : "'\(printable(text, limit: 80))'"
      throw ManifestError(location: location, problem: .malformedChecksum(found: found))
    }
    return digest
  }

  /// The one digest that a line of text gives; nil where there is none or more than one.
  private static func digest(in line: String) -> MD5Digest? {
    // "MD5 (manifest.json) = digits" and "digits *manifest.json": the name may hold anything, so
    // the digits are the last word of the one form and the first of the other.
    let words = line.split(separator: " ")
    let isTagged =
      words.count > 3 && words[0].uppercased() == "MD5" && words[words.count - 2] == "="
    guard let word = isTagged ? words.last : words.first else { return nil }
    if !isTagged, words.dropFirst().contains(where: { digest(of: $0) != nil }) { return nil }
    return digest(of: word)
  }

  private static func digest(of word: Substring) -> MD5Digest? {
    var word = word
    // md5sum puts a backslash before the digits of a file whose name it had to escape.
    if word.first == "\\" { word = word.dropFirst() }
    if word.count > 2, word.first == "\"", word.last == "\"" { word = word.dropFirst().dropLast() }
    return MD5Digest(hex: String(word)) ?? MD5Digest(base64: String(word))
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
