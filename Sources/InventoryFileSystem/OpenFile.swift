import Glibc
import ReadPlanning

/// The state of one `open` until its `close`.
public final class OpenFile: Sendable {
  enum Content: Sendable {
    case bytes([UInt8])
    /// A descriptor that this object owns.
    case localFile(Int32)
    case chunk(ChunkID, HandleID)
  }

  public let node: NodeID
  let content: Content
  let sizeInBytes: Int
  /// Whether the kernel may keep its pages of the file; otherwise it must read them again.
  public let mayKeepPages: Bool

  init(node: NodeID, content: Content, sizeInBytes: Int, mayKeepPages: Bool = true) {
    self.node = node
    self.content = content
    self.sizeInBytes = sizeInBytes
    self.mayKeepPages = mayKeepPages
  }

  deinit {
    if case .localFile(let descriptor) = content { Glibc.close(descriptor) }
  }

  /// The part of a read that lies inside the file.
  func clamp(byteOffset: Int, count: Int) -> Range<Int> {
    guard byteOffset >= 0, byteOffset < sizeInBytes, count > 0 else { return 0..<0 }
    return byteOffset..<byteOffset + min(count, sizeInBytes - byteOffset)
  }
}
