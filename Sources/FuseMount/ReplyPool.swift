import Posix

/// Threads that answer reads which had to wait, each with one buffer of the largest read.
///
/// Bytes come in on a network thread, which must go on receiving: copying a megabyte out of the
/// cache file and into the kernel is done here. Jobs are bounded by the kernel, which has a bounded
/// number of reads under way.
///
/// One more thread tells those who waited in vain or were interrupted. Where the cache's disk
/// hangs, so do the threads that copy from it, and nobody else is to wait for them.
final class ReplyPool: Sendable {
  typealias Job = @Sendable (UnsafeMutableRawBufferPointer) -> Void

  private let jobs = JobQueue<Job>()
  private let promptJobs = JobQueue<@Sendable () -> Void>()
  private let threads: [PosixThread]
  private let promptThread: PosixThread

  /// Nil when the system has no threads to give.
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

  /// Runs the job soon, with a buffer that is its own meanwhile.
  func run(_ job: @escaping Job) { jobs.append(job) }

  /// Runs the job soon, whatever keeps the threads of the others. It must not touch the cache's
  /// disk.
  func runPromptly(_ job: @escaping @Sendable () -> Void) { promptJobs.append(job) }

  /// Waits for all jobs and ends the threads. To be called once.
  func stop() {
    jobs.end()
    for thread in threads { thread.join() }
    promptJobs.end()
    promptThread.join()
  }
}
