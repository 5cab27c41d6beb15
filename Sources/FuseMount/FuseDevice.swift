import CFuse3
import CLinux
import Glibc
import InventoryFileSystem
import Locks
import Logging
import Synchronization

/// The mount's connection to the kernel, opened by us and not by libfuse, as passthrough requires.
/// libfuse has an interface for passthrough only from 3.17 on (`fuse_passthrough_open`), which
/// should be used instead in builds with that version (with `FUSE_CAP_PASSTHROUGH` set in
/// `initialise`).
///
/// Only root can open it. libfuse reads and writes through two callbacks, which pass all messages
/// on unchanged, except for the reply to the first request, in which passthrough is accepted
/// (`InitExchange`).
final class FuseDevice: BackingDevice, Sendable {
  // Dependencies
  private let fileSystem: InventoryFileSystem
  private let logger: Logger
  // Constants
  /// The device's descriptor. libfuse gets a duplicate, which it closes with its session.
  private let descriptor: Int32
  /// Why the kernel would take no file of ours, if that is known; nil where it is to be tried.
  private let useless: String?
  // Mutable state
  /// The INIT request in which the kernel offers passthrough, until it is answered.
  private let offer = Lock<UInt64?>(nil)
  private let isOn = Atomic(false)
  private let isClosed = Atomic(false)

  /// Opens the device and mounts. Returns nil when this is not possible here, so that libfuse
  /// should try its own ways.
  init?(_ options: MountOptions, _ fileSystem: InventoryFileSystem, logger: Logger) {
    guard geteuid() == 0 else {
      logger.debug("passthrough: off, it needs root")
      return nil
    }
    let descriptor = Glibc.open("/dev/fuse", O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    var words = [
      "fd=\(descriptor)", "rootmode=40000", "user_id=\(getuid())", "group_id=\(getgid())",
      "default_permissions", "max_read=\(OperationContext.maxReadInBytes)",
    ]
    if options.allowOther { words.append("allow_other") }
    let code = inventoryfs_mount_read_only(
      options.source, options.mountpoint, Mountpoint.fileSystemType, words.joined(separator: ","))
    guard code == 0 else {
      close(descriptor)
      logger.debug("passthrough: off, mount(2) failed: \(String(cString: strerror(code)))")
      return nil
    }
    self.descriptor = descriptor
    self.fileSystem = fileSystem
    self.logger = logger
    if !fileSystem.hasLendableFiles {
      useless = "the files are on an overlay"
    } else if MountObstacle.isInUserNamespace {
      useless = "root of a user namespace may not lend files to the kernel"
    } else {
      useless = nil
    }
  }

  deinit { disconnect() }

  /// Closes the device; with libfuse's duplicate closed too, the kernel fails the requests that
  /// still wait. It must be called when no requests are served any more.
  func disconnect() {
    if !isClosed.exchange(true, ordering: .relaxed) { close(descriptor) }
  }

  /// Makes the session use this device. The session's user data is the `OperationContext` that owns
  /// the device.
  func attach(to session: OpaquePointer) -> Bool {
    let duplicate = inventoryfs_duplicate(descriptor)
    guard duplicate >= 0 else { return false }
    var callbacks = fuse_custom_io()
    callbacks.read = readRequest
    callbacks.writev = writeReply
    guard fuse_session_custom_io(session, &callbacks, duplicate) == 0 else {
      close(duplicate)
      return false
    }
    return true
  }

  /// Whether the kernel still has the other end open; it closes that when the mount is gone or was
  /// aborted.
  var isConnected: Bool {
    var poll = pollfd(fd: descriptor, events: 0, revents: 0)
    return !(Glibc.poll(&poll, 1, 0) == 1 && poll.revents & Int16(POLLERR) != 0)
  }

  // MARK: Backing files

  var isPassthroughOn: Bool { isOn.load(ordering: .relaxed) }

  /// Registers a file with the kernel. Returns nil where that is not possible; passthrough is
  /// turned off when it never will be.
  func openBacking(_ file: Int32) -> UInt32? {
    let id = inventoryfs_open_backing(descriptor, file)
    if id > 0 { return UInt32(id) }
    if ![EMFILE, ENFILE, ENOMEM, ENOSPC].contains(-id) {
      turnOff("the kernel refuses the cache's files (\(String(cString: strerror(-id))))")
    }
    return nil
  }

  func closeBacking(_ id: UInt32) { inventoryfs_close_backing(descriptor, id) }

  private func turnOff(_ reason: String) {
    isOn.store(false, ordering: .relaxed)
    fileSystem.offerPassthrough(false)
    logger.debug("passthrough: off, \(reason)")
  }

  // MARK: libfuse's callbacks

  fileprivate func received(_ request: UnsafeRawBufferPointer) {
    guard InitExchange.isInit(request) else { return }
    // Accepting makes this file system count as one that is stacked on another, and the kernel
    // allows one overlay fewer above it.
    if let useless {
      turnOff(useless)
    } else if let found = InitExchange.offer(in: request) {
      offer.withLock { $0 = found }
    } else {
      turnOff("the kernel does not offer it")
    }
  }

  /// Returns the reply to the kernel's offer with passthrough accepted in it; nil for other
  /// replies.
  fileprivate func accepting(_ reply: UnsafeBufferPointer<iovec>) -> [UInt8]? {
    guard let pending = offer.withLock({ $0 }) else { return nil }
    var bytes = reply.flatMap {
      Array(UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len))
    }
    guard InitExchange.accept(pending, in: &bytes) else { return nil }
    offer.withLock { $0 = nil }
    isOn.store(true, ordering: .relaxed)
    fileSystem.offerPassthrough(true)
    logger.debug("passthrough: on")
    return bytes
  }
}

// Both keep errno as the system call set it, because libfuse decides by it how to continue.

private func readRequest(
  _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ size: Int,
  _ context: UnsafeMutableRawPointer?
) -> Int {
  let count = Glibc.read(descriptor, buffer, size)
  if count > 0, let buffer, let context {
    OperationContext.from(userData: context).device?
      .received(UnsafeRawBufferPointer(start: buffer, count: count))
  }
  return count
}

private func writeReply(
  _ descriptor: Int32, _ parts: UnsafeMutablePointer<iovec>?, _ count: Int32,
  _ context: UnsafeMutableRawPointer?
) -> Int {
  if let context, let device = OperationContext.from(userData: context).device,
    let bytes = device.accepting(UnsafeBufferPointer(start: parts, count: Int(count)))
  {
    return write(descriptor, bytes, bytes.count)
  }
  return writev(descriptor, parts, count)
}
