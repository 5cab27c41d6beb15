import CLinux
import Glibc
import Posix
import SystemPackage

/// The directory that is mounted over: finds the mounts on it, and removes them.
///
/// Mounts are found in the mount table. The path itself is accessed only where no FUSE file system
/// is mounted on it, or with a timeout: a serving process that is stopped or hangs blocks every
/// access to its mount.
public enum Mountpoint {
  /// The type that `/proc/self/mountinfo` shows for our mounts.
  public static let fileSystemType = "fuse.inventoryfs"
  /// The timeout for an existing mount to show whether it works.
  private static let answerLimitInMilliseconds = 2000

  /// A directory that can be mounted over.
  public struct Prepared: Sendable {
    /// The absolute path, without symbolic links.
    public let path: String
    /// The stale mount of ours on it, whose process has ended; nil if there is none.
    let deadMount: MountTable.Mount?
  }

  /// Checks that a directory can be mounted over, and that a mount there hides nothing. Changes
  /// nothing.
  ///
  /// - Throws: `MountError`, also for a mount of another program whose process has ended: only its
  ///   user knows whether it may go.
  public static func prepare(_ path: String) throws(MountError) -> Prepared {
    let real = absolute(path)
    if let mount = MountTable()?.topmost(at: real), mount.type.hasPrefix("fuse") {
      let found = answer(withinMilliseconds: answerLimitInMilliseconds) { state(of: real) }
      guard mount.type == fileSystemType else {
        throw .mountedByOther(
          path: path, type: mount.type, source: mount.source, isDead: found == .dead)
      }
      switch found {
      case .dead: return Prepared(path: real, deadMount: mount)
      case .works: throw .alreadyMounted(path: path, source: mount.source)
      case nil: throw .doesNotAnswer(path: path, source: mount.source)
      }
    }
    try checkDirectory(path, real)
    return Prepared(path: real, deadMount: nil)
  }

  /// Removes the stale mount, if `prepare` found one, and checks the directory below it. It must be
  /// called just before mounting, when all other preparations have succeeded.
  ///
  /// - Returns: the source of the removed mount, for the log; nil if there was none.
  public static func clear(_ prepared: Prepared) throws(MountError) -> String? {
    guard let dead = prepared.deadMount else { return nil }
    if MountTable()?.topmost(at: prepared.path)?.device == dead.device {
      try detach(prepared.path, lazily: true)
    }
    // Another mount may lie below it.
    let below = try prepare(prepared.path)
    _ = try clear(below)
    return dead.source
  }

  /// Whether the mount on a path says within a moment that it works, or that its process has ended.
  public static func responds(_ absolutePath: String) -> Bool {
    answer(withinMilliseconds: answerLimitInMilliseconds) { state(of: absolutePath) } != nil
  }

  private enum State { case works, dead }

  /// The state of a mount. A dead mount's root may still be in the kernel's attribute cache: only
  /// statfs always sends a request to the process.
  private static func state(of path: String) -> State {
    var statistics = statvfs()
    let isDead = statvfs(path, &statistics) != 0 && (errno == ENOTCONN || errno == ECONNABORTED)
    return isDead ? .dead : .works
  }

  private static func checkDirectory(_ path: String, _ real: String) throws(MountError) {
    var info = stat()
    if stat(path, &info) != 0 {
      switch errno {
      case ENOENT: throw .mountpointMissing(path: path)
      case ENOTDIR: throw .mountpointNotADirectory(path: path)
      default: throw .mountpointUnusable(path: path, errno: errno)
      }
    }
    guard info.st_mode & S_IFMT == S_IFDIR else { throw .mountpointNotADirectory(path: path) }
    // Mounting over the root or /proc would break the machine's programs.
    if let name = firstName(in: real) { throw .mountpointNotEmpty(path: path, name: name) }
  }

  /// The name of one item in a directory; nil where it is empty or cannot be listed.
  private static func firstName(in directory: String) -> String? {
    guard let stream = opendir(directory) else { return nil }
    defer { closedir(stream) }
    while let item = readdir(stream) {
      let name = String(cString: inventoryfs_entry_name(item))
      if name != ".", name != ".." { return name }
    }
    return nil
  }

  /// Removes the mount; for an ordinary user fusermount3 does so.
  ///
  /// - Parameter lazily: whether to remove the mount at once even if files are open there; those
  ///   stay usable until they are closed.
  public static func detach(_ path: String, lazily: Bool) throws(MountError) {
    if geteuid() == 0 {
      switch inventoryfs_unmount(path, lazily ? 1 : 0) {
      case 0: return
      case EBUSY: throw .busy(path: path)
      case EINVAL, ENOENT: throw .notMounted(path: path)
      case let code: throw .unmountFailed(path: path, detail: String(cString: strerror(code)))
      }
    }
    let arguments = ["fusermount3", "-u", "-q"] + (lazily ? ["-z"] : []) + ["--", path]
    let before = MountTable()?.topmost(at: path)?.device
    guard let ending = (try? ChildProcess("fusermount3", arguments))?.waitForEnd() else {
      throw .unmountFailed(
        path: path, detail: "fusermount3 cannot be run; install the package fuse3")
    }
    guard ending != .exited(status: 0) else { return }
    let mount = MountTable()?.topmost(at: path)
    // How fusermount3 ended is not known where SIGCHLD is ignored, but what it did is.
    if ending == .unknown, let before, mount?.device != before { return }
    guard let mount else { throw .notMounted(path: path) }
    if let owner = mount.userID, owner != geteuid() {
      throw .notYours(path: path, userID: owner)
    }
    throw .busy(path: path)
  }

  /// The path from the root, without symbolic links. The path itself is not accessed where a file
  /// system is mounted on it: only its parent directory is.
  public static func absolute(_ path: String) -> String {
    let name = FilePath(path)
    if let last = name.lastComponent, last.kind == .regular {
      let parent = name.removingLastComponent()
      if let real = resolved(parent.isEmpty ? "." : parent.string) {
        let candidate = FilePath(real).appending(last).string
        if MountTable()?.topmost(at: candidate) != nil { return candidate }
      }
    } else if let folder = currentFolder(), name.string == "." {
      return folder
    }
    return resolved(path) ?? path
  }

  private static func resolved(_ path: String) -> String? {
    guard let real = realpath(path, nil) else { return nil }
    defer { free(real) }
    return String(cString: real)
  }

  private static func currentFolder() -> String? {
    guard let path = getcwd(nil, 0) else { return nil }
    defer { free(path) }
    return String(cString: path)
  }
}
