import Dispatch
import Locks
import Posix
import Testing

@Suite(.timeLimit(.minutes(2))) struct JobQueueTests {
  /// Threads that take numbers until the end, and what each has taken.
  private final class Takers: Sendable {
    private let taken = Lock<[[Int]]>([])
    private let threads = Lock<[PosixThread]>([])

    /// - Parameter took: called with each number by the thread that has taken it.
    init(
      _ count: Int, of queue: JobQueue<Int>, _ took: @escaping @Sendable (Int) -> Void = { _ in }
    ) throws {
      for _ in 0..<count {
        let thread = PosixThread(named: "taker") { [self] in
          var mine: [Int] = []
          while let job = queue.next() {
            took(job)
            mine.append(job)
          }
          taken.withLock { $0.append(mine) }
        }
        let started = try #require(thread)
        threads.withLock { $0.append(started) }
      }
    }

    /// Waits for the end.
    func result() -> [[Int]] {
      for thread in threads.withLock({ $0 }) { thread.join() }
      return taken.withLock { $0 }
    }
  }

  @Test("One thread takes the jobs in the order in which they came")
  func order() throws {
    let queue = JobQueue<Int>()
    let takers = try Takers(1, of: queue)
    for job in 0..<1000 { queue.append(job) }
    queue.end()
    #expect(takers.result() == [Array(0..<1000)])
  }

  @Test("Several threads take each job once, and each of them in order")
  func threads() throws {
    let queue = JobQueue<Int>()
    let takers = try Takers(4, of: queue)
    let adders = (0..<3).compactMap { adder in
      PosixThread(named: "adder") {
        for job in 0..<1000 { queue.append(adder * 1000 + job) }
      }
    }
    for adder in adders { adder.join() }
    queue.end()
    let taken = takers.result()
    #expect(taken.count == 4)
    #expect(taken.flatMap { $0 }.sorted() == Array(0..<3000))
    for mine in taken {
      for adder in 0..<3 {
        let ofOne = mine.filter { $0 / 1000 == adder }
        #expect(ofOne == ofOne.sorted())
      }
    }
  }

  @Test("Jobs that are there at the end are taken before it is told, to every thread")
  func endWithJobs() throws {
    let queue = JobQueue<Int>()
    for job in 0..<100 { queue.append(job) }
    queue.end()
    let taken = try Takers(4, of: queue).result()
    #expect(taken.count == 4)
    #expect(taken.flatMap { $0 }.sorted() == Array(0..<100))
    #expect(queue.next() == nil && queue.next() == nil, "the end stays")
  }

  @Test("The end may be told twice")
  func endTwice() throws {
    let queue = JobQueue<Int>()
    let takers = try Takers(2, of: queue)
    queue.end()
    queue.end()
    queue.append(1)
    let taken = takers.result().flatMap { $0 }
    // It came after the end: taken by one that had not heard of it, or by whoever asks next.
    #expect(taken + (taken.isEmpty ? [queue.next()].compactMap { $0 } : []) == [1])
    #expect(queue.next() == nil)
  }

  @Test("Jobs that a job adds are taken too, also after the end was told")
  func jobsOfJobs() throws {
    let queue = JobQueue<Int>()
    queue.append(10)
    queue.end()
    let taken = try Takers(1, of: queue) { job in
      for _ in 0..<min(job, 2) { queue.append(job - 1) }
    }.result()
    // 1 of 10, 2 of 9, … 512 of 1, and as many of 0 as each 1 adds.
    #expect(taken.first?.count == 2 * 1024 - 1 - 512)
  }

  @Test("Jobs that are forgotten are not taken, and those that wait for one hear of the end")
  func removal() throws {
    let queue = JobQueue<Int>()
    for job in 0..<100 { queue.append(job) }
    queue.removeAll()
    queue.end()
    #expect(try Takers(3, of: queue).result() == [[], [], []])
  }

  @Test("A thread that waits is given the next job")
  func waiting() throws {
    let queue = JobQueue<Int>()
    let isTaken = DispatchSemaphore(value: 0)
    let takers = try Takers(1, of: queue) { _ in isTaken.signal() }
    for job in 0..<100 {
      queue.append(job)
      isTaken.wait()
    }
    queue.end()
    #expect(takers.result() == [Array(0..<100)])
  }
}
