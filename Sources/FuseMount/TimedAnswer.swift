import Dispatch
import Locks
import PosixThreads

/// Asks a file system something that may never be answered, and goes on after a while without the
/// answer.
///
/// The thread that asks is left behind then. It ends with the answer or with the process.
///
/// - Returns: nil if there was no answer in time, or no thread to ask with.
func answer<Value: Sendable>(
  withinMilliseconds limit: Int, _ ask: @escaping @Sendable () -> Value
) -> Value? {
  let result = Lock<Value?>(nil)
  let isAnswered = DispatchSemaphore(value: 0)
  let thread = PosixThread(named: "ask") {
    let value = ask()
    result.withLock { $0 = value }
    isAnswered.signal()
  }
  guard thread != nil, isAnswered.wait(timeout: .now() + .milliseconds(limit)) == .success else {
    return nil
  }
  return result.withLock { $0 }
}
