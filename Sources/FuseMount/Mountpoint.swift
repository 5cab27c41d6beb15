import CLinux
import Glibc
import Posix
import PrintableText
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
  /// The longest wait for another process that mounts or unmounts here.
  private static let claimLimitInMilliseconds = 5000

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
    let real = try absolute(path)
    // Without the table a mount of ours could not be told from a directory.
    guard let table = MountTable() else { throw .noMountTable }
    if let mount = table.topmost(at: real), mount.type.hasPrefix("fuse") {
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
    guard pathResponds(real) else { throw .pathDoesNotAnswer(path: path, SilentPlace(real)) }
    do {
      try checkDirectory(path, real)
    } catch {
      // Another process may have mounted here after the look at the table.
      if let mount = MountTable()?.topmost(at: real), mount.type.hasPrefix("fuse") {
        return try prepare(path)
      }
      throw error
    }
    return Prepared(path: real, deadMount: nil)
  }

  /// Removes the stale mount, if there is one, and checks the directory again: another mount may
  /// have come in the meantime. It must be called just before mounting, when all other preparations
  /// have succeeded, and in `claiming`.
  ///
  /// - Returns: the source of the removed mount, for the log; nil if there was none.
  public static func clear(_ prepared: Prepared) throws(MountError) -> String? {
    let now = try prepare(prepared.path)
    guard let dead = now.deadMount else { return nil }
    if MountTable()?.topmost(at: now.path)?.device == dead.device {
      try remove(now.path, lazily: true)
    }
    // Another mount may lie below it.
    _ = try clear(now)
    return dead.source
  }

  // MARK: One at a time

  /// Runs a function while no other process of this program mounts or unmounts on the same path.
  ///
  /// A look at the mount table and the change that follows are two steps, and the kernel always
  /// mounts on top, and unmounts what is on top: of two processes that both found a directory free,
  /// one would hide the other's mount, and of two that unmount, the second would remove what lies
  /// below. The lock is flock(2) on the folder that the mountpoint is in. It leaves nothing behind,
  /// ends with its process, and is the same for all users and mount namespaces.
  ///
  /// Where the folder cannot be opened or locked, or somebody else keeps it locked, the function
  /// runs without the lock: nobody can keep others from mounting.
  public static func claiming<Value, Failure: Error>(
    _ absolutePath: String, _ body: () throws(Failure) -> Value
  ) throws(Failure) -> Value {
    let lock = lockedFolder(of: absolutePath)
    defer { if let lock { close(lock) } }
    return try body()
  }

  /// A descriptor that holds the lock; nil where there is none to be had.
  private static func lockedFolder(of absolutePath: String) -> Int32? {
    let folder = FilePath(absolutePath).removingLastComponent().string
    let opened = answer(withinMilliseconds: answerLimitInMilliseconds) {
      open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    }
    guard let descriptor = opened, descriptor >= 0 else { return nil }
    // Mounting takes some milliseconds.
    for _ in 0..<claimLimitInMilliseconds / 10 {
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return descriptor }
      guard errno == EWOULDBLOCK || errno == EINTR else { break }
      usleep(10_000)
    }
    close(descriptor)
    return nil
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
    // The current directory stays usable after it was deleted.
    guard info.st_nlink > 0, real.hasPrefix("/") else { throw .mountpointDeleted(path: path) }
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

  /// Removes a mount, if it is still the topmost on its path.
  ///
  /// - Parameters:
  ///   - device: the mount's `MountTable.Mount.device`; nil where it is not known.
  ///   - lazily: whether to remove the mount at once even if files are open there; those stay
  ///     usable until they are closed.
  /// - Throws: `MountError.notMounted` where another mount or none is there by now.
  public static func detach(
    _ path: String, device: String?, lazily: Bool
  ) throws(MountError) {
    try claiming(path) { () throws(MountError) in
      // Where the table cannot be read, as with no descriptors left, the mount is taken to be
      // there.
      if let device, let table = MountTable(), table.topmost(at: path)?.device != device {
        throw .notMounted(path: path)
      }
      try remove(path, lazily: lazily)
    }
  }

  /// Removes the topmost mount; for an ordinary user fusermount3 does so. It must be called in
  /// `claiming`.
  static func remove(_ path: String, lazily: Bool) throws(MountError) {
    if geteuid() == 0 {
      switch inventoryfs_unmount(path, lazily ? 1 : 0) {
      case 0: return
      case EBUSY: throw .busy(path: path)
      case EINVAL where MountTable()?.topmost(at: path) != nil: throw .locked(path: path)
      case EINVAL, ENOENT: throw .notMounted(path: path)
      case EPERM: throw .mayNotUnmount(path: path)
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
    if let obstacle = MountObstacle.ofFusermount() {
      throw .unmountFailed(path: path, detail: "\(obstacle)")
    }
    throw .busy(path: path)
  }

  // MARK: Paths

  /// The path from the root, without symbolic links. The path itself is not accessed where a file
  /// system is mounted on it: only its parent directory is.
  ///
  /// - Throws: `MountError` for a path that leads into a file system which does not respond, or
  ///   whose bytes are not UTF-8.
  public static func absolute(_ path: String) throws(MountError) -> String {
    switch answer(withinMilliseconds: 5000, { resolve(path) }) {
    case .path(let real)?: return real
    case .notUTF8?: throw .pathNotUTF8(path: path)
    case nil: throw .pathDoesNotAnswer(path: path, SilentPlace(path))
    }
  }

  private enum Resolved {
    case path(String)
    case notUTF8
  }

  private static func resolve(_ path: String) -> Resolved {
    let name = FilePath(path)
    var ifMissing = path
    if let last = name.lastComponent, last.kind == .regular {
      let parent = name.removingLastComponent()
      if case .path(let real)? = resolved(parent.isEmpty ? "." : parent.string) {
        let candidate = FilePath(real).appending(last).string
        if MountTable()?.topmost(at: candidate) != nil { return .path(candidate) }
        ifMissing = candidate
      }
    } else if name.string == ".", let folder = getcwd(nil, 0) {
      defer { free(folder) }
      return text(folder)
    }
    return resolved(path) ?? .path(ifMissing)
  }

  private static func resolved(_ path: String) -> Resolved? {
    guard let real = realpath(path, nil) else { return nil }
    defer { free(real) }
    return text(real)
  }

  private static func text(_ path: UnsafePointer<CChar>) -> Resolved {
    String(validatingCString: path).map { .path($0) } ?? .notUTF8
  }
}

/// The mount that a path leads into and that does not respond, for messages.
public struct SilentPlace: Sendable, CustomStringConvertible {
  private let mount: MountTable.Mount?

  /// - Parameter path: absolute, or relative to the current directory.
  public init(_ path: String) {
    var place = FilePath(path)
    if place.isRelative, let folder = getcwd(nil, 0) {
      place = FilePath(String(cString: folder)).pushing(place)
      free(folder)
    }
    let mount = MountTable()?.mount(holding: place.lexicallyNormalized().string)
    // A disk always responds: then a symbolic link leads elsewhere.
    let mayBeSilent = mount.map { $0.type.hasPrefix("fuse") || $0.type.hasPrefix("nfs") }
    self.mount = mayBeSilent == true ? mount : nil
  }

  public var description: String {
    guard let mount else {
      return
        "a file system on the way to it does not respond; name another path, or see which it is "
        + "with: findmnt"
    }
    return "the file system mounted on \(mount.path) (\(mount.type), \(mount.source)) does not "
      + "respond: its process or server may be stopped; name another path, or unmount it with: "
      + (mount.type == Mountpoint.fileSystemType
        ? "inventoryfs unmount --lazy \(shellWord(mount.path))"
        : "umount -l \(shellWord(mount.path))")
  }
}
