import CLinux
import Glibc
import Posix
import PrintableText

/// Why this process cannot mount anything, whatever the mountpoint: what its environment lacks, and
/// what to do about it. It is looked for when a mount has failed, because the system's own errors
/// ("Operation not permitted") do not tell.
enum MountObstacle: CustomStringConvertible {
  case noCapability
  case userNamespace
  case noNewPrivileges
  case fusermountMissing
  case fusermountUnprivileged(path: String, isOnNosuid: Bool)

  /// The obstacle that is found; nil if there is none of these.
  static func found() -> MountObstacle? {
    guard geteuid() == 0 else { return ofFusermount() }
    if isInUserNamespace { return .userNamespace }
    // CAP_SYS_ADMIN is capability 21 (linux/capability.h).
    if let effective = status("CapEff", radix: 16), effective & 1 << 21 == 0 {
      return .noCapability
    }
    return nil
  }

  /// What keeps fusermount3 from mounting and unmounting for an ordinary user.
  static func ofFusermount() -> MountObstacle? {
    if status("NoNewPrivs", radix: 10) == 1 { return .noNewPrivileges }
    guard let path = fusermountPath() else { return .fusermountMissing }
    var info = stat()
    guard stat(path, &info) == 0 else { return nil }
    guard info.st_uid == 0, info.st_mode & S_ISUID != 0 else {
      return .fusermountUnprivileged(path: path, isOnNosuid: false)
    }
    var statistics = statvfs()
    // ST_NOSUID of statvfs(3).
    guard statvfs(path, &statistics) != 0 || statistics.f_flag & 2 == 0 else {
      return .fusermountUnprivileged(path: path, isOnNosuid: true)
    }
    return nil
  }

  var description: String {
    switch self {
    case .noCapability:
      "this process is root but lacks the capability CAP_SYS_ADMIN, which mounting needs; "
        + "start its container with '--device /dev/fuse --cap-add SYS_ADMIN', or mount outside of it"
    case .userNamespace:
      "root of a user namespace can mount only in a mount namespace that belongs to it, and only "
        + "where /dev/fuse can be opened; make both namespaces together, with: "
        + "unshare --user --map-root-user --mount"
    case .noNewPrivileges:
      "this process may not gain privileges (no_new_privs is set, as NoNewPrivileges= of systemd "
        + "and setpriv do), which fusermount3 needs to mount or unmount for an ordinary user; "
        + "start it without that setting, or as root"
    case .fusermountMissing:
      "an ordinary user mounts and unmounts through fusermount3, which is not found; "
        + "install the package fuse3, or run this as root"
    case .fusermountUnprivileged(let path, isOnNosuid: false):
      "an ordinary user mounts and unmounts through \(path), which is not set-user-ID root; "
        + "repair it with 'sudo chown root \(shellWord(path)) && sudo chmod u+s \(shellWord(path))', "
        + "or run this as root"
    case .fusermountUnprivileged(let path, isOnNosuid: true):
      "an ordinary user mounts and unmounts through \(path), which lies on a file system mounted "
        + "with nosuid; install the package fuse3 on another, or run this as root"
    }
  }

  /// Whether user IDs are mapped: the first user namespace has all of them as they are.
  static var isInUserNamespace: Bool {
    guard let map = try? WholeFile.read("/proc/self/uid_map", limitInBytes: 1 << 20, timeLimit: nil)
    else { return false }
    let fields = String(decoding: map, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    return fields != ["0", "0", "4294967295"]
  }

  /// A number in /proc/self/status (proc_pid_status(5)).
  private static func status(_ name: String, radix: Int) -> UInt64? {
    guard let text = try? WholeFile.read("/proc/self/status", limitInBytes: 1 << 20, timeLimit: nil)
    else { return nil }
    for line in String(decoding: text, as: UTF8.self).split(separator: "\n")
    where line.hasPrefix(name + ":") {
      return UInt64(line.dropFirst(name.count + 1).filter { !$0.isWhitespace }, radix: radix)
    }
    return nil
  }

  /// The program that is run: libfuse looks where Debian has it, then in PATH.
  private static func fusermountPath() -> String? {
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    let folders =
      ["/usr/bin", "/bin", "/usr/local/bin"] + path.split(separator: ":").map(String.init)
    return folders.map { "\($0)/fusermount3" }.first { access($0, X_OK) == 0 }
  }
}
