import ArgumentParser
import CLinux
import FuseMount
import Glibc

struct UnmountCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unmount",
    abstract: "Unmounts an inventory and waits until its process has ended.",
    aliases: ["umount"])

  @Argument(help: "The directory that the inventory is mounted on.")
  var mountpoint: String

  @Flag(
    name: [.long, .customShort("z")],
    help: "Unmount even if files are open; they can be read until they are closed.")
  var lazy = false

  func validate() throws {
    guard !mountpoint.isEmpty else { throw ValidationError("<mountpoint> is empty") }
  }

  func run() throws {
    let path = Mountpoint.absolute(mountpoint)
    guard let mount = Mountpoint.find(path) else {
      throw Failure(MountError.notMounted(path: mountpoint))
    }
    guard mount.type == Mountpoint.fileSystemType else {
      throw Failure(MountError.notOurs(path: mountpoint, type: mount.type))
    }
    let process = lazy ? nil : daemon(of: path).map { inventoryfs_pidfd_open($0) }
    try failing { try Mountpoint.detach(path, lazily: lazy) }
    if let process, process >= 0 { waitForEnd(of: process) }
  }

  /// The process that serves the mount, as it says itself; nil when it does not answer any more.
  private func daemon(of path: String) -> pid_t? {
    var bytes = [UInt8](repeating: 0, count: 32)
    let count = getxattr(path, "user.inventoryfs.pid", &bytes, bytes.count)
    return count > 0 ? pid_t(String(decoding: bytes[..<count], as: UTF8.self)) : nil
  }

  /// So that a mount that follows finds the cache directory free. A process that has ended but was
  /// not waited for by its parent counts as ended.
  private func waitForEnd(of process: Int32) {
    var watched = pollfd(fd: process, events: Int16(POLLIN), revents: 0)
    poll(&watched, 1, Self.longestEndInMilliseconds)
    close(process)
  }

  /// A little more than the process gives itself (`MountSession`).
  private static let longestEndInMilliseconds: Int32 = 12_000
}
