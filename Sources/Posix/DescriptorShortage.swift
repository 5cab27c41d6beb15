import Glibc

/// Why no file could be opened: this process, or the whole system, has no file descriptor left.
public struct DescriptorShortage: Sendable, CustomStringConvertible {
  private let isOfSystem: Bool

  /// Returns nil for any other error than EMFILE and ENFILE.
  public init?(errno code: Int32) {
    guard code == EMFILE || code == ENFILE else { return nil }
    isOfSystem = code == ENFILE
  }

  /// The shortage that exists now; nil if a file can be opened. It costs two system calls.
  public static var now: DescriptorShortage? {
    let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return DescriptorShortage(errno: errno) }
    close(descriptor)
    return nil
  }

  /// What is short, and how to raise its limit.
  public var description: String {
    isOfSystem
      ? "the system has no file descriptor left; raise fs.file-max (sysctl), or close files"
      : "this process has no file descriptor left of the \(Self.softLimit) that it may have; "
        + "raise the limit ('ulimit -n', LimitNOFILE= of a systemd unit, 'prlimit --nofile')"
  }

  /// How many descriptors this process may have at the moment.
  public static var softLimit: Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .max }
    return Int(clamping: limit.rlim_cur)
  }
}
