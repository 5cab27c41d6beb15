public import Dispatch

/// The time by which waits end, failed requests are made again and pauses are over: that of the
/// machine for mounts, one that is moved by hand for tests.
///
/// What is planned is not taken back: a timer that is not wanted any more finds that out when it
/// comes due.
public protocol FileSystemClock: Sendable {
  /// The time since some moment, which is the same one as long as the clock exists.
  var now: Duration { get }

  /// Has `body` run on `queue` once `delay` is over, and no sooner.
  func schedule(
    after delay: Duration, on queue: DispatchQueue, _ body: @escaping @Sendable () -> Void)
}

/// The machine's own time, which stands still while the machine sleeps.
public struct SystemClock: FileSystemClock {
  private let start = SuspendingClock.now

  public init() {}

  public var now: Duration { SuspendingClock.now - start }

  public func schedule(
    after delay: Duration, on queue: DispatchQueue, _ body: @escaping @Sendable () -> Void
  ) {
    // On Linux libdispatch counts this on CLOCK_MONOTONIC, which stands still then too.
    let milliseconds = Int((delay / .milliseconds(1)).rounded(.up))
    queue.asyncAfter(deadline: .now() + .milliseconds(milliseconds), execute: body)
  }
}
