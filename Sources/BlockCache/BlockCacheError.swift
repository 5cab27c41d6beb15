public import SystemPackage

/// Why the cache on disk cannot be used, or could not do what it was asked.
public enum BlockCacheError: Error, Sendable, CustomStringConvertible {
  /// Another process has the directory.
  case inUse(path: String, holder: Int32?)
  /// The directory cannot be what it must be; `found` says what was in the way.
  case unusableDirectory(path: String, found: String, remedy: String)
  /// A system call failed on a file of the cache.
  case system(operation: String, path: String, Errno)
  /// Stored bytes ended early: the file was changed by somebody else.
  case truncated(path: String, byteOffset: Int)

  public var description: String {
    switch self {
    case .inUse(let path, let holder):
      let (who, end) =
        holder.map {
          ("process \($0)", " (or end it with 'kill \($0)' if it is mounted nowhere any more)")
        }
        ?? ("another process", "")
      return "cache directory \(path) is in use by \(who); unmount that inventory first\(end), "
        + "or give this mount another --cache-dir"
    case .unusableDirectory(let path, let found, let remedy):
      return "cache directory \(path): \(found); \(remedy)"
    case .system(let operation, let path, let errno):
      return "cache: cannot \(operation) \(path): \(errno)"
    case .truncated(let path, let byteOffset):
      return "cache: \(path) ends before byte \(byteOffset); it was changed by another program"
    }
  }
}
