import Glibc
import Posix

/// A table of mounts such as `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Reading it sends no
/// request to any file system, so it works whatever has become of the processes that serve the
/// mounts.
public struct MountTable: Sendable {
  public struct Mount: Sendable {
    /// The number of the mount, and of the mount that it is mounted on.
    let id: Int
    let parentID: Int
    /// The mountpoint's bytes: for the kernel "é" in one character and in two are two names.
    let mountpoint: [UInt8]
    /// The type of the file system, such as `fuse.inventoryfs`.
    public let type: String
    /// What is mounted, as the file system names it: for ours, the manifest.
    public let source: String
    /// The user who mounted it; nil where the file system does not say.
    let userID: uid_t?
    /// The device as `major:minor`. It names the mounted file system, wherever and however often
    /// that is mounted.
    public let device: String

    /// The kernel's number of a FUSE connection is the minor number of its device.
    var minorDevice: UInt32? { device.split(separator: ":").last.flatMap { UInt32($0) } }

    /// The mountpoint, for messages.
    public var path: String { String(decoding: mountpoint, as: UTF8.self) }
  }

  /// The mounts in the order of the table.
  let mounts: [Mount]

  /// The mounts that a process sees.
  ///
  /// - Parameter process: a pid, or nil for this process.
  /// - Returns: nil where the process is gone or is another user's.
  public init?(of process: Int32? = nil) {
    let path = "/proc/\(process.map { "\($0)" } ?? "self")/mountinfo"
    // A mount takes some hundred bytes, and a kernel has at most 100,000 (fs.mount-max).
    guard let table = try? WholeFile.read(path, limitInBytes: 1 << 30, timeLimit: nil) else {
      return nil
    }
    self.init(parsing: table)
  }

  /// Reads a table; lines of another form are skipped.
  ///
  /// A field may begin with a combining mark that Swift would join to the space before it, so all
  /// fields are compared as bytes.
  init(parsing table: [UInt8]) {
    // 36 35 98:0 /root /mountpoint options [optional fields] - type source options
    mounts = table.split(separator: UInt8(ascii: "\n")).compactMap { line in
      let fields = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
      guard fields.count > 6,
        let dash = fields[6...].firstIndex(where: { $0.elementsEqual("-".utf8) }),
        dash + 2 < fields.count, let id = Int(text(fields[0])), let parentID = Int(text(fields[1]))
      else { return nil }
      let options = dash + 3 < fields.count ? text(fields[dash + 3]).split(separator: ",") : []
      return Mount(
        id: id, parentID: parentID, mountpoint: unescape(fields[4]),
        type: text(unescape(fields[dash + 1])),
        source: text(unescape(fields[dash + 2])),
        userID: options.first { $0.hasPrefix("user_id=") }.flatMap { uid_t($0.dropFirst(8)) },
        device: text(fields[2]))
    }
  }

  /// The mount that a program sees which opens exactly this path: of several on it the topmost, and
  /// none that a mount on a folder above it hides.
  public func topmost(at absolutePath: String) -> Mount? {
    let seen = mount(holding: absolutePath)
    return seen.flatMap { $0.mountpoint.elementsEqual(absolutePath.utf8) ? $0 : nil }
  }

  /// The mount that a path without symbolic links leads into.
  public func mount(holding absolutePath: String) -> Mount? { walk(absolutePath).last }

  /// The mount that hides what is mounted on exactly this path, which is nil where nothing is, or
  /// where it is to be seen.
  public func mount(hiding absolutePath: String) -> (hidden: Mount, above: Mount)? {
    let seen = walk(absolutePath)
    guard let above = seen.last, !above.mountpoint.elementsEqual(absolutePath.utf8),
      let hidden = mounts.last(where: { $0.mountpoint.elementsEqual(absolutePath.utf8) })
    else { return nil }
    return (hidden, above)
  }

  /// The mounts that the kernel enters on the way along a path, in that order. Neither the order of
  /// the table nor the mountpoints alone tell: a mount can be moved, and a later mount on a folder
  /// hides the mounts below it.
  private func walk(_ absolutePath: String) -> [Mount] {
    let path = Array(absolutePath.utf8)
    let ids = Set(mounts.map(\.id))
    let onTheWay = mounts.filter { Self.leads(path, through: $0.mountpoint) }
    // The first mount is on none of the table: a process in a chroot does not see the one that its
    // root is in.
    var next = onTheWay.filter { !ids.contains($0.parentID) || $0.parentID == $0.id }
    var entered: [Mount] = []
    // Of the mounts on one other mount, the way leads into the first that it meets.
    while let nearest = next.map(\.mountpoint.count).min(), entered.count <= mounts.count,
      let mount = next.last(where: { $0.mountpoint.count == nearest })
    {
      entered.append(mount)
      next = onTheWay.filter { $0.parentID == mount.id && $0.id != mount.id }
    }
    return entered
  }

  private static func leads(_ path: [UInt8], through mountpoint: [UInt8]) -> Bool {
    guard path.starts(with: mountpoint) else { return false }
    let slash = UInt8(ascii: "/")
    return mountpoint.last == slash || path.count == mountpoint.count
      || path[mountpoint.count] == slash
  }

  /// The mounts of a file system, by its `Mount.device`.
  func places(ofDevice device: String) -> [Mount] { mounts.filter { $0.device == device } }
}

private func text(_ bytes: some Collection<UInt8>) -> String {
  String(decoding: bytes, as: UTF8.self)
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
private func unescape(_ field: ArraySlice<UInt8>) -> [UInt8] {
  var bytes: [UInt8] = []
  var rest = field
  while let byte = rest.popFirst() {
    let digits = rest.prefix(3)
    if byte == UInt8(ascii: "\\"), digits.count == 3,
      digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "7")).contains($0) }),
      let value = UInt8(text(digits), radix: 8)
    {
      bytes.append(value)
      rest = rest.dropFirst(3)
    } else {
      bytes.append(byte)
    }
  }
  return bytes
}
