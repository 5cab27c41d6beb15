/// The prefix in which the keys of copied chunks differ from those in the manifest: a key that
/// begins with `old` begins with `new` instead, and any other key stays as it is.
public struct KeyPrefix: Sendable, Equatable, CustomStringConvertible {
  public let old: String
  public let new: String

  public init(old: String, new: String) {
    self.old = old
    self.new = new
  }

  /// Leaves all keys as they are.
  public static let unchanged = KeyPrefix(old: "", new: "")

  /// What `init(parsing:)` reads, for messages.
  public static let expectation = "OLD=NEW, two beginnings of keys such as inv/src/=copy/"

  /// Reads `OLD=NEW`, either of which may be empty; nil for text without an equals sign. Of several
  /// equals signs, as the folders of Hive have them, the first one counts.
  public init?(parsing text: String) {
    guard let equals = text.utf8.firstIndex(of: UInt8(ascii: "=")) else { return nil }
    self.init(old: String(text[..<equals]), new: String(text[text.utf8.index(after: equals)...]))
  }

  /// The key, or path, of the chunk that has `key` in the manifest.
  public func applied(to key: String) -> String {
    guard self != .unchanged, key.utf8.starts(with: old.utf8) else { return key }
    return new + String(Substring(key.utf8.dropFirst(old.utf8.count)))
  }

  /// As `OLD=NEW`.
  public var description: String { "\(old)=\(new)" }

  /// The most folders, and the most ends of a key, that are combined to candidates.
  private static let mostParts = 24

  /// The folders of a key or path that it can lie in, without the last name: "a/b/", "a/" and "" of
  /// "a/b/c", the deepest first, 24 at most.
  public static func folders(of path: String) -> [String] {
    var folders: [String] = []
    var rest = path.utf8[...]
    while folders.count < mostParts, let slash = rest.lastIndex(of: UInt8(ascii: "/")) {
      let folder = rest[...slash]
      folders.append(String(Substring(folder)))
      rest = folder.dropLast()
    }
    return folders.count < mostParts ? folders + [""] : folders
  }

  /// The prefixes that `key` may have lost when it was copied: "", "a/" and "a/b/" for "a/b/c", the
  /// shortest first, 24 at most. A prefix never ends between two slashes or after "..".
  public static func droppable(from key: String) -> [String] {
    folders(of: key).reversed().filter { prefix in
      prefix.isEmpty || !prefix.hasSuffix("//") && !prefix.hasSuffix("../")
    }
  }
}
