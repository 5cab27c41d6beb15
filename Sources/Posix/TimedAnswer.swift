import Dispatch
import Glibc
import Locks
import SystemPackage

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

/// Whether the file system that a path leads to responds, or that of the nearest folder above it
/// that exists.
///
/// A path that a user names may lead into a mount whose process is stopped or whose server is gone,
/// where each access would wait for ever.
///
/// - Returns: false if nothing responded within the timeout.
public func pathResponds(_ path: String, withinMilliseconds limit: Int = 5000) -> Bool {
  answer(withinMilliseconds: limit) {
    // What is known of files may be in the kernel's cache: only statvfs always asks.
    var statistics = statvfs()
    var place = FilePath(path)
    while statvfs(place.isEmpty ? "." : place.string, &statistics) != 0,
      errno == ENOENT || errno == ENOTDIR, place.removeLastComponent()
    {}
    return true
  } ?? false
}
