import Blocks
import ReadPlanning
import TestSupport
import Testing

@Suite("Retries")
struct RetryTests {
  private let policy = RetryPolicy()

  @Test(
    "Delays are drawn below a cap that doubles, up to the longest", arguments: [21, 22] as [UInt64])
  func backOff(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for attempt in 1...20 {
      let cap = min(policy.longestDelay, policy.firstDelay * (1 << (attempt - 1)))
      var largest = Duration.zero
      for _ in 0..<200 {
        var budget = RetryBudget()
        let delay = policy.delay(
          afterAttempt: attempt, isWaitedFor: true, budget: &budget, using: &generator)
        #expect(delay.map { $0 <= cap } == true, "seed \(seed), attempt \(attempt)")
        largest = max(largest, delay ?? .zero)
      }
      #expect(largest > cap / 2, "seed \(seed): the jitter is full")
    }
  }

  @Test("Who waits is served as long as it waits; what nobody waits for is tried six times")
  func attempts() {
    var generator = SeededGenerator(seed: 1)
    var budget = RetryBudget(capacity: 1000)
    func delay(_ attempt: Int, _ isWaitedFor: Bool) -> Duration? {
      policy.delay(
        afterAttempt: attempt, isWaitedFor: isWaitedFor, budget: &budget, using: &generator)
    }
    #expect(delay(5, false) != nil && delay(6, false) == nil)
    #expect(delay(6, true) != nil && delay(500, true) != nil)
  }

  @Test("What the store asks for is honoured, up to half a minute")
  func retryAfter() {
    var generator = SeededGenerator(seed: 1)
    var budget = RetryBudget()
    for (requested, expected): (Duration, Duration) in [
      (.seconds(2), .seconds(2)), (.seconds(20), .seconds(20)), (.seconds(3600), .seconds(30)),
    ] {
      let delay = policy.delay(
        afterAttempt: 1, requested: requested, budget: &budget, using: &generator)
      #expect(delay == expected)
    }
  }

  @Test("A store that asks to wait is not asked earlier because the budget is spent")
  func retryAfterWithoutBudget() {
    var generator = SeededGenerator(seed: 1)
    var budget = RetryBudget(capacity: 0)
    for _ in 0..<50 {
      let delay = policy.delay(
        afterAttempt: 1, requested: .seconds(4), budget: &budget, using: &generator)
      #expect(delay.map { $0 >= .seconds(4) && $0 <= policy.longestDelay } == true)
    }
  }

  @Test("Without budget a retry is slow and costs nothing; what succeeds earns a tenth")
  func budget() {
    var generator = SeededGenerator(seed: 1)
    var budget = RetryBudget(capacity: 3)
    for _ in 0..<3 {
      let delay = policy.delay(afterAttempt: 1, budget: &budget, using: &generator)
      #expect(delay.map { $0 <= policy.firstDelay } == true)
    }
    for _ in 0..<50 {
      let delay = policy.delay(afterAttempt: 1, budget: &budget, using: &generator)
      #expect(delay.map { $0 >= policy.longestDelay / 2 && $0 <= policy.longestDelay } == true)
    }
    #expect(budget.tokens == 0)
    for _ in 0..<11 { budget.noteSuccess() }
    let (first, second) = (budget.take(), budget.take())
    #expect(first && !second)
    for _ in 0..<1000 { budget.noteSuccess() }
    #expect(budget.tokens == 3, "it does not grow over its capacity")
  }
}

@Suite("How many requests at once")
struct ConcurrencyLevelTests {
  @Test("Throttling halves it, down to one; a burst of refusals counts once")
  func decrease() {
    var level = ConcurrencyLevel(maximum: 32)
    #expect(level.connections == 32)
    let epoch = level.epoch
    for _ in 0..<32 { level.noteThrottled(sentIn: epoch) }
    #expect(level.connections == 16)
    for expected in [8, 4, 2, 1, 1, 1] {
      level.noteThrottled(sentIn: level.epoch)
      #expect(level.connections == expected)
    }
  }

  @Test("A round of good answers adds one, up to the maximum")
  func increase() {
    var level = ConcurrencyLevel(maximum: 32)
    level.noteThrottled(sentIn: level.epoch)
    for _ in 0..<17 { level.noteSuccess() }
    #expect(level.connections == 17)
    var answers = 0
    while level.connections < 32, answers < 10_000 {
      level.noteSuccess()
      answers += 1
    }
    #expect((300...400).contains(answers), "\(answers)")
    for _ in 0..<1000 { level.noteSuccess() }
    #expect(level.connections == 32)
  }
}

@Suite("Until when one waits")
struct WaitDeadlinesTests {
  private func wait(_ number: Int) -> WaitID { WaitID(number: UInt64(number)) }

  @Test("Waits end at their time, the earliest first, and answered ones not at all")
  func expiry() {
    var deadlines = WaitDeadlines()
    var waiting: Set<WaitID> = []
    for (number, seconds) in [(1, 60), (2, 30), (3, 61), (4, 10)] {
      waiting.insert(wait(number))
      deadlines.add(
        wait(number), deadline: .seconds(seconds), waitCount: waiting.count,
        isWaiting: waiting.contains)
    }
    #expect(deadlines.next == .seconds(10))
    waiting.remove(wait(4))
    let none = deadlines.takeExpired(at: .seconds(29), isWaiting: waiting.contains)
    #expect(none.isEmpty && deadlines.next == .seconds(30))
    let two = deadlines.takeExpired(at: .seconds(60), isWaiting: waiting.contains)
    #expect(two == [wait(2), wait(1)])
    let last = deadlines.takeExpired(at: .seconds(1000), isWaiting: waiting.contains)
    #expect(last == [wait(3)] && deadlines.next == nil)
  }

  @Test("One that waits long does not keep the answered ones in memory")
  func bounded() {
    var deadlines = WaitDeadlines()
    deadlines.add(wait(0), deadline: .seconds(1), waitCount: 1, isWaiting: { _ in true })
    for number in 1...10_000 {
      let waiting: Set = [wait(0), wait(number)]
      deadlines.add(
        wait(number), deadline: .seconds(60), waitCount: 2, isWaiting: waiting.contains)
    }
    #expect(deadlines.count <= 70)
  }
}

@Suite("Failing parts")
struct FailingPartTests {
  private static let mebibyte = 1 << 20

  /// A planner with one open chunk of 100 MiB, and what it has asked for.
  private struct Desk {
    var planner = FetchPlanner(maxConnections: 8, cacheBoundInBytes: 1 << 30)
    var running: [FetchPlanner.Part] = []
    let chunk = ChunkID(index: 0)
    let handle = HandleID(number: 1)

    init() {
      let size = 100 * FailingPartTests.mebibyte
      _ = planner.cacheIsKnown()
      planner.load(
        chunk, sizeInBytes: size, entry: EntryID(number: 0), overheadInBytes: 4096,
        present: BlockSet(blockCount: BlockGrid(sizeInBytes: size).blockCount),
        isVersionKnown: true, opening: 0..<FailingPartTests.mebibyte)
      note(planner.open(chunk, handle: handle, wait: WaitID(number: 1)).1)
    }

    mutating func note(_ actions: [FetchPlanner.Action]) {
      for case .fetch(let part) in actions { running.append(part) }
    }

    mutating func pause(
      _ part: FetchPlanner.Part, isThrottled: Bool = false, isToldToWait: Bool = false
    ) throws -> FetchPlanner.Pause {
      let pause = planner.paused(
        part.id, isThrottled: isThrottled, isToldToWait: isToldToWait)
      note(pause?.actions ?? [])
      return try #require(pause)
    }

    /// How many of `running` have all their bytes.
    var delivered = 0

    mutating func deliverAll() {
      let parts = running[delivered...]
      delivered = running.count
      for part in parts {
        note(planner.arrived(part.id, count: part.bytes.count))
        note(planner.finished(part.id))
      }
    }

    mutating func read(_ number: UInt64, mebibyte: Int) {
      let start = mebibyte * FailingPartTests.mebibyte
      note(
        planner.read(
          chunk, handle: handle, bytes: start..<start + 65536, wait: WaitID(number: number)
        ).1)
    }
  }

  @Test("Attempts count anew once a part gets a whole block further, and not for less")
  func progress() throws {
    var desk = Desk()
    desk.read(2, mebibyte: 5)
    let part = try #require(desk.running.first)
    for expected in 1...3 {
      let pause = try desk.pause(part)
      #expect(pause.attempts == expected && pause.isWaitedFor)
      desk.note(desk.planner.retry(part.id))
      desk.note(desk.planner.arrived(part.id, count: 1))
    }
    desk.note(desk.planner.arrived(part.id, count: 65533))
    let pause = try desk.pause(part)
    #expect(pause.attempts == 1)
    #expect(!pause.isWaitedFor, "the block that was waited for is here")
  }

  @Test("A part whose readers have gone is not tried again")
  func unwanted() throws {
    var desk = Desk()
    desk.read(2, mebibyte: 5)
    let part = try #require(desk.running.first)
    _ = desk.planner.close(desk.handle)
    let pause = desk.planner.paused(part.id)
    #expect(pause == nil)
    let actions = desk.planner.failed(part.id)
    #expect(actions.isEmpty)
    #expect(desk.planner.isIdle(desk.chunk))
  }

  @Test(
    "With the last reader a short part is cancelled if it has brought nothing, and else left to end",
    arguments: [0, 1])
  func abandoned(arrived: Int) throws {
    var desk = Desk()
    desk.read(2, mebibyte: 5)
    let part = try #require(desk.running.first)
    #expect(part.bytes.count <= BlockGrid.segmentSizeInBytes)
    if arrived > 0 { desk.note(desk.planner.arrived(part.id, count: arrived)) }
    let actions = desk.planner.close(desk.handle)
    #expect(actions.contains(.cancel(part.id)) == (arrived == 0))
  }

  @Test("After throttling fewer parts run; what waits goes on as the others end")
  func throttled() throws {
    var desk = Desk()
    for index in 0..<12 { desk.read(UInt64(10 + index), mebibyte: 5 + 7 * index) }
    #expect(desk.running.count == 8)
    let first = desk.running
    for part in first { _ = try desk.pause(part, isThrottled: true) }
    #expect(desk.planner.concurrency.connections == 4)
    for part in first { desk.note(desk.planner.retry(part.id)) }
    #expect(desk.running.count - first.count == 4, "as many run as may")
    let second = desk.running[8...]
    for part in second {
      desk.note(desk.planner.arrived(part.id, count: part.bytes.count))
      desk.note(desk.planner.finished(part.id))
    }
    #expect(desk.running.count - first.count == 8, "others go on in their place")
  }

  @Test("While the store has asked to wait, nothing is asked for, whoever wants it")
  func toldToWait() throws {
    var desk = Desk()
    for index in 0..<3 { desk.read(UInt64(10 + index), mebibyte: 5 + 7 * index) }
    let parts = desk.running
    #expect(parts.count == 3)
    _ = try desk.pause(parts[0], isThrottled: true, isToldToWait: true)
    _ = try desk.pause(parts[1], isThrottled: true, isToldToWait: true)
    _ = try desk.pause(parts[2])
    for index in 3..<7 { desk.read(UInt64(10 + index), mebibyte: 5 + 7 * index) }
    // One whose own delay is over, and one of the two that were told to wait.
    desk.note(desk.planner.retry(parts[2].id))
    desk.note(desk.planner.retry(parts[0].id))
    #expect(desk.running.count == 3)
    desk.note(desk.planner.retry(parts[1].id))
    #expect(desk.running.count > 3)
  }

  @Test("Where a part that was told to wait is not wanted any more, others do not wait for it")
  func toldToWaitAndLeft() throws {
    var desk = Desk()
    desk.read(2, mebibyte: 5)
    _ = try desk.pause(desk.running[0], isToldToWait: true)
    desk.note(desk.planner.close(desk.handle))
    let later = HandleID(number: 2)
    desk.note(desk.planner.open(desk.chunk, handle: later, wait: WaitID(number: 3)).1)
    desk.note(
      desk.planner.read(desk.chunk, handle: later, bytes: 0..<65536, wait: WaitID(number: 4)).1)
    #expect(desk.running.count == 2)
  }

  @Test("Parts between two attempts leave no room for more read-ahead")
  func readAheadOfAFailingStore() throws {
    var desk = Desk()
    // A sequential reader with a large window, whose store fails everything from some point on.
    for block in 0..<160 {
      let bytes = block << 16..<(block + 1) << 16
      let wait = WaitID(number: UInt64(100 + block))
      let (decision, actions) = desk.planner.read(
        desk.chunk, handle: desk.handle, bytes: bytes, wait: wait)
      desk.note(actions)
      if decision == .wait { desk.deliverAll() }
      desk.note(desk.planner.finishedReading(desk.chunk, bytes: bytes))
    }
    let before = desk.running.count
    var next = desk.delivered
    while next < desk.running.count, next < 200 {
      _ = try desk.pause(desk.running[next])
      next += 1
    }
    #expect(next <= before + 1, "\(next - before) more parts begun")
  }
}
