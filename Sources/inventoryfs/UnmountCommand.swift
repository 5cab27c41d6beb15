import ArgumentParser
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
    help: "Unmount even if files are open; open files stay readable until they are closed.")
  var lazy = false

  func validate() throws {
    guard !mountpoint.isEmpty else { throw ValidationError("<mountpoint> is empty") }
  }

  func run() throws {
    let path = Mountpoint.absolute(mountpoint)
    guard let mount = MountTable()?.topmost(at: path) else {
      throw Failure(MountError.notMounted(path: mountpoint))
    }
    guard mount.type == Mountpoint.fileSystemType else {
      throw Failure(MountError.notOurs(path: mountpoint, type: mount.type))
    }
    // The process is found by its mount, so it must be found before that is gone.
    let process = lazy ? nil : ServingProcess(of: mount)
    try failing { try Mountpoint.detach(path, lazily: lazy) }
    if let process { try waitForEnd(of: process, mount) }
  }

  /// Waits until the process has ended, so that a mount that follows finds the cache directory
  /// free.
  private func waitForEnd(
    of process: ServingProcess, _ mount: MountTable.Mount
  ) throws(Failure) {
    // Ending takes some milliseconds; the reasons are examined only if it takes longer.
    if process.waitForEnd(milliseconds: 500) { return }
    if let places = OtherPlaces(of: mount) {
      throw Failure(
        MountError.mountedElsewhere(path: mountpoint, process: process.pid, places: places))
    }
    guard !process.isStopped, process.waitForEnd(milliseconds: Self.longestEndInMilliseconds) else {
      throw Failure(
        MountError.processLivesOn(
          path: mountpoint, process: process.pid, isStopped: process.isStopped))
    }
  }

  /// The longest wait, which is a little more than the process gives itself (`MountSession`).
  private static let longestEndInMilliseconds: Int32 = 12_000
}
