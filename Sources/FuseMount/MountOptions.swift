/// The options of a mount.
public struct MountOptions: Sendable {
  /// The absolute path of the mountpoint.
  public let mountpoint: String
  /// The source that `mount` and `df` show.
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

  /// Cuts a source, because mount(2) accepts none that is longer than a page, its final zero
  /// included.
  private static func cut(_ source: String) -> String {
    guard source.utf8.count >= 4096 else { return source }
    return String(decoding: source.utf8.prefix(4096 - 4), as: UTF8.self)
  }
}
