import InventoryFileSystem
import Locks

/// Registers files for the kernel to read by itself. `FuseDevice` implements it, and so do tests.
protocol BackingDevice: Sendable {
  /// Whether the kernel accepts files at all.
  var isPassthroughOn: Bool { get }
  /// Registers a file and returns the kernel's number for it; nil when the kernel does not accept
  /// it.
  func openBacking(_ file: Int32) -> UInt32?
  func closeBacking(_ id: UInt32)
}

/// Keeps track of the files that the kernel reads by itself.
///
/// The kernel has each file open either in passthrough or in cached mode, and fails an open that
/// mixes the two with EIO. So the first open of a file decides, and later ones follow until the
/// last has been released. A file in passthrough has one backing id, for all its handles, from the
/// first open to the last release.
///
/// We never count fewer opens than the kernel does: an open counts before the reply to it, and a
/// release arrives after the kernel has let go of the file.
final class BackingFiles: Sendable {
  private struct Use {
    /// The backing id; nil in cached mode.
    let backing: UInt32?
    var count = 1
  }

  private let fileSystem: InventoryFileSystem
  private let device: any BackingDevice
  /// One lock for each file, which is held while its first open decides, so that a second open
  /// follows that. A disk that hangs meanwhile keeps opens of this file only. It is taken before
  /// `uses`.
  private let deciding = KeyedLock<NodeID>()
  private let uses = Lock<[NodeID: Use]>([:])

  init(_ fileSystem: InventoryFileSystem, _ device: any BackingDevice) {
    self.fileSystem = fileSystem
    self.device = device
  }

  /// Counts an open before the reply to it; `closed(_:)` undoes that.
  ///
  /// - Returns: the backing id for the reply, or nil for cached mode.
  func opened(_ file: OpenFile) -> UInt32? {
    let (backing, isRefused) = deciding.withLock(of: file.node) { () -> (UInt32?, Bool) in
      let known: Use? = uses.withLock { uses in
        uses[file.node]?.count += 1
        return uses[file.node]
      }
      if let known { return (known.backing, false) }
      var (backing, isRefused) = (UInt32?.none, false)
      if device.isPassthroughOn, let descriptor = fileSystem.lend(file) {
        backing = device.openBacking(descriptor)
        isRefused = backing == nil
      }
      uses.withLock { $0[file.node] = Use(backing: backing) }
      return (backing, isRefused)
    }
    // These calls are made without a lock, because both may begin requests.
    if isRefused { fileSystem.takeBack(file) }
    if backing != nil { fileSystem.kernelServes(file) }
    return backing
  }

  /// Undoes `opened`. It must be called before the file system closes the file.
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
