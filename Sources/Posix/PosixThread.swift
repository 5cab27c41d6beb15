import CLinux
import Glibc

/// A thread of our own, for the few places that need one: the kernel's requests, the network, the
/// replies.
///
/// Signals are blocked in it, so that they reach the one thread that waits for them.
public final class PosixThread: Sendable {
  private let thread: pthread_t

  /// Starts `body` on a new thread.
  ///
  /// - Parameter name: shown by `ps -L` and debuggers; Linux keeps its first 15 bytes.
  /// - Returns: nil when the system has no more threads to give.
  public init?(named name: String, _ body: @escaping @Sendable () -> Void) {
    let start = Unmanaged.passRetained(Start(name: name, body: body))
    var thread = pthread_t()
    // Threads inherit the mask of the one that creates them.
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, &before)
    let code = pthread_create(
      &thread, nil,
      { context in
        guard let context else { return nil }
        // Retained by `init` for this thread alone.
        let start = Unmanaged<Start>.fromOpaque(context).takeRetainedValue()
        inventoryfs_name_this_thread(start.name)
        start.body()
        return nil
      }, start.toOpaque())
    pthread_sigmask(SIG_SETMASK, &before, nil)
    guard code == 0 else {
      start.release()
      return nil
    }
    self.thread = thread
  }

  /// Lets the thread end by itself; it must not be joined then.
  public func detach() { pthread_detach(thread) }

  /// Waits for the thread to end. It must be called once at most.
  public func join() { pthread_join(thread, nil) }

  /// Sends the thread a signal, which ends a system call it is blocked in.
  public func signal(_ number: Int32) { pthread_kill(thread, number) }

  private final class Start: Sendable {
    /// The thread's name, ended by a zero. It is cut as bytes, because the cut may split a
    /// character.
    let name: [CChar]
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name.utf8.prefix(15).map { CChar(bitPattern: $0) } + [0]
      self.body = body
    }
  }
}
