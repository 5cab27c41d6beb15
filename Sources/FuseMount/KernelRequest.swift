import CFuse3
import CLinux
import Glibc
import InventoryFileSystem
import Locks

/// A request from the kernel, which must get exactly one reply. libfuse frees it with the reply.
struct KernelRequest: @unchecked Sendable {
  // libfuse allows any thread to reply to a request; the users of this type ensure that each gets
  // one reply and is not used afterwards.
  let raw: fuse_req_t

  /// How long the kernel may remember results of `stat`: a manifest does not change.
  static let forever: Double = 365 * 86400

  func reply(_ error: FileSystemError) { reply(errno: error.errno) }

  func reply(errno: Int32) { fuse_reply_err(raw, errno) }

  func reply(bytes: UnsafeRawBufferPointer) {
    fuse_reply_buf(raw, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
  }

  func reply(bytes: [UInt8]) { bytes.withUnsafeBytes { reply(bytes: $0) } }

  /// Replies to getxattr or listxattr with the value, or with its size when `limit` is 0.
  func reply(attribute value: [UInt8], limit: Int) {
    if limit == 0 {
      fuse_reply_xattr(raw, value.count)
    } else if value.count > limit {
      reply(errno: ERANGE)
    } else {
      reply(bytes: value)
    }
  }

  func reply(attributes: NodeAttributes) {
    var status = attributes.status
    fuse_reply_attr(raw, &status, Self.forever)
  }

  func reply(entry attributes: NodeAttributes) {
    var entry = attributes.entry
    fuse_reply_entry(raw, &entry)
  }

  /// Replies that a name does not exist, and never will.
  func replyNoEntry() {
    var entry = fuse_entry_param()
    entry.entry_timeout = Self.forever
    fuse_reply_entry(raw, &entry)
  }

  /// Hands the open file to the kernel, which passes it back with each read and with the release.
  ///
  /// - Parameter backing: the backing id of the file that the kernel reads by itself; nil for none.
  /// - Returns: false when the opener is gone already and no release will come.
  func reply(opened file: OpenFile, _ info: fuse_file_info, backing: UInt32?) -> Bool {
    var info = info
    info.fh = UInt64(UInt(bitPattern: Unmanaged.passRetained(file).toOpaque()))
    info.keep_cache = file.mayKeepPages ? 1 : 0
    info.noflush = 1
    willHandToKernel()
    let code =
      if let backing {
        // fuse_reply_open has no place for the id before 3.17. A reply is a reply to libfuse.
        PassthroughOpenReply.bytes(
          handle: info.fh, backing: backing, isDirect: info.flags & inventoryfs_o_direct != 0
        ).withUnsafeBytes {
          fuse_reply_buf(raw, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count)
        }
      } else {
        fuse_reply_open(raw, &info)
      }
    guard code != -ENOENT else {
      Unmanaged.passUnretained(file).release()
      return false
    }
    return true
  }
}

extension OpenFile {
  /// The file that `reply(opened:)` gave to the kernel, which holds it until the release.
  static func from(_ info: UnsafeMutablePointer<fuse_file_info>?) -> OpenFile? {
    guard let info, let pointer = UnsafeRawPointer(bitPattern: UInt(info.pointee.fh)) else {
      return nil
    }
    didGetFromKernel()
    return Unmanaged<OpenFile>.fromOpaque(pointer).takeUnretainedValue()
  }
}

extension NodeAttributes {
  var status: stat {
    var status = stat()
    status.st_ino = UInt(node.inode)
    status.st_mode = mode | (kind == .directory ? S_IFDIR : S_IFREG)
    status.st_nlink = numericCast(linkCount)
    status.st_uid = userID
    status.st_gid = groupID
    status.st_size = sizeInBytes
    status.st_blocks = blockCount
    status.st_blksize = numericCast(preferredReadSizeInBytes)
    let seconds = Int(modificationTimeInMilliseconds / 1000)
    let nanoseconds = Int(modificationTimeInMilliseconds % 1000) * 1_000_000
    let time = timespec(tv_sec: seconds, tv_nsec: max(0, nanoseconds))
    status.st_mtim = time
    status.st_ctim = time
    status.st_atim = time
    return status
  }

  var entry: fuse_entry_param {
    var entry = fuse_entry_param()
    entry.ino = node.inode
    entry.attr = status
    entry.attr_timeout = KernelRequest.forever
    entry.entry_timeout = KernelRequest.forever
    return entry
  }

  /// The block size that `stat` shows, which `cp` and `cat` use as their buffer size.
  private var preferredReadSizeInBytes: Int { 1 << 20 }
}
