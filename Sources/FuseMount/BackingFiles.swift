import InventoryFileSystem
import Locks

/// Where files are registered for the kernel to read by itself; `FuseDevice`, but for tests.
protocol BackingDevice: Sendable {
  /// Whether the kernel takes files at all.
  var isPassthroughOn: Bool { get }
  /// The kernel's number for a file; nil when it does not take it.
  func openBacking(_ file: Int32) -> UInt32?
  func closeBacking(_ id: UInt32)
}

/// Which files the kernel reads by itself.
///
/// The kernel has each file open either in passthrough or in cached mode, and fails an open that
/// mixes the two with EIO. So the first open of a file decides, and later ones follow until the
/// last has been released. A file in passthrough has one backing id, for all its handles, from the
/// first open to the last release.
///
/// What we count as open is never less than what the kernel does: an open counts before it is
/// answered, and a release arrives after the kernel has let go.
final class BackingFiles: Sendable {
  private struct Use {
    /// Nil in cached mode.
    let backing: UInt32?
    var count = 1
  }

  private let fileSystem: InventoryFileSystem
  private let device: any BackingDevice
  private let uses = Lock<[NodeID: Use]>([:])

  init(_ fileSystem: InventoryFileSystem, _ device: any BackingDevice) {
    self.fileSystem = fileSystem
    self.device = device
  }

  /// Counts an open that is about to be answered; undone by `closed(_:)`.
  ///
  /// - Returns: the backing id to answer with, or nil for cached mode.
  func opened(_ file: OpenFile) -> UInt32? {
    var isRefused = false
    let backing = uses.withLock { uses in
      if let use = uses[file.node] {
        uses[file.node]?.count += 1
        return use.backing
      }
      var backing: UInt32?
      if device.isPassthroughOn, let descriptor = fileSystem.lend(file) {
        backing = device.openBacking(descriptor)
        isRefused = backing == nil
      }
      uses[file.node] = Use(backing: backing)
      return backing
    }
    // Not under the lock: both may begin requests.
    if isRefused { fileSystem.takeBack(file) }
    if backing != nil { fileSystem.kernelServes(file) }
    return backing
  }

  /// To be called before the file system closes the file.
  func closed(_ file: OpenFile) {
    let unused: Use? = uses.withLock { uses in
      guard let use = uses[file.node] else { return nil }
      guard use.count == 1 else {
        uses[file.node]?.count -= 1
        return nil
      }
      uses[file.node] = nil
      return use
    }
    guard let backing = unused?.backing else { return }
    device.closeBacking(backing)
    fileSystem.takeBack(file)
  }
}
