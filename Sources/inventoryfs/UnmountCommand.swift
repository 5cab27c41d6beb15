import ArgumentParser
import FuseMount
import Glibc
import PrintableText

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
    let path = try failing { try Mountpoint.absolute(mountpoint) }
    guard let table = MountTable() else { throw Failure(MountError.noMountTable) }
    guard let mount = table.topmost(at: path) else {
      if let (hidden, above) = table.mount(hiding: path), hidden.type == Mountpoint.fileSystemType {
        throw Failure(MountError.hidden(path: mountpoint, above: above.path, type: above.type))
      }
      throw Failure(MountError.notMounted(path: mountpoint))
    }
    guard mount.type == Mountpoint.fileSystemType else {
      throw Failure(MountError.notOurs(path: mountpoint, type: mount.type))
    }
    // Both are looked for before the unmount, because they are found by the mount.
    let process = lazy ? nil : ServingProcess(of: mount)
    let others = lazy ? nil : OtherPlaces(of: mount)
    try detach(path, mount)
    guard let process else { return }
    // An end takes some milliseconds; only what takes longer is examined.
    if process.waitForEnd(milliseconds: 500) { return }
    if let places = others?.remaining(of: mount) {
      if let home = places.home(of: process) {
        // What was asked for is done: the mount is this namespace's own copy of another.
        report(
          "\(mountpoint) is unmounted in this mount namespace; process \(process.pid) goes on "
            + "serving the inventory \(home)")
        return
      }
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

  private func report(_ message: String) {
    LogOutput.append("inventoryfs: \(printable(message, limit: .max))\n", to: STDERR_FILENO)
  }

  /// A mount whose process does not respond is in use by whoever waits for it, and is detached
  /// lazily, so that they are let go.
  private func detach(_ path: String, _ mount: MountTable.Mount) throws(Failure) {
    do {
      try Mountpoint.detach(path, device: mount.device, lazily: lazy)
    } catch {
      guard case .busy = error, !Mountpoint.responds(path) else { throw Failure(error) }
      try failing { try Mountpoint.detach(path, device: mount.device, lazily: true) }
    }
  }

  /// The longest wait, which is a little more than the process gives itself (`MountSession`).
  private static let longestEndInMilliseconds: Int32 = 12_000
}
