/// The division of a chunk of a given size into blocks and segments.
///
/// A *block* (64 KiB) is what is present or absent in the cache and what carries a checksum: small
/// enough that a Parquet column or a random read drags in little, large enough that a terabyte of
/// cache needs 16 million of them. A *segment* (16 blocks, 1 MiB) is what is evicted: 2.4 bytes of
/// bookkeeping per block would not stay small at the block's size, and a hole punched per MiB costs
/// the disk's journal a sixteenth.
///
/// Offsets and sizes are in bytes from the chunk's first byte; indices count from zero.
public struct BlockGrid: Sendable, Hashable {
  public static let blockSizeInBytes = 64 << 10
  public static let blocksPerSegment = 16
  public static let segmentSizeInBytes = blockSizeInBytes * blocksPerSegment

  /// The disk's allocation unit: a final block that is cut short by the chunk's end is rounded up
  /// to it.
  public static let allocationUnitInBytes = 4 << 10

  /// The chunk's length; 0 is allowed and has no blocks.
  public let sizeInBytes: Int

  public init(sizeInBytes: Int) {
    precondition(sizeInBytes >= 0)
    self.sizeInBytes = sizeInBytes
  }

  public var blockCount: Int {
    (sizeInBytes + Self.blockSizeInBytes - 1) / Self.blockSizeInBytes
  }

  public var segmentCount: Int {
    (blockCount + Self.blocksPerSegment - 1) / Self.blocksPerSegment
  }

  public func block(at byteOffset: Int) -> Int { byteOffset / Self.blockSizeInBytes }

  /// The blocks that hold any byte of `bytes`, cut to the chunk.
  public func blocks(covering bytes: Range<Int>) -> Range<Int> {
    let bytes = bytes.clamped(to: 0..<sizeInBytes)
    guard !bytes.isEmpty else { return 0..<0 }
    return block(at: bytes.lowerBound)..<block(at: bytes.upperBound - 1) + 1
  }

  /// The blocks that lie wholly inside `bytes`; the chunk's last block counts as whole when its
  /// last byte is inside.
  public func blocks(inside bytes: Range<Int>) -> Range<Int> {
    let first = (bytes.lowerBound + Self.blockSizeInBytes - 1) / Self.blockSizeInBytes
    let end =
      bytes.upperBound >= sizeInBytes ? blockCount : bytes.upperBound / Self.blockSizeInBytes
    return first..<max(first, end)
  }

  /// The bytes of `blocks`, cut to the chunk's end.
  public func bytes(of blocks: Range<Int>) -> Range<Int> {
    let start = min(blocks.lowerBound * Self.blockSizeInBytes, sizeInBytes)
    return start..<min(blocks.upperBound * Self.blockSizeInBytes, sizeInBytes)
  }

  public func segment(ofBlock block: Int) -> Int { block / Self.blocksPerSegment }

  public func segments(covering blocks: Range<Int>) -> Range<Int> {
    guard !blocks.isEmpty else { return 0..<0 }
    return segment(ofBlock: blocks.lowerBound)..<segment(ofBlock: blocks.upperBound - 1) + 1
  }

  public func blocks(ofSegment segment: Int) -> Range<Int> {
    let start = segment * Self.blocksPerSegment
    return min(start, blockCount)..<min(start + Self.blocksPerSegment, blockCount)
  }

  /// The space that `blocks` take on disk: their bytes, rounded up to the allocation unit at the
  /// chunk's end.
  public func allocatedBytes(of blocks: Range<Int>) -> Int {
    let bytes = bytes(of: blocks)
    let unit = Self.allocationUnitInBytes
    return (bytes.upperBound + unit - 1) / unit * unit - bytes.lowerBound / unit * unit
  }

  /// The segments that hold any of these blocks, and the space that each takes on disk.
  public func segments(holding present: BlockSet) -> [(index: Int, allocatedInBytes: Int)] {
    var found: [(index: Int, allocatedInBytes: Int)] = []
    for run in present.presentRuns(in: 0..<blockCount) {
      for segment in segments(covering: run) {
        let bytes = allocatedBytes(of: run.clamped(to: blocks(ofSegment: segment)))
        if let last = found.last, last.index == segment {
          found[found.count - 1].allocatedInBytes += bytes
        } else {
          found.append((segment, bytes))
        }
      }
    }
    return found
  }
}
