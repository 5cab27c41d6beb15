import Dispatch
import Locks
import Testing

@testable import FuseMount

@Suite(.timeLimit(.minutes(2))) struct ReplyPoolTests {
  @Test("Who waited in vain is told although every thread that copies is kept by a disk")
  func hungDisk() throws {
    let pool = try #require(ReplyPool(threadCount: 2, bufferSizeInBytes: 4096))
    let (mended, told, copied) = (
      DispatchSemaphore(value: 0), DispatchSemaphore(value: 0), DispatchSemaphore(value: 0)
    )
    for _ in 0..<4 {
      pool.run { _ in
        mended.wait()
        copied.signal()
      }
    }
    pool.runPromptly { told.signal() }
    #expect(told.wait(timeout: .now() + 60) == .success)
    for _ in 0..<4 { mended.signal() }
    pool.stop()
    for _ in 0..<4 {
      #expect(copied.wait(timeout: .now()) == .success, "stopped with its jobs done")
    }
  }

  @Test("What the last replies still lead to is told before the pool has stopped")
  func stop() throws {
    let pool = try #require(ReplyPool(threadCount: 2, bufferSizeInBytes: 4096))
    let told = DispatchSemaphore(value: 0)
    for _ in 0..<100 { pool.run { _ in pool.runPromptly { told.signal() } } }
    pool.stop()
    for _ in 0..<100 { #expect(told.wait(timeout: .now()) == .success) }
  }

  @Test("Each job has a buffer of the whole size, which is its own while it runs")
  func buffers() throws {
    let (threadCount, size) = (3, 8192)
    let pool = try #require(ReplyPool(threadCount: threadCount, bufferSizeInBytes: size))
    let seen = Lock<Set<UInt>>([])
    let (arrived, all) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    for job in 0..<threadCount {
      pool.run { buffer in
        #expect(buffer.count == size)
        seen.withLock { _ = $0.insert(UInt(bitPattern: buffer.baseAddress)) }
        buffer.initializeMemory(as: UInt8.self, repeating: UInt8(job))
        arrived.signal()
        all.wait()
        #expect(buffer.allSatisfy { $0 == UInt8(job) })
      }
    }
    for _ in 0..<threadCount { arrived.wait() }
    #expect(seen.withLock { $0.count } == threadCount)
    for _ in 0..<threadCount { all.signal() }
    pool.stop()
  }

  @Test("Jobs are begun in the order in which they came, and none is lost to the end")
  func order() throws {
    let pool = try #require(ReplyPool(threadCount: 1, bufferSizeInBytes: 1))
    let done = Lock<[Int]>([])
    let promptlyDone = Lock<[Int]>([])
    for job in 0..<1000 {
      pool.run { _ in done.withLock { $0.append(job) } }
      pool.runPromptly { promptlyDone.withLock { $0.append(job) } }
    }
    pool.stop()
    #expect(done.withLock { $0 } == Array(0..<1000))
    #expect(promptlyDone.withLock { $0 } == Array(0..<1000))
  }
}
