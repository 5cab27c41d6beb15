import Dispatch
import Locks

/// Does something that may never end, such as asking a file system or writing to a log, and goes on
/// after a while without it.
///
/// The thread that does it is left behind then. It ends with what it does or with the process.
///
/// - Returns: nil if there was no answer in time, or no thread to ask with.
public func answer<Value: Sendable>(
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
