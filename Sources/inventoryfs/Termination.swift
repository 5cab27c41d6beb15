import FuseMount
import Glibc
import Locks
import Posix

/// Turns SIGINT, SIGTERM, SIGHUP and SIGQUIT into a clean end.
///
/// The signals are blocked in all threads, and one thread waits for them, so that they are handled
/// by ordinary code. Before the mount they end the process; afterwards they unmount.
final class Termination: Sendable {
  private enum Phase {
    case loading
    case mounting(isRequested: Bool)
    case mounted(MountSession)
  }

  private let phase = Lock(Phase.loading)

  /// Blocks the signals for this thread and those it starts from now on. It must be called before
  /// other threads exist.
  func watch() {
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    let waited = signals
    _ = PosixThread(named: "signals") { [self] in
      while true {
        var set = waited
        var number: Int32 = 0
        guard sigwait(&set, &number) == 0 else { continue }
        handle(number)
      }
    }
  }

  /// Makes signals from here on wait until the mount is complete.
  func startMounting() {
    phase.withLock { $0 = .mounting(isRequested: false) }
  }

  func mounted(_ session: MountSession) {
    let isRequested = phase.withLock { phase in
      defer { phase = .mounted(session) }
      if case .mounting(let isRequested) = phase { return isRequested }
      return false
    }
    if isRequested { session.unmount() }
  }

  private func handle(_ number: Int32) {
    let session: MountSession? = phase.withLock { phase in
      switch phase {
      case .loading: _exit(128 + number)
      case .mounting:
        phase = .mounting(isRequested: true)
        return nil
      case .mounted(let session): return session
      }
    }
    session?.unmount()
  }
}
