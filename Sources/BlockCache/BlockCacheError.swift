public import SystemPackage

/// Why the cache on disk cannot be used, or why one of its operations failed.
public enum BlockCacheError: Error, Sendable, CustomStringConvertible {
  /// Another process uses the directory.
  case inUse(path: String, holder: Int32?)
  /// The directory cannot hold the cache; `found` says why, and `remedy` what to do.
  case unusableDirectory(path: String, found: String, remedy: String)
  /// A system call failed on a file of the cache.
  case system(operation: String, path: String, Errno)
  /// The stored bytes ended early, because another program changed the file.
  case truncated(path: String, byteOffset: Int)

  public var description: String {
    switch self {
    case .inUse(let path, let holder):
      let (who, end) =
        holder.map {
          (
            "process \($0)",
            " (or, if it is mounted nowhere any more, end the process with 'kill \($0)')"
          )
        }
        ?? ("another process", "")
      return "cache directory \(path) is in use by \(who); unmount that inventory first\(end), "
        + "or set another --cache-dir for this mount"
    case .unusableDirectory(let path, let found, let remedy):
      return "cache directory \(path): \(found); \(remedy)"
    case .system(let operation, let path, let errno):
      return "cache: cannot \(operation) \(path): \(errno)"
    case .truncated(let path, let byteOffset):
      return "cache: \(path) ends before byte \(byteOffset); it was changed by another program"
    }
  }
}
