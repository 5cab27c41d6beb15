import CLinux
import Glibc
import Posix

/// The process that serves a mount. It is found without a request to the mount, which may not
/// respond, and can be watched until it ends.
public final class ServingProcess: Sendable {
  /// Its number in this pid namespace.
  public let pid: Int32
  // A descriptor of the process itself, by pidfd_open(2): it cannot come to mean another process of
  // the same number.
  private let descriptor: Int32

  /// Finds the process by the connection that it has open, as Linux tells in `/proc/PID/fdinfo`.
  ///
  /// A process that is just ending may still have a connection of the same number, and is given
  /// time to end. Not every version of Linux tells: then the mount is asked for its
  /// `user.inventoryfs.pid`, which is a number of the process's own pid namespace, so it counts
  /// only if that process has /dev/fuse open.
  ///
  /// - Returns: the process; nil if none that this user may inspect serves the mount.
  public convenience init?(of mount: MountTable.Mount) {
    guard let connection = mount.minorDevice else { return nil }
    var serving = processes().filter { Self.serves($0, connection) == .yes }
    for _ in 0..<40 where serving.count > 1 {
      usleep(50_000)
      serving = serving.filter { Self.serves($0, connection) == .yes }
    }
    if serving.count == 1 {
      self.init(serving[0])
      // The number may have come to mean another process in between.
      guard Self.serves(pid, connection) == .yes else { return nil }
      return
    }
    guard let pid = Self.statedPID(mount.path) else { return nil }
    switch Self.serves(pid, connection) {
    case .yes, .notTold: self.init(pid)
    case .no, .hasNoDevice: return nil
    }
  }

  private init?(_ pid: pid_t) {
    let descriptor = inventoryfs_pidfd_open(pid)
    guard descriptor >= 0 else { return nil }
    self.pid = pid
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Waits for the process to end. A process that has ended but was not waited for by its parent
  /// counts as ended.
  ///
  /// - Returns: whether the process ended within that time.
  public func waitForEnd(milliseconds: Int32) -> Bool {
    var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&watched, 1, milliseconds) == 1
  }

  /// Whether the process is stopped (by SIGSTOP or a debugger), so that it cannot end.
  public var isStopped: Bool {
    // "PID (name) state ...": the name may hold anything.
    guard let file = fopen("/proc/\(pid)/stat", "re") else { return false }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 512)
    let count = fread(&bytes, 1, bytes.count, file)
    guard let bracket = bytes[..<count].lastIndex(of: UInt8(ascii: ")")), bracket + 2 < count else {
      return false
    }
    return [UInt8(ascii: "T"), UInt8(ascii: "t")].contains(bytes[bracket + 2])
  }

  private enum Serves { case yes, no, notTold, hasNoDevice }

  private static func serves(_ pid: pid_t, _ connection: UInt32) -> Serves {
    var found = Serves.hasNoDevice
    for descriptor in names(in: "/proc/\(pid)/fd")
    where link("/proc/\(pid)/fd/\(descriptor)") == "/dev/fuse" {
      switch statedConnection("/proc/\(pid)/fdinfo/\(descriptor)") {
      case connection?: return .yes
      case nil: found = .notTold
      default: if case .hasNoDevice = found { found = .no }
      }
    }
    return found
  }

  /// The number of the connection that a descriptor of /dev/fuse belongs to.
  ///
  /// - Parameter path: `/proc/PID/fdinfo/N`.
  static func statedConnection(_ path: String) -> UInt32? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, Int32(line.count), file) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if text.hasPrefix("fuse_connection:") {
        return UInt32(text.dropFirst("fuse_connection:".count).filter { $0.isASCII && $0.isNumber })
      }
    }
    return nil
  }

  private static func statedPID(_ mountpoint: String) -> pid_t? {
    answer(withinMilliseconds: 1000) {
      var bytes = [UInt8](repeating: 0, count: 32)
      let count = getxattr(mountpoint, "user.inventoryfs.pid", &bytes, bytes.count)
      return count > 0 ? pid_t(String(decoding: bytes[..<count], as: UTF8.self)) : nil
    } ?? nil
  }
}

/// The places where a file system is still mounted.
public struct OtherPlaces: Sendable, CustomStringConvertible {
  /// The mountpoints that this process sees.
  let mountpoints: [String]
  /// The mount namespaces of other processes that see the file system.
  let namespaces: [Namespace]

  struct Namespace: Sendable {
    /// The text of the link `/proc/PID/ns/mnt`.
    let id: String
    let process: Int32
    let name: String
    let mountpoint: String
    let isOfKernel: Bool
  }

  /// Searches the mount tables of all processes that this user may inspect for places beside the
  /// mountpoint itself. Returns nil if none has the file system.
  ///
  /// To be asked before an unmount: afterwards another file system may have the same device number.
  public init?(of mount: MountTable.Mount) {
    let own = link("/proc/self/ns/mnt")
    var found: [String: Namespace] = [:]
    for process in processes() {
      // A process may end meanwhile, or see less than others of its namespace (chroot).
      guard let namespace = link("/proc/\(process)/ns/mnt"), namespace != own,
        found[namespace]?.isOfKernel ?? true,
        let place = MountTable(of: process)?.places(ofDevice: mount.device).last
      else { continue }
      // Threads of the kernel are processes of the first namespace, which nobody recognises it by.
      let isOfKernel = link("/proc/\(process)/exe") == nil
      guard found[namespace] == nil || !isOfKernel else { continue }
      found[namespace] = Namespace(
        id: namespace, process: process, name: name(of: process), mountpoint: place.path,
        isOfKernel: isOfKernel)
    }
    let here = MountTable()?.places(ofDevice: mount.device) ?? []
    self.init(
      mountpoints: here.filter { $0.id != mount.id }.map(\.path),
      namespaces: found.values.sorted { $0.process < $1.process })
  }

  private init?(mountpoints: [String], namespaces: [Namespace]) {
    guard !mountpoints.isEmpty || !namespaces.isEmpty else { return nil }
    self.mountpoints = mountpoints
    self.namespaces = namespaces
  }

  /// The places that are still there. The unmount of a shared mount reaches other namespaces, too.
  public func remaining(of mount: MountTable.Mount) -> OtherPlaces? {
    guard let now = OtherPlaces(of: mount) else { return nil }
    return OtherPlaces(
      mountpoints: mountpoints.filter(now.mountpoints.contains),
      namespaces: namespaces.filter { old in
        now.namespaces.contains { $0.id == old.id && $0.mountpoint == old.mountpoint }
      })
  }

  /// Where the serving process itself has the file system mounted, if that is in another mount
  /// namespace than this process's, and nowhere here: then the mount here was a copy of that one.
  /// It is a phrase such as `on /mnt/inv in its own mount namespace`.
  public func home(of process: ServingProcess) -> String? {
    guard mountpoints.isEmpty, let namespace = link("/proc/\(process.pid)/ns/mnt"),
      let home = namespaces.first(where: { $0.id == namespace })
    else { return nil }
    return "on \(home.mountpoint) in its own mount namespace"
  }

  public var description: String {
    let here = mountpoints.map { "on \($0)" }
    let elsewhere = namespaces.map {
      "on \($0.mountpoint) in the mount namespace of process \($0.process) (\($0.name))"
    }
    return (here + elsewhere).joined(separator: ", and ")
  }
}

/// The pids in /proc, which are those of this pid namespace.
private func processes() -> [pid_t] { names(in: "/proc").compactMap { pid_t($0) } }

private func name(of process: pid_t) -> String {
  guard let file = fopen("/proc/\(process)/comm", "re") else { return "?" }
  defer { fclose(file) }
  var bytes = [UInt8](repeating: 0, count: 64)
  let count = fread(&bytes, 1, bytes.count, file)
  return String(decoding: bytes[..<count].prefix { $0 >= 0x20 && $0 != 0x7f }, as: UTF8.self)
}

private func names(in folder: String) -> [String] {
  guard let stream = opendir(folder) else { return [] }
  defer { closedir(stream) }
  var names: [String] = []
  while let item = readdir(stream) { names.append(String(cString: inventoryfs_entry_name(item))) }
  return names
}

/// The target of a symbolic link.
private func link(_ path: String) -> String? {
  var target = [CChar](repeating: 0, count: Int(PATH_MAX))
  let count = readlink(path, &target, target.count)
  guard count > 0 else { return nil }
  return String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
