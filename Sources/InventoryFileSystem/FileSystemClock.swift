public import Dispatch

/// The clock of timeouts, retries and pauses: the machine's for mounts, and one that is advanced by
/// hand for tests.
///
/// Planned calls are not cancelled: a timer that is no longer needed finds that out when it fires.
public protocol FileSystemClock: Sendable {
  /// The time since a moment that stays the same as long as the clock exists.
  var now: Duration { get }

  /// Runs `body` on `queue` once `delay` is over, and no sooner.
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
