import CFuse3
import Glibc
import InventoryFileSystem

/// The objects that the operations need; it lives as long as the session.
final class OperationContext: Sendable {
  let fileSystem: InventoryFileSystem
  let pool: ReplyPool
  let maxBackground: UInt32
  /// The buffer of the calling thread, set by the session's loop.
  let bufferKey: pthread_key_t
  /// The device; nil where libfuse has opened it.
  let device: FuseDevice?
  private let backingFiles: BackingFiles?

  init(
    _ fileSystem: InventoryFileSystem, _ pool: ReplyPool, device: FuseDevice?,
    backingFiles: BackingFiles?, maxBackground: UInt32, bufferKey: pthread_key_t
  ) {
    self.device = device
    self.backingFiles = backingFiles
    self.fileSystem = fileSystem
    self.pool = pool
    self.maxBackground = maxBackground
    self.bufferKey = bufferKey
  }

  /// The largest read that the kernel sends.
  static let maxReadInBytes = 1 << 20

  /// The context of a request. The session's user data is always an `OperationContext`, which
  /// outlives the session's requests.
  static func from(_ request: fuse_req_t?) -> OperationContext? {
    fuse_req_userdata(request).map { from(userData: $0) }
  }

  static func from(userData: UnsafeMutableRawPointer) -> OperationContext {
    Unmanaged<OperationContext>.fromOpaque(userData).takeUnretainedValue()
  }

  /// Replies to an open, in passthrough if the file allows it.
  func reply(to request: KernelRequest, opened file: OpenFile, _ info: fuse_file_info) {
    let backing = backingFiles?.opened(file)
    if !request.reply(opened: file, info, backing: backing) { close(file) }
  }

  /// The kernel has let go of the file.
  func close(_ file: OpenFile) {
    backingFiles?.closed(file)
    fileSystem.close(file)
  }
}
