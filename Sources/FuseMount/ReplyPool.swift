import Glibc
import Locks
import PosixThreads

/// Threads that answer reads which had to wait, each with one buffer of the largest read.
///
/// Bytes come in on a network thread, which must go on receiving: copying a megabyte out of the cache file and
/// into the kernel is done here. Jobs are bounded by the kernel, which has a bounded number of reads under way.
final class ReplyPool: Sendable {
  typealias Job = @Sendable (UnsafeMutableRawBufferPointer) -> Void

  private final class Queue: Sendable {
    private struct State {
      var jobs: [Job] = []
      var isClosed = false
    }

    private let state = Lock(State())
    // A semaphore is used from any thread; this one lives at a fixed address until the queue does not.
    private nonisolated(unsafe) let semaphore: UnsafeMutablePointer<sem_t>

    init() {
      semaphore = .allocate(capacity: 1)
      sem_init(semaphore, 0, 0)
    }

    deinit {
      sem_destroy(semaphore)
      semaphore.deallocate()
    }

    func append(_ job: @escaping Job) {
      state.withLock { $0.jobs.append(job) }
      sem_post(semaphore)
    }

    /// Lets the threads end once there are no more jobs.
    func close(threadCount: Int) {
      state.withLock { $0.isClosed = true }
      for _ in 0..<threadCount { sem_post(semaphore) }
    }

    /// The next job, or nil when the queue is closed and empty.
    func next() -> Job? {
      while true {
        while sem_wait(semaphore) != 0 {}
        let (job, isClosed) = state.withLock { state in
          (state.jobs.isEmpty ? nil : state.jobs.removeFirst(), state.isClosed)
        }
        if job != nil || isClosed { return job }
      }
    }
  }

  private let queue = Queue()
  private let threads: [PosixThread]

  /// Nil when the system has no threads to give.
  init?(threadCount: Int, bufferSizeInBytes: Int) {
    var threads: [PosixThread] = []
    for _ in 0..<threadCount {
      let thread = PosixThread(named: "reply") { [queue] in
        let buffer = UnsafeMutableRawBufferPointer.allocate(
          byteCount: bufferSizeInBytes, alignment: 4096)
        defer { buffer.deallocate() }
        while let job = queue.next() { job(buffer) }
      }
      guard let thread else {
        queue.close(threadCount: threads.count)
        return nil
      }
      threads.append(thread)
    }
    self.threads = threads
  }

  /// Runs the job soon, with a buffer that is its own meanwhile.
  func run(_ job: @escaping Job) { queue.append(job) }

  /// Waits for all jobs and ends the threads. To be called once.
  func stop() {
    queue.close(threadCount: threads.count)
    for thread in threads { thread.join() }
  }
}
