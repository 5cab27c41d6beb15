import Glibc

/// Why a file system could not be mounted or unmounted.
public enum MountError: Error, Sendable, CustomStringConvertible {
  case mountpointMissing(path: String)
  case mountpointNotADirectory(path: String)
  case mountpointNotEmpty(path: String, name: String)
  case alreadyMounted(path: String, source: String)
  /// A mount of ours is on the mountpoint, and its process is alive but does not respond.
  case doesNotAnswer(path: String, source: String)
  /// A mount of another FUSE program is on the mountpoint; `isDead` if its process has ended.
  case mountedByOther(path: String, type: String, source: String, isDead: Bool)
  /// The mount was removed, but its process serves it elsewhere.
  case mountedElsewhere(path: String, process: Int32, places: OtherPlaces)
  /// The mount was removed, but its process has not ended.
  case processLivesOn(path: String, process: Int32, isStopped: Bool)
  case mountpointUnusable(path: String, errno: Int32)
  case noFuseDevice
  case fuseDeviceDenied
  case fuseRefused(path: String, detail: String)
  case noThreads
  case notMounted(path: String)
  case notOurs(path: String, type: String)
  case notYours(path: String, userID: UInt32)
  case busy(path: String)
  case unmountFailed(path: String, detail: String)

  public var description: String {
    switch self {
    case .mountpointMissing(let path):
      "mountpoint \(path) does not exist; create it with: mkdir -p \(shellWord(path))"
    case .mountpointNotADirectory(let path):
      "mountpoint \(path) is not a directory; name an empty directory"
    case .mountpointNotEmpty(let path, let name):
      "mountpoint \(path) is not empty: the mount would hide '\(name)' and whatever else is in it; "
        + "name an empty directory"
    case .alreadyMounted(let path, let source):
      "mountpoint \(path) is already mounted (\(source)); "
        + "name another directory, or unmount it with: inventoryfs unmount \(shellWord(path))"
    case .doesNotAnswer(let path, let source):
      "mountpoint \(path) is already mounted (\(source)), and its process does not answer; "
        + "unmount it with: inventoryfs unmount --lazy \(shellWord(path))"
    case .mountedByOther(let path, let type, let source, let isDead):
      "mountpoint \(path) is already mounted (\(type), \(source))"
        + (isDead ? ", and the process that served it has ended" : "")
        + "; name another directory, or unmount it with: "
        + (geteuid() == 0 ? "umount" : "fusermount3 -u") + " \(shellWord(path))"
    case .mountedElsewhere(let path, let process, let places):
      "\(path) is unmounted, but process \(process) still serves the inventory, which is also "
        + "mounted \(places); unmount it there, or end the process with: kill \(process)"
    case .processLivesOn(let path, let process, let isStopped):
      isStopped
        ? "\(path) is unmounted, but process \(process), which served it, is stopped and cannot end; "
          + "continue it with: kill -CONT \(process)"
        : "\(path) is unmounted, but process \(process), which served it, has not ended: it may wait for a "
          + "disk or for its log, or the inventory is also mounted elsewhere; "
          + "see its log, or end it with: kill \(process)"
    case .mountpointUnusable(let path, let errno):
      "mountpoint \(path) cannot be used: \(String(cString: strerror(errno)))"
    case .noFuseDevice:
      "/dev/fuse does not exist; load the kernel's module with 'modprobe fuse', "
        + "or give a container '--device /dev/fuse --cap-add SYS_ADMIN'"
    case .fuseDeviceDenied:
      "/dev/fuse cannot be opened by this user; allow it with 'sudo chmod 0666 /dev/fuse'"
    case .fuseRefused(let path, let detail):
      "cannot mount on \(path): \(detail)"
    case .noThreads:
      "the system has no threads left for this process (see 'ulimit -u')"
    case .notMounted(let path):
      "\(path) is not a mountpoint"
    case .notOurs(let path, let type):
      "\(path) is mounted, but by \(type), not by inventoryfs; use umount"
    case .notYours(let path, let userID):
      "\(path) was mounted by user \(userID); unmount it as that user, or as root"
    case .busy(let path):
      "\(path) is in use; close what has files open there (see 'fuser -vm'), "
        + "or unmount it now and let them be closed later with: inventoryfs unmount --lazy \(shellWord(path))"
    case .unmountFailed(let path, let detail):
      "cannot unmount \(path): \(detail)"
    }
  }
}

/// The text quoted so that a shell takes it for one word.
private func shellWord(_ text: String) -> String {
  // A path that begins with "-" would be taken for an option, quoted or not.
  let text = text.hasPrefix("-") ? "./" + text : text
  let isPlain = text.utf8.allSatisfy {
    switch $0 {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...:
      true
    default: "/._-+=:@,%".utf8.contains($0)
    }
  }
  if isPlain, !text.isEmpty { return text }
  return "'"
    + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
}
