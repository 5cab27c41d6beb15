import InventoryManifest
import Synchronization

/// The mounted tree: names, attributes, and the bytes behind them. It does not depend on FUSE, so
/// it can be tested without a mount.
///
/// Any number of threads may call it at once. No call blocks on the network: a request that has to
/// wait is parked and gets its reply later (`ParkedRead`, `ParkedOpen`, `ParkedAttribute`).
public final class InventoryFileSystem: Sendable {
  public let inventory: Inventory
  /// The longest name that a file may have.
  public let longestNameInBytes = ChunkNames.maximumLengthInBytes
  private let ownership: NodeOwnership
  let content: ChunkContent
  /// Whether files can be lent to the kernel; the mount sets it.
  let isPassthroughOffered = Atomic(false)

  /// The source of chunk bytes.
  enum ChunkContent: Sendable {
    case folder(LocalChunks)
    case store(StoreChunks)
  }

  init(inventory: Inventory, ownership: NodeOwnership, content: ChunkContent) {
    self.inventory = inventory
    self.ownership = ownership
    self.content = content
  }

  /// Takes over the entries that earlier runs left in the cache; the first bytes are fetched once
  /// it is done. It needs a thread of its own.
  public func prepareCache() {
    if case .store(let chunks) = content { chunks.coordinator.takeOverCache() }
  }

  /// Fails all present and later requests with `.shuttingDown`, and returns when no bytes are
  /// fetched any more. It may be called more than once.
  public func shutDown() {
    if case .store(let chunks) = content { chunks.coordinator.shutDown() }
  }

  // MARK: The tree

  /// The attributes of a node.
  ///
  /// - Throws: `.notFound` for a node that this tree does not have.
  public func attributes(of node: NodeID) throws(FileSystemError) -> NodeAttributes {
    switch node {
    case .root, .data: attributes(directory: node)
    case .manifest: attributes(file: node, sizeInBytes: inventory.manifest.count)
    case .checksum:
      attributes(file: node, sizeInBytes: try checksum().count)
    default:
      attributes(file: node, sizeInBytes: try chunk(of: node).chunk.sizeInBytes)
    }
  }

  /// The node that a directory has under a name.
  ///
  /// - Throws: `.notFound`, `.nameTooLong`, or `.notADirectory` for a parent that has no names.
  public func lookUp(_ name: String, in parent: NodeID) throws(FileSystemError) -> NodeAttributes {
    guard name.utf8.count <= longestNameInBytes else { throw .nameTooLong }
    switch parent {
    case .root:
      guard let node = rootItems.first(where: { $0.name == name })?.node else { throw .notFound }
      return try attributes(of: node)
    case .data:
      guard let index = inventory.chunks.index(ofName: name) else { throw .notFound }
      return try attributes(of: .chunk(index))
    default:
      throw .notADirectory
    }
  }

  /// How many items a directory has, besides `.` and `..`.
  ///
  /// - Throws: `.notADirectory` for another node.
  public func itemCount(of directory: NodeID) throws(FileSystemError) -> Int {
    switch directory {
    case .root: rootItems.count
    case .data: inventory.chunks.count
    default: throw .notADirectory
    }
  }

  /// The item at `index`, less than `itemCount(of:)`, in an order that never changes.
  ///
  /// - Throws: `.notADirectory` for another node.
  public func item(at index: Int, of directory: NodeID) throws(FileSystemError) -> DirectoryItem {
    switch directory {
    case .root:
      let (name, node) = rootItems[index]
      return DirectoryItem(name: name, attributes: try attributes(of: node))
    case .data:
      return DirectoryItem(
        name: inventory.chunks[index].name, attributes: try attributes(of: .chunk(index)))
    default:
      throw .notADirectory
    }
  }

  /// The parent of a node; the root's parent is the root.
  public func parent(of directory: NodeID) -> NodeID { .root }

  private var rootItems: [(name: String, node: NodeID)] {
    var items: [(String, NodeID)] = [("manifest.json", .manifest)]
    if inventory.checksum != nil { items.append(("manifest.checksum", .checksum)) }
    items.append(("data", .data))
    return items
  }

  private func attributes(file node: NodeID, sizeInBytes: Int) -> NodeAttributes {
    NodeAttributes(
      node: node, kind: .file, sizeInBytes: sizeInBytes, mode: ownership.fileMode,
      userID: ownership.userID, groupID: ownership.groupID,
      modificationTimeInMilliseconds: inventory.creationTimeInMilliseconds, linkCount: 1)
  }

  private func attributes(directory node: NodeID) -> NodeAttributes {
    NodeAttributes(
      node: node, kind: .directory, sizeInBytes: 0, mode: ownership.directoryMode,
      userID: ownership.userID, groupID: ownership.groupID,
      modificationTimeInMilliseconds: inventory.creationTimeInMilliseconds,
      linkCount: node == .root ? 3 : 2)
  }

  private func checksum() throws(FileSystemError) -> [UInt8] {
    guard let checksum = inventory.checksum else { throw .notFound }
    return checksum
  }

  func chunk(
    of node: NodeID
  ) throws(FileSystemError) -> (index: Int, chunk: Inventory.Chunk) {
    guard let index = node.chunkIndex, index < inventory.chunks.count else { throw .notFound }
    return (index, inventory.chunks[index])
  }

  // MARK: Reading

  public enum OpenOutcome {
    case opened(OpenFile)
    case parked(Interruption?)
  }

  /// Opens a file for reading, until `close(_:)`. `parked` makes the object that gets the file
  /// later, when the store has to be asked first.
  ///
  /// - Throws: `.isADirectory`; `.notFound`, `.accessDenied`, `.stale`, `.tooLarge`,
  ///   `.tooManyOpenFiles` or `.inputOutput` for a chunk that cannot be opened, which the log
  ///   explains; `.shuttingDown`.
  public func open(
    _ node: NodeID, parked: () -> any ParkedOpen
  ) throws(FileSystemError) -> OpenOutcome {
    switch node {
    case .root, .data:
      throw .isADirectory
    case .manifest:
      return .opened(openBytes(node, inventory.manifest))
    case .checksum:
      return .opened(openBytes(node, try checksum()))
    default:
      let (index, chunk) = try chunk(of: node)
      if let failure = chunk.failure { throw failure }
      switch content {
      case .folder(let chunks):
        return .opened(try chunks.open(node, chunk))
      case .store(let chunks):
        return try chunks.open(node, index: index, chunk, parked: parked)
      }
    }
  }

  private func openBytes(_ node: NodeID, _ bytes: [UInt8]) -> OpenFile {
    OpenFile(node: node, content: .bytes(bytes), sizeInBytes: bytes.count)
  }

  /// Ends the use of an open file, whose reads must all have their results. It must be called once.
  public func close(_ file: OpenFile) {
    if case .chunk(let id, let handle) = file.content, case .store(let chunks) = content {
      chunks.coordinator.close(handle, of: id)
    }
  }

  public enum ReadOutcome {
    /// The read is done; the value is how many bytes of the buffer were filled, fewer than
    /// requested only at the file's end.
    case copied(Int)
    case parked(Interruption?)
  }

  /// Reads into `buffer`, whose size is the requested size, or parks the read.
  ///
  /// - Throws: `.stale` for a chunk whose object was replaced; `.inputOutput` or the error of the
  ///   last attempt for bytes that cannot be obtained; `.shuttingDown`.
  public func read(
    _ file: OpenFile, byteOffset: Int, into buffer: UnsafeMutableRawBufferPointer,
    parked: () -> any ParkedRead
  ) throws(FileSystemError) -> ReadOutcome {
    let bytes = file.clamp(byteOffset: byteOffset, count: buffer.count)
    guard !bytes.isEmpty else { return .copied(0) }
    switch file.content {
    case .bytes(let content):
      content[bytes].withUnsafeBytes { buffer.copyMemory(from: $0) }
      return .copied(bytes.count)
    case .localFile(let descriptor):
      guard case .folder(let chunks) = content else { throw .inputOutput }
      try chunks.read(try chunk(of: file.node).chunk, descriptor, bytes, into: buffer)
      return .copied(bytes.count)
    case .chunk(let id, let handle):
      guard case .store(let chunks) = content else { throw .inputOutput }
      switch try chunks.coordinator.read(
        id, handle: handle, bytes: bytes, into: buffer, parked: parked)
      {
      case .copied: return .copied(bytes.count)
      case .parked(let wait): return .parked(Interruption(wait: wait, chunks.coordinator))
      }
    }
  }

  /// Copies the bytes of a read that was parked and is ready now. `parked` makes the object for the
  /// rare case that the bytes have to be fetched again.
  public func finish(
    _ file: OpenFile, byteOffset: Int, into buffer: UnsafeMutableRawBufferPointer,
    parked: () -> any ParkedRead
  ) throws(FileSystemError) -> ReadOutcome {
    let bytes = file.clamp(byteOffset: byteOffset, count: buffer.count)
    guard case .chunk(let id, _) = file.content, case .store(let chunks) = content else {
      throw .inputOutput
    }
    if try chunks.coordinator.copy(id, bytes: bytes, into: buffer) { return .copied(bytes.count) }
    return try read(file, byteOffset: byteOffset, into: buffer, parked: parked)
  }
}
