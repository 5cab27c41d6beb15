/// The default cache folder: one for each mountpoint, so that parallel mounts do not collide and
/// each finds its own cache again.
enum DefaultCacheFolder {
  /// - Throws: `Failure` when the environment names no folder that could hold the cache.
  static func path(
    forMountpoint mountpoint: String, environment: [String: String]
  ) throws(Failure) -> String {
    let base: String
    if let cache = environment["XDG_CACHE_HOME"], cache.hasPrefix("/") {
      base = cache
    } else if let home = environment["HOME"], home.hasPrefix("/") {
      base = home + "/.cache"
    } else {
      throw Failure(
        "neither XDG_CACHE_HOME nor HOME is set, and the user has no home; set --cache-dir to a directory for the cache"
      )
    }
    return "\(base)/inventoryfs/\(name(forMountpoint: mountpoint))"
  }

  /// The longest name that is not cut; the limit of a file name is 255 bytes.
  private static let longestNameInBytes = 200

  /// The mountpoint's path with `/` written as `%2F`. Where that is too long, the name is a hash of
  /// the whole path followed by the path's end. A cut name never equals an uncut one, because it is
  /// longer than any of those.
  static func name(forMountpoint mountpoint: String) -> String {
    var name = String.UnicodeScalarView()
    // The path is taken apart by scalars, because a combining mark after "/" forms one character
    // with it.
    for scalar in mountpoint.unicodeScalars.drop(while: { $0 == "/" }) {
      switch scalar {
      case "%": name.append(contentsOf: "%25".unicodeScalars)
      case "/": name.append(contentsOf: "%2F".unicodeScalars)
      default: name.append(scalar)
      }
    }
    guard String(name).utf8.count > longestNameInBytes else { return String(name) }
    var end = name[...]
    while String(end).utf8.count > longestNameInBytes { end.removeFirst() }
    let hash = String(hash(mountpoint.utf8), radix: 16)
    return String(repeating: "0", count: 16 - hash.count) + hash + "-" + String(end)
  }

  /// FNV-1a of 64 bits (Fowler, Noll, Vo): the same in every process, which Swift's own hashes are
  /// not.
  private static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
