import CFuse3
import InventoryFileSystem
import Locks

/// A request whose reply has to wait. Its reader may be interrupted meanwhile: libfuse then calls
/// back, under a lock that its reply functions take too, so the callback only queues a job for the
/// pool.
///
/// The object keeps itself alive until it has replied, because libfuse holds a plain pointer to it
/// until then.
class ParkedReply: @unchecked Sendable {
  // Constants, but for the mutex: safe to share. Subclasses add constants only.
  let request: KernelRequest
  let pool: ReplyPool
  private let state = Lock<(interruption: Interruption?, isInterrupted: Bool)>((nil, false))

  init(_ request: KernelRequest, _ pool: ReplyPool) {
    self.request = request
    self.pool = pool
    let pointer = Unmanaged.passRetained(self).toOpaque()
    fuse_req_interrupt_func(request.raw, requestWasInterrupted, pointer)
  }

  /// Notes how to cancel the wait, once it is under way; nil if the request does not wait.
  func waits(_ interruption: Interruption?) {
    guard let interruption else { return }
    let isInterrupted = state.withLock { state in
      state.interruption = interruption
      return state.isInterrupted
    }
    if isInterrupted { interruption.interrupt() }
  }

  fileprivate func wasInterrupted() {
    pool.runPromptly { [self] in
      let interruption = state.withLock { state in
        state.isInterrupted = true
        return state.interruption
      }
      interruption?.interrupt()
    }
  }

  /// Replies with an error, from the pool: the caller may be libfuse's callback or a network
  /// thread.
  func fail(_ error: FileSystemError) {
    pool.runPromptly { [self] in answer { request.reply(error) } }
  }

  /// Replies to the request by `reply`, once, and releases the reference that `init` retained.
  final func answer(_ reply: () -> Void) {
    // The reply frees the request without waiting for a callback that is running. This call does
    // wait for it, and afterwards libfuse has no pointer to this object any more.
    fuse_req_interrupt_func(request.raw, nil, nil)
    reply()
    Unmanaged.passUnretained(self).release()
  }
}

/// libfuse calls this for an interrupted request without a reply, with its pointer from
/// `ParkedReply.init`, which is valid until the reply.
private func requestWasInterrupted(_ request: fuse_req_t?, _ context: UnsafeMutableRawPointer?) {
  guard let context else { return }
  Unmanaged<ParkedReply>.fromOpaque(context).takeUnretainedValue().wasInterrupted()
}

final class ParkedReadReply: ParkedReply, ParkedRead, @unchecked Sendable {
  private let fileSystem: InventoryFileSystem
  private let file: OpenFile
  private let byteOffset: Int
  private let count: Int

  init(
    _ request: KernelRequest, _ pool: ReplyPool, _ fileSystem: InventoryFileSystem,
    _ file: OpenFile, byteOffset: Int, count: Int
  ) {
    self.fileSystem = fileSystem
    self.file = file
    self.byteOffset = byteOffset
    self.count = count
    super.init(request, pool)
  }

  func ready() {
    pool.run { [self] buffer in
      let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(count, buffer.count)])
      do throws(FileSystemError) {
        switch try fileSystem.finish(file, byteOffset: byteOffset, into: target, parked: { self }) {
        case .copied(let count):
          answer { request.reply(bytes: UnsafeRawBufferPointer(rebasing: target[..<count])) }
        case .parked(let interruption):
          waits(interruption)
        }
      } catch {
        answer { request.reply(error) }
      }
    }
  }
}

final class ParkedOpenReply: ParkedReply, ParkedOpen, @unchecked Sendable {
  private let context: OperationContext
  private let info: fuse_file_info

  init(_ request: KernelRequest, _ context: OperationContext, _ info: fuse_file_info) {
    self.context = context
    self.info = info
    super.init(request, context.pool)
  }

  func opened(_ file: OpenFile) {
    pool.run { [self] _ in answer { context.reply(to: request, opened: file, info) } }
  }
}

final class ParkedAttributeReply: ParkedReply, ParkedAttribute, @unchecked Sendable {
  private let limit: Int

  /// - Parameter limit: the size of the caller's buffer; 0 when the caller asks for the value's
  ///   size.
  init(_ request: KernelRequest, _ pool: ReplyPool, limit: Int) {
    self.limit = limit
    super.init(request, pool)
  }

  func found(_ value: [UInt8]) {
    pool.run { [self] _ in answer { request.reply(attribute: value, limit: limit) } }
  }
}
