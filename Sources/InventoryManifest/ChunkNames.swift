// Turns keys into file names.
//
// A key is any text: it may hold "..", NUL, or a thousand bytes without a slash, and two keys may
// end in the same name. The file in data/ has the last part of its key as its name. Where that is
// not usable, the name is a cleaned form of it with a hash of the whole key before the extension:
// `part.1a2b3c4d.csv.gz`. The extension stays last so that globs work. The hash, rather than a
// counter, keeps a name from depending on the order of the other entries; every key of a group that
// shares a basename gets one, so that none of them is "first".

import Digests

/// Gives each key of a manifest a file name.
public enum ChunkNames {
  /// The longest name that Linux file systems take, NAME_MAX.
  public static let maximumLengthInBytes = 255

  /// The file names for `keys`, in their order.
  ///
  /// Each name is valid UTF-8 of 1 to 255 bytes, neither "." nor "..", without "/", NUL or control
  /// characters. All are distinct, even as canonically equivalent Unicode. The same keys give the
  /// same names in every run, and a key whose basename is clean and unique keeps it. The time is
  /// proportional to the number of keys.
  public static func names(forKeys keys: some Collection<String>) -> [String] {
    let basenames = keys.map(basename(of:))
    var uses: [Substring: Int] = [:]
    uses.reserveCapacity(basenames.count)
    for basename in basenames { uses[basename, default: 0] += 1 }
    func keepsBasename(_ key: String, _ basename: Substring) -> Bool {
      uses[basename] == 1 && basename.endIndex == key.endIndex && isSafe(basename)
    }

    // Clean, unique basenames come first, whatever their place: a tagged name has to give way to
    // them.
    var taken: Set<String> = []
    taken.reserveCapacity(basenames.count)
    for (key, basename) in zip(keys, basenames) where keepsBasename(key, basename) {
      taken.insert(String(basename))
    }
    // How many names were tried for a key. The count only matters for a key that occurs twice, or
    // whose hash equals another's, and keeps a manifest of 100,000 equal keys from trying each name
    // 100,000 times.
    var attempts: [String: Int] = [:]
    return zip(keys, basenames).map { key, basename in
      if keepsBasename(key, basename) { return String(basename) }
      let parts = NameParts(basename)
      let digest = hexDigest(of: key)
      while true {
        let attempt = attempts[key, default: 0]
        attempts[key] = attempt + 1
        let name = parts.name(tag: tag(from: digest, attempt: attempt))
        if taken.insert(name).inserted { return name }
      }
    }
  }

  /// The part after the last slash that has something after it: "b" for both "a/b" and "a/b/".
  private static func basename(of key: String) -> Substring {
    var end = key.utf8.endIndex
    while end > key.utf8.startIndex {
      let previous = key.utf8.index(before: end)
      guard key.utf8[previous] == slash else { break }
      end = previous
    }
    let trimmed = key.utf8[..<end]
    let start = trimmed.lastIndex(of: slash).map(key.utf8.index(after:)) ?? trimmed.startIndex
    return Substring(trimmed[start...])
  }

  private static let slash = UInt8(ascii: "/")

  private static func isSafe(_ name: Substring) -> Bool {
    !name.isEmpty && name != "." && name != ".." && name.utf8.count <= maximumLengthInBytes
      && !name.unicodeScalars.contains(where: isUnprintable)
  }

  fileprivate static func isUnprintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return scalar.value < 0x20 || scalar.value == 0x7f }
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator: return true
    default: return false
    }
  }

  /// 16 hexadecimal digits of the key's SHA-256.
  private static func hexDigest(of key: String) -> String {
    Hexadecimal.text(SHA256.digest(of: key).prefix(8))
  }

  /// The hash's first 8 digits; all 16 if those are taken (among 100,000 keys with one basename,
  /// two will share 8); and a number after them for a key that occurs again.
  private static func tag(from digest: String, attempt: Int) -> String {
    switch attempt {
    case 0: String(digest.prefix(8))
    case 1: digest
    default: "\(digest)-\(attempt)"
    }
  }
}

/// A basename made clean and split where the tag goes.
private struct NameParts {
  private let stem: String
  private let fileExtension: String

  /// A compressed file's extension has two parts: ".csv.gz".
  private static let compressions: Set<String> = ["gz", "zst", "bz2", "xz"]
  private static let maximumExtensionLength = 16

  init(_ basename: Substring) {
    var clean = String.UnicodeScalarView()
    for scalar in basename.unicodeScalars {
      clean.append(ChunkNames.isUnprintable(scalar) ? "_" : scalar)
    }
    var stem = Substring(String(clean))
    if stem == "." || stem == ".." { stem = "" }
    var fileExtension = ""
    if let last = Self.trailingExtension(of: stem) {
      fileExtension = ".\(last)"
      stem = stem.dropLast(fileExtension.count)
      if Self.compressions.contains(last.lowercased()), let inner = Self.trailingExtension(of: stem)
      {
        fileExtension = ".\(inner)\(fileExtension)"
        stem = stem.dropLast(inner.count + 1)
      }
    }
    self.stem = stem.isEmpty ? "chunk" : String(stem)
    self.fileExtension = fileExtension
  }

  /// A short word of ASCII letters and digits after the last dot, if something stands before the
  /// dot.
  private static func trailingExtension(of name: Substring) -> Substring? {
    guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return nil }
    let word = name[name.index(after: dot)...]
    let isWord = word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) }
    return !word.isEmpty && word.utf8.count <= maximumExtensionLength && isWord ? word : nil
  }

  /// `stem.tag.extension`, the stem cut between characters to keep the whole within the limit.
  func name(tag: String) -> String {
    let suffix = ".\(tag)\(fileExtension)"
    let room = ChunkNames.maximumLengthInBytes - suffix.utf8.count
    guard stem.utf8.count > room else { return stem + suffix }
    var cut = ""
    for character in stem {
      guard cut.utf8.count + character.utf8.count <= room else { break }
      cut.append(character)
    }
    return (cut.isEmpty ? "chunk" : cut) + suffix
  }
}
