internal import CCRC32C
internal import CZlib

/// The checksum of one block, taken from its bytes as they arrive.
///
/// It is CRC-32C by the processor's own instruction, which takes a third to a half of the time of
/// zlib's CRC-32, or CRC-32 on processors without that instruction
/// ([0001](../../docs/decisions/0001-checksum-of-a-block.md)).
public struct BlockChecksum: Sendable {
  /// The checksum algorithms, whose names are part of a folder's name on disk (`CacheDirectory`).
  enum Algorithm: String, CaseIterable {
    case crc32c, crc32

    /// The algorithm to use, which is the same for the whole run, and for all runs on one kind of
    /// processor.
    static let preferred: Algorithm = inventoryfs_has_crc32c() != 0 ? .crc32c : .crc32
  }

  public private(set) var value: UInt32 = 0
  private let algorithm: Algorithm

  public init() { self.init(.preferred) }

  public init(of bytes: UnsafeRawBufferPointer) {
    self.init()
    update(bytes)
  }

  /// - Parameter algorithm: one that this processor has.
  init(_ algorithm: Algorithm) { self.algorithm = algorithm }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
    switch algorithm {
    case .crc32c: value = inventoryfs_crc32c(value, base, bytes.count)
    case .crc32: value = UInt32(truncatingIfNeeded: crc32_z(UInt(value), base, bytes.count))
    }
  }
}
