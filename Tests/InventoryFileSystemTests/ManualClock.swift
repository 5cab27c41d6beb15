import Dispatch
import InventoryFileSystem
import Locks

/// A clock that stands still until a test moves it on. A timer runs, on its own queue, when the
/// clock is moved past its time, and never before.
final class ManualClock: FileSystemClock {
  /// What becomes of a failed request that is to be made again.
  enum Retries {
    /// It is made again at once, and no time passes: for faults that pass.
    case atOnce
    /// It is made again when the clock has been moved to its time, as for every timer.
    case onTime
  }

  private struct Timer {
    let due: Duration
    let queue: DispatchQueue
    let body: @Sendable () -> Void
  }

  private struct State {
    var now = Duration.zero
    /// The next one first; those of one moment in the order in which they were planned.
    var timers: [Timer] = []
  }

  /// The longest that a request waits for its next attempt where the store does not ask for more
  /// (`RetryPolicy`).
  private static let longestRetryDelay = Duration.seconds(5)

  private let retries: Retries
  private let state = Lock(State())

  init(retries: Retries = .atOnce) { self.retries = retries }

  var now: Duration { state.withLock { $0.now } }

  func schedule(
    after delay: Duration, on queue: DispatchQueue, _ body: @escaping @Sendable () -> Void
  ) {
    if retries == .atOnce, queue.label == "retries", delay <= Self.longestRetryDelay {
      return queue.async(execute: body)
    }
    state.withLock { state in
      let due = state.now + max(.zero, delay)
      let place = state.timers.firstIndex { due < $0.due } ?? state.timers.endIndex
      state.timers.insert(Timer(due: due, queue: queue, body: body), at: place)
    }
  }

  /// When the timers of a queue come due, the next one first.
  func planned(on label: String) -> [Duration] {
    state.withLock { state in state.timers.filter { $0.queue.label == label }.map(\.due) }
  }

  /// Waits until at least so many timers of a queue are planned.
  func untilPlanned(_ count: Int = 1, on label: String) async throws {
    try await until { planned(on: label).count >= count }
  }

  /// Moves the time on, and runs one after another what comes due meanwhile, also what is planned
  /// by that.
  ///
  /// - Parameter waits: whether to return only when the timers' work is done. A test that blocks a
  ///   timer's queue says no.
  func advance(by time: Duration, waits: Bool = true) {
    let end = now + time
    while let timer = take(dueBy: end) { run(timer, waits: waits) }
    state.withLock { $0.now = max($0.now, end) }
  }

  /// Moves the time on to the next timer, if there is one within `limit`, and runs it.
  @discardableResult
  func advanceToNext(within limit: Duration) -> Bool {
    guard let timer = take(dueBy: now + limit) else { return false }
    run(timer, waits: true)
    return true
  }

  /// Forgets all timers. To be called when nobody uses the clock any more: a timer may keep alive
  /// what keeps the clock alive.
  func end() {
    let timers = state.withLock { exchange(&$0.timers, with: []) }
    withExtendedLifetime(timers) {}
  }

  private func take(dueBy end: Duration) -> Timer? {
    state.withLock { state in
      guard let first = state.timers.first, first.due <= end else { return nil }
      state.now = max(state.now, first.due)
      return state.timers.removeFirst()
    }
  }

  private func run(_ timer: Timer, waits: Bool) {
    if waits {
      timer.queue.sync(execute: timer.body)
    } else {
      timer.queue.async(execute: timer.body)
    }
  }
}
