import CLinux
import ReadPlanning
import Synchronization

/// The way of a chunk's bytes to a reader: the value of the extended attribute
/// `user.inventoryfs.read_path`.
enum ReadPath: String {
  /// The kernel has the cache file that they are in, or can get it with the next open; reads do not
  /// reach this process.
  case passthrough
  /// All bytes are on the local disk, and pass through this process.
  case cached
  /// Some bytes would have to be fetched.
  case network
}

// Files that the kernel reads by itself (FOPEN_PASSTHROUGH): as fast as the local file, because it
// is the local file.

extension InventoryFileSystem {
  /// Whether the kernel could take the files at all: it refuses files of an overlay, because file
  /// systems may be stacked two high only.
  public var hasLendableFiles: Bool {
    switch content {
    case .folder(let chunks): inventoryfs_is_on_stacked(chunks.root) == 0
    case .store(let chunks): inventoryfs_is_on_stacked(chunks.coordinator.cache.path) == 0
    }
  }

  /// Sets whether files can be lent to the kernel, which is off at first.
  public func offerPassthrough(_ isOffered: Bool) {
    isPassthroughOffered.store(isOffered, ordering: .relaxed)
  }

  /// Lends an open file to the kernel: all its bytes are cached and checked, and stay until
  /// `takeBack(_:)`.
  ///
  /// - Returns: a descriptor that is valid as long as `file` is open; nil if the file cannot be
  ///   lent now.
  public func lend(_ file: OpenFile) -> Int32? {
    switch (file.content, content) {
    case (.localFile(let descriptor), _): descriptor
    case (.chunk(let id, let handle), .store(let chunks)):
      chunks.coordinator.lend(id, to: handle)
    default: nil
    }
  }

  /// Notes that the kernel reads this open file by itself, so that no reads of it will arrive: it,
  /// or another file of its node, was lent.
  public func kernelServes(_ file: OpenFile) {
    if case (.chunk(let id, let handle), .store(let chunks)) = (file.content, content) {
      chunks.coordinator.kernelServes(id, handle)
    }
  }

  /// Ends a loan. It must be called while `file`, or another handle of the same node, is open.
  public func takeBack(_ file: OpenFile) {
    if case (.chunk(let id, _), .store(let chunks)) = (file.content, content) {
      chunks.coordinator.takeBack(id)
    }
  }

  func readPath(ofChunk index: Int, _ chunk: Inventory.Chunk) -> ReadPath {
    let isOffered = isPassthroughOffered.load(ordering: .relaxed)
    switch content {
    case .folder: return isOffered ? .passthrough : .cached
    case .store(let chunks):
      if isOffered, chunks.coordinator.isLendable(ChunkID(index: index)) { return .passthrough }
      let cached = chunks.cachedBytes(ofChunk: index, chunk)
      return cached == chunk.sizeInBytes ? .cached : .network
    }
  }
}
