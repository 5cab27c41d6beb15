import Dispatch
import Testing

@testable import FuseMount

@Suite(.timeLimit(.minutes(20))) struct ReplyPoolTests {
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
}
