import Dispatch
import Locks

/// Calls a function that may block forever, in a file system or a log, and gives up after a
/// timeout.
///
/// The thread that runs the function is then left behind. It ends with the function or with the
/// process.
///
/// - Returns: the function's result; nil if it took longer than the timeout, or no thread was left
///   to run it.
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
  thread?.detach()
  guard thread != nil, isAnswered.wait(timeout: .now() + .milliseconds(limit)) == .success else {
    return nil
  }
  return result.withLock { $0 }
}
