import PosixThreads

/// Threads that answer reads which had to wait, each with one buffer of the largest read.
///
/// Bytes come in on a network thread, which must go on receiving: copying a megabyte out of the cache file and
/// into the kernel is done here. Jobs are bounded by the kernel, which has a bounded number of reads under way.
final class ReplyPool: Sendable {
  typealias Job = @Sendable (UnsafeMutableRawBufferPointer) -> Void

  private let jobs = JobQueue<Job>()
  private let threads: [PosixThread]

  /// Nil when the system has no threads to give.
  init?(threadCount: Int, bufferSizeInBytes: Int) {
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
        return nil
      }
      threads.append(thread)
    }
    self.threads = threads
  }

  /// Runs the job soon, with a buffer that is its own meanwhile.
  func run(_ job: @escaping Job) { jobs.append(job) }

  /// Waits for all jobs and ends the threads. To be called once.
  func stop() {
    jobs.end()
    for thread in threads { thread.join() }
  }
}
