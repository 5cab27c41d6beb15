/// The changes to the first exchange with the kernel that make it accept files for passthrough.
/// libfuse makes them itself from 3.17 on (`FUSE_CAP_PASSTHROUGH`,
/// `conn->max_backing_stack_depth`). The layouts are those of linux/fuse.h of 6.9.
///
///     fuse_in_header    0 len  4 opcode  8 unique ... 40
///       fuse_init_in    0 major  4 minor  8 max_readahead  12 flags  16 flags2 ...
///     fuse_out_header   0 len  4 error  8 unique 16
///       fuse_init_out   0 major  4 minor  8 max_readahead  12 flags ... 32 flags2
///                       36 max_stack_depth ... 64
enum InitExchange {
  private static let initOpcode: UInt32 = 26
  private static let inHeaderSize = 40
  private static let outHeaderSize = 16
  /// FUSE_INIT_EXT: there is a second word of flags.
  private static let extendedFlag: UInt32 = 1 << 30
  /// FUSE_PASSTHROUGH, in the second word.
  private static let passthroughFlag: UInt32 = 1 << 5

  /// The request's number when it is an INIT in which the kernel offers passthrough.
  static func offer(in request: UnsafeRawBufferPointer) -> UInt64? {
    guard request.count >= inHeaderSize + 20,
      request.loadUnaligned(fromByteOffset: 4, as: UInt32.self) == initOpcode
    else { return nil }
    let flags = request.loadUnaligned(fromByteOffset: inHeaderSize + 12, as: UInt32.self)
    let flags2 = request.loadUnaligned(fromByteOffset: inHeaderSize + 16, as: UInt32.self)
    guard flags & extendedFlag != 0, flags2 & passthroughFlag != 0 else { return nil }
    return request.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
  }

  static func isInit(_ request: UnsafeRawBufferPointer) -> Bool {
    request.count >= inHeaderSize
      && request.loadUnaligned(fromByteOffset: 4, as: UInt32.self) == initOpcode
  }

  /// Accepts the offer in libfuse's reply to it. Returns false when this is not that reply, or an
  /// error.
  static func accept(_ offer: UInt64, in reply: inout [UInt8]) -> Bool {
    let flags = outHeaderSize + 12
    let flags2 = outHeaderSize + 32
    let maxStackDepth = outHeaderSize + 36
    return reply.withUnsafeMutableBytes { reply in
      guard reply.count >= maxStackDepth + 4,
        reply.loadUnaligned(fromByteOffset: 4, as: Int32.self) == 0,
        reply.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == offer
      else { return false }
      func set(_ bits: UInt32, at offset: Int) {
        let old = reply.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
        reply.storeBytes(of: old | bits, toByteOffset: offset, as: UInt32.self)
      }
      set(extendedFlag, at: flags)
      set(passthroughFlag, at: flags2)
      // The backing files are on an ordinary file system, not on an overlay.
      reply.storeBytes(of: 1, toByteOffset: maxStackDepth, as: UInt32.self)
      return true
    }
  }
}

/// The reply to an OPEN whose file the kernel reads by itself: `fuse_open_out`, whose last word
/// libfuse leaves unused.
enum PassthroughOpenReply {
  /// FOPEN_NOFLUSH and FOPEN_PASSTHROUGH. FOPEN_KEEP_CACHE is not set, because passthrough has no
  /// pages of its own to keep.
  private static let flags: UInt32 = 1 << 5 | 1 << 7
  /// FOPEN_DIRECT_IO. It takes precedence over passthrough: reads come to us, and mappings still
  /// use the backing file.
  private static let directFlag: UInt32 = 1 << 0

  /// - Parameter isDirect: whether the file was opened with O_DIRECT. If the kernel read it by
  ///   itself, offsets and buffers would have to be aligned as the cache's file system requires;
  ///   our reads accept any.
  static func bytes(handle: UInt64, backing: UInt32, isDirect: Bool) -> [UInt8] {
    let flags = isDirect ? flags | directFlag : flags
    var bytes: [UInt8] = []
    withUnsafeBytes(of: handle) { bytes += $0 }
    withUnsafeBytes(of: flags) { bytes += $0 }
    withUnsafeBytes(of: backing) { bytes += $0 }
    return bytes
  }
}
