import Glibc
import Locks
import Posix

/// The thread that hashes chunks, one at a time. It starts with the first chunk and has one buffer.
///
/// The thread is its own because it has a low priority: libdispatch's threads have no priority on
/// Linux, and a thread whose niceness was raised would keep it for its next job.
final class ChunkVerifier: Sendable {
  typealias Job = @Sendable (UnsafeMutableRawBufferPointer) -> Void

  /// The buffer's size, small enough to stay in the processor's second-level cache between reading
  /// and hashing.
  private static let bufferSizeInBytes = 256 << 10
  /// The thread's niceness, which lets any reader go first: against one reader the thread gets a
  /// seventieth of a processor (setpriority(2), sched(7)).
  private static let lowestPriority: Int32 = 19

  private struct State {
    var thread: PosixThread?
    var isStopped = false
  }

  private let isPatient: Bool
  private let jobs = JobQueue<Job>()
  private let state = Lock(State())

  /// - Parameter isPatient: whether no reader waits for the hashes.
  init(isPatient: Bool) { self.isPatient = isPatient }

  /// Runs a job on the thread; returns false when the system has no threads left, or after `stop`.
  func start(_ job: @escaping Job) -> Bool {
    let isReady = state.withLock { state in
      guard !state.isStopped else { return false }
      if state.thread == nil {
        state.thread = PosixThread(named: "verify") { [jobs, isPatient] in
          // On Linux this sets the niceness of this thread only.
          if isPatient {
            setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.lowestPriority)
          }
          let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.bufferSizeInBytes, alignment: 4096)
          defer { buffer.deallocate() }
          while let job = jobs.next() { job(buffer) }
        }
      }
      return state.thread != nil
    }
    if isReady { jobs.append(job) }
    return isReady
  }

  /// Ends the thread, and waits for the job under way. A job must not call it.
  func stop() {
    let thread = state.withLock { state in
      state.isStopped = true
      return exchange(&state.thread, with: nil)
    }
    jobs.removeAll()
    jobs.end()
    thread?.join()
  }
}
