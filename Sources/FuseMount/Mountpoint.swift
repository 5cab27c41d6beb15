import CLinux
import Glibc
import SystemPackage

/// The directory that is mounted over, seen from outside: what is there, and taking away what is.
public enum Mountpoint {
  /// What `/proc/self/mountinfo` shows as our type.
  public static let fileSystemType = "fuse.inventoryfs"

  /// Checks that a directory can be mounted over, and hides nothing by it; takes away a mount there
  /// whose daemon has died.
  ///
  /// - Returns: its absolute path, without symbolic links.
  public static func prepare(_ path: String) throws(MountError) -> String {
    // A dead mount's root may still be in the kernel's attribute cache: only statfs always asks the
    // daemon.
    var statistics = statvfs()
    if statvfs(path, &statistics) != 0, errno == ENOTCONN || errno == ECONNABORTED {
      // The daemon is gone and left its mount behind.
      try detach(absolute(path), lazily: true)
      return try prepare(path)
    }
    var info = stat()
    if stat(path, &info) != 0 {
      switch errno {
      case ENOENT: throw .mountpointMissing(path: path)
      case ENOTDIR: throw .mountpointNotADirectory(path: path)
      default: throw .mountpointUnusable(path: path, errno: errno)
      }
    }
    guard info.st_mode & S_IFMT == S_IFDIR else { throw .mountpointNotADirectory(path: path) }
    let real = absolute(path)
    if let mount = find(real), mount.type.hasPrefix("fuse") {
      throw .alreadyMounted(path: path, source: mount.source)
    }
    // Mounted over, the root or /proc would take the machine's programs along.
    if let name = firstName(in: real) { throw .mountpointNotEmpty(path: path, name: name) }
    return real
  }

  /// Something that a directory holds; nil where it is empty or cannot be listed.
  private static func firstName(in directory: String) -> String? {
    guard let stream = opendir(directory) else { return nil }
    defer { closedir(stream) }
    while let item = readdir(stream) {
      let name = String(cString: inventoryfs_entry_name(item))
      if name != ".", name != ".." { return name }
    }
    return nil
  }

  public struct Mount: Sendable {
    public let type: String
    public let source: String
    /// Who mounted, where the file system says it.
    let userID: uid_t?
    /// `major:minor`, another for each mount.
    let device: String
  }

  /// The topmost mount on exactly this path.
  public static func find(_ absolutePath: String) -> Mount? {
    readWhole("/proc/self/mountinfo").flatMap { find(absolutePath, in: $0) }
  }

  /// The topmost mount on exactly this path, in a table such as `/proc/self/mountinfo`. A line of
  /// another shape is passed over.
  ///
  /// All is compared as bytes: for the kernel "é" in one character and in two are two names, and a
  /// field may begin with a mark that Swift would join to the space before it.
  static func find(_ absolutePath: String, in table: [UInt8]) -> Mount? {
    var found: Mount?
    // 36 35 98:0 /root /mountpoint options [optional fields] - type source options:
    // proc_pid_mountinfo(5)
    for line in table.split(separator: UInt8(ascii: "\n")) {
      let fields = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
      guard fields.count > 6, unescape(fields[4]).elementsEqual(absolutePath.utf8),
        let dash = fields[6...].firstIndex(where: { $0.elementsEqual("-".utf8) }),
        dash + 2 < fields.count
      else { continue }
      let options = dash + 3 < fields.count ? text(fields[dash + 3]).split(separator: ",") : []
      found = Mount(
        type: text(unescape(fields[dash + 1])), source: text(unescape(fields[dash + 2])),
        userID: options.first { $0.hasPrefix("user_id=") }.flatMap { uid_t($0.dropFirst(8)) },
        device: text(fields[2]))
    }
    return found
  }

  /// Takes the mount away. As an ordinary user through fusermount3.
  ///
  /// - Parameter lazily: at once even if files are open there; they stay usable until they are
  ///   closed.
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
    guard let status = run(arguments) else {
      throw .unmountFailed(
        path: path, detail: "fusermount3 cannot be run; install the package fuse3")
    }
    guard status != 0 else { return }
    guard let mount = find(path) else { throw .notMounted(path: path) }
    if let owner = mount.userID, owner != geteuid() {
      throw .notYours(path: path, userID: owner)
    }
    throw .busy(path: path)
  }

  /// The path from the root, without symbolic links where they can be followed: a dead mount cannot
  /// be looked into, but the directory it is in can.
  public static func absolute(_ path: String) -> String {
    if let real = realpath(path, nil) {
      defer { free(real) }
      return String(cString: real)
    }
    var name = FilePath(path)
    guard let last = name.lastComponent, name.removeLastComponent() else { return path }
    let parent = name.isEmpty ? "." : name.string
    guard let real = realpath(parent, nil) else { return path }
    defer { free(real) }
    return FilePath(String(cString: real)).appending(last).string
  }

  private static func readWhole(_ path: String) -> [UInt8]? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
  }

  private static func text(_ bytes: some Collection<UInt8>) -> String {
    String(decoding: bytes, as: UTF8.self)
  }

  /// mountinfo writes space, tab, newline and backslash as three octal digits.
  private static func unescape(_ field: ArraySlice<UInt8>) -> [UInt8] {
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

  private static func run(_ arguments: [String]) -> Int32? {
    var argv = arguments.map { strdup($0) } + [nil]
    defer { for argument in argv { free(argument) } }
    var pid = pid_t()
    guard posix_spawnp(&pid, arguments[0], nil, nil, &argv, environ) == 0 else { return nil }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 {
      guard errno == EINTR else { return nil }
    }
    return status & 0x7f == 0 ? status >> 8 & 0xff : -1
  }
}
