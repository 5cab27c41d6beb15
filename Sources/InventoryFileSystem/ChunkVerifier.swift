import Glibc
import Locks
import Posix

/// The thread that hashes chunks, one at a time, started with the first of them. It has one buffer.
///
/// A thread of its own, because it is to be nice: libdispatch's threads have no priority on Linux,
/// and one that was made nice would stay so for whatever it does next.
final class ChunkVerifier: Sendable {
  typealias Job = @Sendable (UnsafeMutableRawBufferPointer) -> Void

  /// Small enough to stay in the processor's second-level cache between reading and hashing.
  private static let bufferSizeInBytes = 256 << 10
  /// Any reader goes first: against one the thread gets a seventieth of a processor
  /// (setpriority(2), sched(7)).
  private static let lowestPriority: Int32 = 19

  private struct State {
    var thread: PosixThread?
    var isStopped = false
  }

  private let isPatient: Bool
  private let jobs = JobQueue<Job>()
  private let state = Lock(State())

  /// - Parameter isPatient: whether nobody waits for it.
  init(isPatient: Bool) { self.isPatient = isPatient }

  /// False when the system has no thread to give, or after `stop`.
  func start(_ job: @escaping Job) -> Bool {
    let isReady = state.withLock { state in
      guard !state.isStopped else { return false }
      if state.thread == nil {
        state.thread = PosixThread(named: "verify") { [jobs, isPatient] in
          // On Linux this is the thread's own.
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

  /// Waits for the job under way. Not to be called by a job.
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
