/// Where the cache is when the user does not say: in a folder for this mountpoint, so that mounts
/// side by side do not meet and each finds its own again.
enum DefaultCacheFolder {
  /// - Throws: when the environment names no folder for it to be in.
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
        "neither XDG_CACHE_HOME nor HOME is set, and the user has no home; say where the cache is with --cache-dir"
      )
    }
    return "\(base)/inventoryfs/\(name(forMountpoint: mountpoint))"
  }

  /// A name may have 255 bytes.
  private static let longestNameInBytes = 200

  /// The mountpoint's path with `/` written as `%2F`. Where that is too long, its end, after a hash
  /// of the whole path: two paths never share a name, because such a name is longer than any that
  /// is not cut.
  static func name(forMountpoint mountpoint: String) -> String {
    var name = String.UnicodeScalarView()
    // As scalars: a mark after "/" makes one character of the two.
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
