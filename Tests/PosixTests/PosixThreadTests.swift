import Glibc
import Locks
import Posix
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2))) struct PosixThreadTests {
  private func onThread<T: Sendable>(named name: String, _ body: @escaping @Sendable () -> T) throws
    -> T
  {
    let result = Lock<T?>(nil)
    let thread = PosixThread(named: name) {
      let value = body()
      result.withLock { $0 = value }
    }
    try #require(thread).join()
    return try #require(result.withLock { $0 })
  }

  @Test(
    "A thread has its name, of which Linux keeps 15 bytes",
    arguments: [
      ("", ""), ("fuse", "fuse"), ("fifteen-letters", "fifteen-letters"),
      ("sixteen-letters-", "sixteen-letters"), ("thirteen-ltrs-é", "thirteen-ltrs-\u{fffd}"),
      ("12345678901éé", "12345678901éé"),
    ])
  func name(given: String, kept: String) throws {
    let name = try onThread(named: given) {
      var bytes = [UInt8](repeating: 0, count: 32)
      let file = open("/proc/thread-self/comm", O_RDONLY)
      defer { close(file) }
      let count = read(file, &bytes, bytes.count)
      return String(decoding: bytes.prefix(max(0, count - 1)), as: UTF8.self)
    }
    #expect(name == kept)
  }

  private static func blockedSignals() -> [Int32] {
    var mask = sigset_t()
    pthread_sigmask(SIG_BLOCK, nil, &mask)
    return (1..<Int32(65)).filter { sigismember(&mask, $0) == 1 }
  }

  @Test("Every signal that can be is blocked in the thread, and the starting thread's mask stays")
  func mask() throws {
    // A thread of libdispatch's, on which a test may run, has all signals blocked already.
    let (before, blocked, after) = try onThread(named: "starter") {
      var none = sigset_t()
      sigemptyset(&none)
      pthread_sigmask(SIG_SETMASK, &none, nil)
      let before = Self.blockedSignals()
      let blocked = try? onThread(named: "masked") { Self.blockedSignals() }
      return (before, blocked, Self.blockedSignals())
    }
    #expect(before == [])
    #expect(after == before)
    // The C library keeps 32 and 33 for itself; SIGKILL and SIGSTOP cannot be blocked.
    #expect(blocked == (1..<Int32(65)).filter { ![32, 33, SIGKILL, SIGSTOP].contains($0) })
  }

  @Test("A signal ends the system call that the thread is blocked in")
  func signal() throws {
    let hasEnded = Atomic(false)
    let thread = PosixThread(named: "sleeper") {
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { _ in }
      sigaction(SIGUSR2, &action, nil)
      var wakeUp = sigset_t()
      sigemptyset(&wakeUp)
      sigaddset(&wakeUp, SIGUSR2)
      pthread_sigmask(SIG_UNBLOCK, &wakeUp, nil)
      #expect(poll(nil, 0, -1) == -1 && errno == EINTR)
      hasEnded.store(true, ordering: .releasing)
    }
    let started = try #require(thread)
    // One that comes before the call is not for it.
    while !hasEnded.load(ordering: .acquiring) {
      started.signal(SIGUSR2)
      usleep(1000)
    }
    started.join()
  }

  @Test("A thread's work is done when it has been joined, and what it held is let go")
  func join() throws {
    final class Held: Sendable {}
    weak var held: Held?
    let isDone = Lock(false)
    do {
      let object = Held()
      held = object
      let thread = PosixThread(named: "holder") {
        usleep(1000)
        withExtendedLifetime(object) { isDone.withLock { $0 = true } }
      }
      try #require(thread).join()
    }
    #expect(isDone.withLock { $0 })
    #expect(held == nil)
  }
}
