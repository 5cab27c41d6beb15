import Glibc
import PrintableText

/// Why a file system could not be mounted or unmounted.
public enum MountError: Error, Sendable, CustomStringConvertible {
  /// The mountpoint's path does not exist.
  case mountpointMissing(path: String)
  /// The mountpoint is the current directory, or relative to it, and was deleted.
  case mountpointDeleted(path: String)
  /// The mountpoint's path, or a part of it, is a file.
  case mountpointNotADirectory(path: String)
  /// The mountpoint holds something, `name` for example, which the mount would hide.
  case mountpointNotEmpty(path: String, name: String)
  /// A working mount of ours is on the mountpoint; `source` is the mounted manifest.
  case alreadyMounted(path: String, source: String)
  /// A mount of ours is on the mountpoint, and its process is alive but does not respond.
  case doesNotAnswer(path: String, source: String)
  /// A mount of another FUSE program is on the mountpoint; `isDead` if its process has ended.
  case mountedByOther(path: String, type: String, source: String, isDead: Bool)
  /// The path leads into a file system that does not respond.
  case pathDoesNotAnswer(path: String, SilentPlace)
  /// The path, or the path that a symbolic link in it leads to, has bytes that are not UTF-8.
  case pathNotUTF8(path: String)
  /// The mount was removed, but its process serves it elsewhere.
  case mountedElsewhere(path: String, process: Int32, places: OtherPlaces)
  /// The mount was removed, but its process has not ended.
  case processLivesOn(path: String, process: Int32, isStopped: Bool)
  /// A system call on the mountpoint failed, with this errno.
  case mountpointUnusable(path: String, errno: Int32)
  /// The kernel's table of mounts cannot be read.
  case noMountTable
  /// /dev/fuse does not exist.
  case noFuseDevice
  /// /dev/fuse exists, but no module of the kernel serves it.
  case noFuseModule
  /// This user, or this container, may not open /dev/fuse.
  case fuseDeviceDenied
  /// /dev/fuse cannot be opened for another reason, with this errno, or is another file (ENXIO).
  case fuseDeviceUnusable(errno: Int32)
  /// The kernel, libfuse or fusermount3 refused the mount; `detail` is the reason.
  case fuseRefused(path: String, detail: String)
  /// The system has no threads left for those that serve the mount.
  case noThreads
  /// Nothing is mounted on the path.
  case notMounted(path: String)
  /// A mount of ours is on the path, but a later mount on a folder above it, `above`, hides it.
  case hidden(path: String, above: String, type: String)
  /// A mount of another program is on the path.
  case notOurs(path: String, type: String)
  /// Another user, of this ID, has mounted it.
  case notYours(path: String, userID: UInt32)
  /// Files of the mount are open, or it is a program's current directory.
  case busy(path: String)
  /// The mount came with the copy of another mount namespace, in which it was made by a user with
  /// more rights; the kernel does not let it be removed alone (mount_namespaces(7)).
  case locked(path: String)
  /// Root without CAP_SYS_ADMIN in the mount namespace's user namespace cannot unmount.
  case mayNotUnmount(path: String)
  /// Unmounting failed; `detail` is the reason.
  case unmountFailed(path: String, detail: String)

  public var description: String {
    switch self {
    case .mountpointMissing(let path):
      "mountpoint \(path) does not exist; create it with: mkdir -p \(shellWord(path))"
    case .mountpointDeleted(let path):
      "mountpoint \(path) was deleted; name another directory by its absolute path"
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
    case .pathDoesNotAnswer(let path, let place):
      "\(path): \(place)"
    case .pathNotUTF8(let path):
      "the path \(path), or what a link in it leads to, has bytes that are not UTF-8; "
        + "name a path in UTF-8"
    case .mountedElsewhere(let path, let process, let places):
      "the mount on \(path) is removed, but process \(process) still serves the inventory, which is also "
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
    case .noMountTable:
      "/proc/self/mountinfo cannot be read, which tells what is mounted where; "
        + "mount /proc with: mount -t proc proc /proc"
    case .noFuseDevice:
      "/dev/fuse does not exist; load the kernel's module with 'modprobe fuse', "
        + "or give a container '--device /dev/fuse --cap-add SYS_ADMIN'"
    case .noFuseModule:
      "/dev/fuse exists, but the kernel has no module for it; load it with 'modprobe fuse'"
    case .fuseDeviceDenied:
      geteuid() == 0
        ? "/dev/fuse may not be opened here, even by root; give the container '--device /dev/fuse "
          + "--cap-add SYS_ADMIN', or allow the device in the service (DeviceAllow=/dev/fuse rw)"
        : "/dev/fuse cannot be opened by this user; allow it with 'sudo chmod 0666 /dev/fuse', "
          + "or mount as root"
    case .fuseDeviceUnusable(let errno):
      "/dev/fuse cannot be used: \(String(cString: strerror(errno))); 'ls -l /dev/fuse' must show a "
        + "character device, '10, 229'; make it with: sudo mknod -m 666 /dev/fuse c 10 229"
    case .fuseRefused(let path, let detail):
      "cannot mount on \(path): \(detail)"
    case .noThreads:
      "the system has no threads left for this process (see 'ulimit -u')"
    case .notMounted(let path):
      "\(path) is not a mountpoint"
    case .hidden(let path, let above, let type):
      "the inventory mounted on \(path) is hidden by a later mount on \(above) (\(type)); "
        + "unmount \(shellWord(above)) first"
    case .notOurs(let path, let type):
      "\(path) is mounted, but by \(type), not by inventoryfs; use umount"
    case .notYours(let path, let userID):
      "\(path) was mounted by user \(userID); unmount it as that user, or as root"
    case .busy(let path):
      "\(path) is in use; close what has files open there (see 'fuser -vm'), "
        + "or unmount it now and let them be closed later with: inventoryfs unmount --lazy \(shellWord(path))"
    case .locked(let path):
      "\(path) cannot be unmounted alone in this mount namespace, which has it from a namespace of "
        + "more rights; unmount it there, or end this namespace's processes"
    case .mayNotUnmount(let path):
      "\(path) cannot be unmounted: "
        + (MountObstacle.found().map { "\($0)" }
          ?? "the system does not permit it; unmount it where it was mounted")
    case .unmountFailed(let path, let detail):
      "cannot unmount \(path): \(detail)"
    }
  }
}
