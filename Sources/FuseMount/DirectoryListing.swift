import CFuse3
import Glibc
import InventoryFileSystem

/// The reply to a readdir or readdirplus, as it fills up.
struct DirectoryListing {
  private let request: KernelRequest
  private let withAttributes: Bool
  private var bytes: [UInt8]
  private var used = 0

  init(_ request: KernelRequest, sizeInBytes: Int, withAttributes: Bool) {
    self.request = request
    self.withAttributes = withAttributes
    bytes = [UInt8](repeating: 0, count: sizeInBytes)
  }

  /// Appends an item; returns false when there is no room for it.
  mutating func append(_ item: DirectoryItem, nextOffset: Int) -> Bool {
    // The kernel must not count references to "." and "..": inode 0 stands for "no lookup".
    var entry = item.attributes.entry
    let isDot = item.name == "." || item.name == ".."
    if isDot { entry.ino = 0 }
    let withAttributes = withAttributes
    let request = request
    let start = used
    let needed = bytes.withUnsafeMutableBytes { buffer in
      let place = buffer.baseAddress?.advanced(by: start).assumingMemoryBound(to: CChar.self)
      let room = buffer.count - start
      return withAttributes
        ? fuse_add_direntry_plus(request.raw, place, room, item.name, &entry, off_t(nextOffset))
        : fuse_add_direntry(request.raw, place, room, item.name, &entry.attr, off_t(nextOffset))
    }
    guard used + needed <= bytes.count else { return false }
    used += needed
    return true
  }

  func reply() {
    bytes.withUnsafeBytes { request.reply(bytes: UnsafeRawBufferPointer(rebasing: $0[..<used])) }
  }
}
