import Dispatch
import Locks

/// Jobs for one or more threads, which take them in the order in which they came.
public final class JobQueue<Job: Sendable>: Sendable {
  private let jobs = Lock<[Job]>([])
  /// Counts one for each job, and one more for the end.
  private let count = DispatchSemaphore(value: 0)

  public init() {}

  public func append(_ job: Job) {
    jobs.withLock { $0.append(job) }
    count.signal()
  }

  /// Waits for a job. Nil at the end.
  public func next() -> Job? {
    count.wait()
    let job = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    // The end is for all threads.
    if job == nil { count.signal() }
    return job
  }

  /// Lets the threads end, once the jobs that are here have been taken.
  public func end() { count.signal() }

  /// Forgets the jobs that no thread has taken. The caller must call `end()` next, because the
  /// threads take an empty queue for the end.
  public func removeAll() { jobs.withLock { $0 = [] } }
}
