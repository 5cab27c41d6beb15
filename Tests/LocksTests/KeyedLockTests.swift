import Dispatch
import Glibc
import Locks
import Testing

@Suite(.timeLimit(.minutes(2))) struct KeyedLockTests {
  private final class Numbers: Sendable {
    let keys = KeyedLock<Int>()
    let count = Lock(0)
  }

  @Test("Who has the lock of one key keeps nobody from those of others")
  func others() {
    let keys = KeyedLock<Int>()
    keys.withLock(of: -1) {
      DispatchQueue.concurrentPerform(iterations: 1000) { key in
        keys.withLock(of: key) {}
      }
      #expect(keys.count == 1)
    }
    #expect(keys.count == 0)
  }

  @Test("One thread at a time has the lock of a key, and nothing is left of it")
  func one() {
    let numbers = Numbers()
    DispatchQueue.concurrentPerform(iterations: 8) { _ in
      for _ in 0..<100 {
        numbers.keys.withLock(of: 1) {
          let seen = numbers.count.withLock { $0 }
          // Another thread, were there one, would add to the same number.
          usleep(1)
          numbers.count.withLock { $0 = seen + 1 }
        }
      }
    }
    #expect(numbers.count.withLock { $0 } == 800)
    #expect(numbers.keys.count == 0)
  }

  @Test("An error passes through, and lets go of the lock")
  func error() {
    struct Thrown: Error {}
    let keys = KeyedLock<String>()
    #expect(throws: Thrown.self) {
      try keys.withLock(of: "a") { () throws(Thrown) in throw Thrown() }
    }
    keys.withLock(of: "a") {}
    #expect(keys.count == 0)
  }
}
