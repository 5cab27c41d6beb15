/// How a file system is mounted.
public struct MountOptions: Sendable {
  /// Absolute.
  public let mountpoint: String
  /// Shown by `mount` and `df`.
  public let source: String
  public let allowOther: Bool
  /// The most read-ahead requests that the kernel sends at once.
  public let maxBackground: Int

  public init(mountpoint: String, source: String, allowOther: Bool, maxBackground: Int) {
    self.mountpoint = mountpoint
    self.source = Self.cut(source)
    self.allowOther = allowOther
    self.maxBackground = maxBackground
  }

  /// mount(2) takes no source that is longer than a page, its final zero included.
  private static func cut(_ source: String) -> String {
    guard source.utf8.count >= 4096 else { return source }
    return String(decoding: source.utf8.prefix(4096 - 4), as: UTF8.self)
  }
}
