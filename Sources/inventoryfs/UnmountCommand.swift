import ArgumentParser
import FuseMount

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
    // Both are looked for before the unmount, because they are found by the mount.
    let process = lazy ? nil : ServingProcess(of: mount)
    let others = lazy ? nil : OtherPlaces(of: mount)
    try detach(path)
    guard let process else { return }
    // An end takes some milliseconds; only what takes longer is examined.
    if process.waitForEnd(milliseconds: 500) { return }
    if let places = others?.remaining(of: mount) {
      throw Failure(
        MountError.mountedElsewhere(path: mountpoint, process: process.pid, places: places))
    }
    // Waits, so that a mount that follows finds the cache directory free.
    guard !process.isStopped, process.waitForEnd(milliseconds: Self.longestEndInMilliseconds) else {
      throw Failure(
        MountError.processLivesOn(
          path: mountpoint, process: process.pid, isStopped: process.isStopped))
    }
  }

  /// A mount whose process does not respond is in use by whoever waits for it, and is detached
  /// lazily, so that they are let go.
  private func detach(_ path: String) throws(Failure) {
    do {
      try Mountpoint.detach(path, lazily: lazy)
    } catch {
      guard case .busy = error, !Mountpoint.responds(path) else { throw Failure(error) }
      try failing { try Mountpoint.detach(path, lazily: true) }
    }
  }

  /// The longest wait, which is a little more than the process gives itself (`MountSession`).
  private static let longestEndInMilliseconds: Int32 = 12_000
}
