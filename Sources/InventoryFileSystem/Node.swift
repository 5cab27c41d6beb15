/// A file's number, the same in every mount of the same manifest.
///
///     1        /                     4             /data
///     2        /manifest.json        firstChunk+i  /data/<chunk i>
///     3        /manifest.checksum
public struct NodeID: Hashable, Sendable {
  public let inode: UInt64

  public init(inode: UInt64) { self.inode = inode }

  public static let root = NodeID(inode: 1)
  static let manifest = NodeID(inode: 2)
  static let checksum = NodeID(inode: 3)
  static let data = NodeID(inode: 4)
  static let firstChunkInode: UInt64 = 16

  static func chunk(_ index: Int) -> NodeID {
    NodeID(inode: firstChunkInode + UInt64(index))
  }

  /// The chunk's index in the manifest, for an inode of one.
  var chunkIndex: Int? {
    inode >= Self.firstChunkInode ? Int(exactly: inode - Self.firstChunkInode) : nil
  }
}

/// The attributes of a node that `stat` shows.
public struct NodeAttributes: Sendable, Equatable {
  public enum Kind: Sendable { case file, directory }

  public var node: NodeID
  public var kind: Kind
  public var sizeInBytes: Int
  /// The permission bits only.
  public var mode: UInt32
  public var userID: UInt32
  public var groupID: UInt32
  public var modificationTimeInMilliseconds: Int64
  public var linkCount: UInt32

  /// The size in units of 512 bytes, as `stat` counts.
  public var blockCount: Int { (sizeInBytes + 511) / 512 }
}

/// The owner of the nodes, and their permissions.
public struct NodeOwnership: Sendable {
  public var userID: UInt32
  public var groupID: UInt32
  /// The permissions of files. The write bits are always cleared, because no node can be written.
  public var fileMode: UInt32
  /// The permissions of directories, with the write bits cleared.
  public var directoryMode: UInt32

  public init(
    userID: UInt32, groupID: UInt32, fileMode: UInt32 = 0o444, directoryMode: UInt32 = 0o555
  ) {
    self.userID = userID
    self.groupID = groupID
    self.fileMode = fileMode & 0o777 & ~0o222
    self.directoryMode = directoryMode & 0o777 & ~0o222
  }
}

/// One name in a directory.
public struct DirectoryItem: Sendable {
  public let name: String
  public let attributes: NodeAttributes

  public init(name: String, attributes: NodeAttributes) {
    self.name = name
    self.attributes = attributes
  }
}

/// The sums that `statfs` shows.
public struct FileSystemTotals: Sendable, Equatable {
  /// The sum of the sizes, at most 4 EiB, so that it can be rounded up.
  public let sizeInBytes: Int
  public let fileCount: Int
  public let longestName: Int

  /// - Parameter otherBytes: the size of the files besides those, less than 4 EiB.
  init(
    sizesInBytes: some Sequence<Int>, otherBytes: Int = 0, fileCount: Int, longestName: Int
  ) {
    let most = 1 << 62
    // No size is larger either, so that the sum of two fits.
    sizeInBytes = sizesInBytes.reduce(otherBytes) { min(most, $0 + min(most, $1)) }
    self.fileCount = fileCount
    self.longestName = longestName
  }
}
