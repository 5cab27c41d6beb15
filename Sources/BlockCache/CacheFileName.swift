/// The names that this program gives to files in a chunk folder, and to chunk folders. Files with
/// other names belong to other programs, and are neither read nor removed.
enum CacheFileName: Equatable {
  /// The file with the bytes of an entry.
  case data(entry: String)
  /// The file that says which blocks of an entry are present.
  case index(entry: String)
  /// The file that is written to test whether the cache can be written.
  case probe

  static let probeName = "probe"
  /// The length of an entry's name, half of a SHA-256 in hexadecimal.
  static let entryNameLength = 32

  /// Reads a name; nil for one that this program does not give.
  init?(_ name: String) {
    if name == Self.probeName {
      self = .probe
      return
    }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0].utf8.count == Self.entryNameLength,
      parts[0].utf8.allSatisfy(Self.isHexDigit)
    else { return nil }
    switch parts[1] {
    case "data": self = .data(entry: String(parts[0]))
    case "index": self = .index(entry: String(parts[0]))
    default: return nil
    }
  }

  /// Whether a chunk folder of any version of the format may have this name.
  static func isChunkFolder(_ name: String) -> Bool {
    let parts = name.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == "chunks", parts[1].first == "v" else { return false }
    let version = parts[1].dropFirst().utf8
    return (1...9).contains(version.count)
      && version.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      && BlockChecksum.Algorithm(rawValue: String(parts[2])) != nil
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
      || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
  }
}
