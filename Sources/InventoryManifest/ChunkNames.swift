// Turns keys into file names.
//
// A key is any text: it may hold "..", NUL, or a thousand bytes without a slash, and two keys may
// end in the same name. The file in data/ has the last part of its key as its name. Where that is
// not usable, the name is a cleaned form of it with a hash of the whole key before the extension:
// `part.1a2b3c4d.csv.gz`. The extension stays last so that globs work. The hash, rather than a
// counter, keeps a name from depending on the order of the other entries; every key of a group that
// shares a basename gets one, so that none of them is "first".

import Digests

/// The file names of the chunks that have given keys, and the chunk of each name.
///
/// Each name is valid UTF-8 of 1 to 255 bytes, neither "." nor "..", without "/", NUL or control
/// characters. All are distinct, even as canonically equivalent Unicode. The same keys give the
/// same names in every run, and a key whose basename is clean and unique keeps it.
///
/// Only names that are no basename are kept. The others are made of their key when they are asked
/// for, and found through a table of 6 to 12 bytes for each chunk.
public struct ChunkNames: Sendable {
  /// The longest name that Linux file systems take, NAME_MAX.
  public static let maximumLengthInBytes = 255

  /// The names that are not the basename of their key.
  private var tagged: [Int32: String] = [:]
  /// The chunks that have those names.
  private var taggedIndices: [String: Int32] = [:]
  /// A hash table of basenames with linear probing: the index of the first chunk that has the
  /// basename, plus one; 0 where there is none.
  private var slots: [UInt32]

  /// Names the chunks of the keys. The time is proportional to the number of keys.
  ///
  /// - Parameter key: gives the key of the chunk at an index from 0 to `count` - 1, at most 2^31 -
  ///   2, and always the same one.
  public init(count: Int, key keyOf: (Int) -> String) {
    var size = 8
    while size < count + count / 2 { size *= 2 }
    slots = [UInt32](repeating: 0, count: size)
    var isTagged = [Bool](repeating: false, count: count)
    for index in 0..<count {
      let key = keyOf(index)
      let basename = Self.basename(of: key)
      if basename.endIndex != key.endIndex || !Self.isSafe(basename) { isTagged[index] = true }
    }
    for index in 0..<count {
      let (slot, other) = find(Self.basename(of: keyOf(index)), key: keyOf)
      if let other {
        isTagged[other] = true
        isTagged[index] = true
      } else {
        slots[slot] = UInt32(index + 1)
      }
    }
    // How many names were tried for a key. The count only matters for a key that occurs twice, or
    // whose hash equals another's, and keeps a manifest of 100,000 equal keys from trying each name
    // 100,000 times.
    var attempts: [String: Int] = [:]
    for index in 0..<count where isTagged[index] {
      let key = keyOf(index)
      let parts = NameParts(Self.basename(of: key))
      let digest = Self.hexDigest(of: key)
      while true {
        let attempt = attempts[key, default: 0]
        attempts[key] = attempt + 1
        let name = parts.name(tag: Self.tag(from: digest, attempt: attempt))
        // Clean, unique basenames come first, whatever their place: a tagged name has to give way.
        let holder = find(name[...], key: keyOf).index
        if taggedIndices[name] == nil, holder.map({ isTagged[$0] }) ?? true {
          tagged[Int32(index)] = name
          taggedIndices[name] = Int32(index)
          break
        }
      }
    }
  }

  /// The name of a chunk.
  ///
  /// - Parameter key: the chunk's key.
  public func name(_ index: Int, key: @autoclosure () -> String) -> String {
    tagged[Int32(index)] ?? String(Self.basename(of: key()))
  }

  /// Whether the chunk's name is another than its key's basename, as the names of all keys are that
  /// occur twice.
  public func isTagged(_ index: Int) -> Bool { tagged[Int32(index)] != nil }

  /// Whether all names are the basenames of their keys.
  public var areBasenames: Bool { tagged.isEmpty }

  /// The chunk that has a name; nil if none has.
  ///
  /// - Parameter key: gives the keys that the names were made of.
  public func index(ofName name: String, key: (Int) -> String) -> Int? {
    if let index = taggedIndices[name] { return Int(index) }
    guard let index = find(name[...], key: key).index, tagged[Int32(index)] == nil else {
      return nil
    }
    return index
  }

  /// The first chunk that has the basename, or the free slot for it.
  private func find(
    _ basename: Substring, key: (Int) -> String
  ) -> (slot: Int, index: Int?) {
    let mask = slots.count - 1
    var slot = basename.hashValue & mask
    while slots[slot] != 0 {
      let index = Int(slots[slot]) - 1
      if Self.basename(of: key(index)) == basename { return (slot, index) }
      slot = (slot + 1) & mask
    }
    return (slot, nil)
  }

  /// The file names for `keys`, in their order.
  public static func names(forKeys keys: some Collection<String>) -> [String] {
    let keys = Array(keys)
    let names = ChunkNames(count: keys.count) { keys[$0] }
    return keys.indices.map { names.name($0, key: keys[$0]) }
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
