import Posix

/// Threads that reply to reads which had to wait, each with one buffer of the largest read.
///
/// Bytes arrive on a network thread, which must go on receiving: these threads copy megabytes out
/// of the cache file and into the kernel. The kernel bounds the jobs, because it has a bounded
/// number of reads under way.
///
/// One more thread replies to requests that failed or were interrupted. Where the cache's disk
/// hangs, so do the threads that copy from it, and these replies must not wait for them.
final class ReplyPool: Sendable {
  typealias Job = @Sendable (UnsafeMutableRawBufferPointer) -> Void

  private let jobs = JobQueue<Job>()
  private let promptJobs = JobQueue<@Sendable () -> Void>()
  private let threads: [PosixThread]
  private let promptThread: PosixThread

  /// Starts the threads; returns nil when the system has no threads left.
  init?(threadCount: Int, bufferSizeInBytes: Int) {
    guard
      let promptThread = PosixThread(
        named: "reply-prompt", { [promptJobs] in while let job = promptJobs.next() { job() } })
    else { return nil }
    self.promptThread = promptThread
    var threads: [PosixThread] = []
    for _ in 0..<threadCount {
      let thread = PosixThread(named: "reply") { [jobs] in
        let buffer = UnsafeMutableRawBufferPointer.allocate(
          byteCount: bufferSizeInBytes, alignment: 4096)
        defer { buffer.deallocate() }
        while let job = jobs.next() { job(buffer) }
      }
      guard let thread else {
        jobs.end()
        promptJobs.end()
        return nil
      }
      threads.append(thread)
    }
    self.threads = threads
  }

  /// Runs the job soon, with a buffer that no other job uses meanwhile.
  func run(_ job: @escaping Job) { jobs.append(job) }

  /// Runs the job soon, even if the other threads are blocked. The job must not access the cache's
  /// disk.
  func runPromptly(_ job: @escaping @Sendable () -> Void) { promptJobs.append(job) }

  /// Waits for all jobs and ends the threads. It must be called once.
  func stop() {
    jobs.end()
    for thread in threads { thread.join() }
    promptJobs.end()
    promptThread.join()
  }
}
