import CFuse3
import Dispatch
import Glibc
import Locks
import Posix
import Synchronization
import TestSupport
import Testing

@testable import FuseMount
@testable import InventoryFileSystem

/// Requests whose answers have to wait, and whose askers are interrupted meanwhile: in every order
/// exactly one reply goes out, and nothing is left of the request.
@Suite(.timeLimit(.minutes(2))) struct ParkedReplyTests {
  /// What a request waits for, as the file system's waits are: ended once, by the answer or by the
  /// interruption.
  private final class Wait: Sendable {
    private let state = Lock<(parked: ParkedAttributeReply?, isOver: Bool)>((nil, false))

    /// From here on the wait may end.
    func park(_ reply: ParkedAttributeReply) { state.withLock { $0.parked = reply } }

    var isParked: Bool { state.withLock { $0.parked != nil || $0.isOver } }

    /// False when there is nothing to answer any more.
    @discardableResult func answer() -> Bool {
      guard let parked = end() else { return false }
      parked.found([1, 2, 3])
      return true
    }

    var interruption: Interruption {
      Interruption { [self] in end()?.fail(.interrupted) }
    }

    private func end() -> ParkedAttributeReply? {
      state.withLock { state in
        guard !state.isOver, let parked = state.parked else { return nil }
        state = (nil, true)
        return parked
      }
    }
  }

  /// A session in which each getxattr is parked, and its test decides how it goes on.
  private final class Session {
    let kernel: KernelSide
    private let folder: ChunkFolder

    /// Called with the parked request of a node, in the place of `InventoryFileSystem.attribute`.
    static let handlers = Lock<[UInt: @Sendable (ParkedAttributeReply) -> Void]>([:])
    private static let lastNode = Lock<UInt>(1 << 20)

    init(replyThreadCount: Int = 2) throws {
      folder = try ChunkFolder([])
      kernel = try KernelSide(folder.fileSystem, replyThreadCount: replyThreadCount) {
        $0.getxattr = { raw, node, _, _ in
          guard let raw, let context = OperationContext.from(raw),
            let handler = Session.handlers.withLock({ $0.removeValue(forKey: UInt(node)) })
          else {
            Issue.record("a request that nobody made")
            return
          }
          handler(ParkedAttributeReply(KernelRequest(raw: raw), context.pool, limit: 3))
        }
      }
      _ = kernel.initialise()
    }

    func send(_ unique: UInt64, _ park: @escaping @Sendable (ParkedAttributeReply) -> Void) {
      let node = Self.lastNode.withLock {
        $0 += 1
        return $0
      }
      Self.handlers.withLock { $0[node] = park }
      var body = Fields.words([3, 0])
      body.bytes += Fields.name("user.a").bytes
      kernel.send(.getExtendedAttribute, node: UInt64(node), unique: unique, body)
    }
  }

  private let answered = KernelSide.Reply(errno: 0, body: Fields(bytes: [1, 2, 3]))
  private let interrupted = KernelSide.Reply(errno: EINTR, body: Fields())

  /// Where the interruption comes in.
  enum Moment: CaseIterable {
    case beforeTheRequest, beforeTheWait, whileWaiting, twice, afterTheAnswer, never
    case whileTheAnswerIsQueued
  }

  @Test("One reply goes out, whenever the asker is interrupted", arguments: Moment.allCases)
  func moments(moment: Moment) throws {
    let session = try Session(replyThreadCount: 1)
    let kernel = session.kernel
    let wait = Wait()
    let unique = kernel.newUnique()
    if moment == .beforeTheRequest { kernel.interrupt(unique) }
    let seen = Lock<WeakReply>(WeakReply())
    session.send(unique) { [kernel] reply in
      seen.withLock { $0.reply = reply }
      wait.park(reply)
      if moment == .beforeTheWait { kernel.interrupt(unique) }
      reply.waits(wait.interruption)
    }
    // Keeps the pool's thread until the interruption has been noted.
    let isNoted = DispatchSemaphore(value: 0)
    switch moment {
    case .beforeTheRequest, .beforeTheWait: break
    case .whileWaiting: kernel.interrupt(unique)
    case .twice:
      kernel.interrupt(unique)
      kernel.interrupt(unique)
    case .afterTheAnswer:
      wait.answer()
      while kernel.replies(to: unique).isEmpty { usleep(100) }
      kernel.interrupt(unique)
    case .never: wait.answer()
    case .whileTheAnswerIsQueued:
      kernel.context.pool.run { _ in isNoted.wait() }
      wait.answer()
      kernel.interrupt(unique)
      kernel.context.pool.runPromptly { isNoted.signal() }
    }
    kernel.end()
    let isAnswered = [.afterTheAnswer, .never, .whileTheAnswerIsQueued].contains(moment)
    #expect(kernel.replies(to: unique) == [isAnswered ? answered : interrupted])
    #expect(seen.withLock { $0.reply } == nil, "the parked request is gone")
    #expect(!wait.answer(), "nothing is left to answer")
  }

  @Test("A wait that cannot be interrupted is answered all the same")
  func noInterruption() throws {
    let session = try Session()
    let wait = Wait()
    let unique = session.kernel.newUnique()
    session.send(unique) {
      wait.park($0)
      $0.waits(nil)
    }
    session.kernel.interrupt(unique)
    wait.answer()
    session.kernel.end()
    #expect(session.kernel.replies(to: unique) == [answered])
  }

  @Test("A request may be answered before anybody knows that it waits")
  func answeredAtOnce() throws {
    let session = try Session()
    let wait = Wait()
    let unique = session.kernel.newUnique()
    session.send(unique) { reply in
      wait.park(reply)
      wait.answer()
      reply.waits(wait.interruption)
    }
    session.kernel.end()
    #expect(session.kernel.replies(to: unique) == [answered])
  }

  /// Threads that go through rounds together.
  private final class Rounds: Sendable {
    private let count: Int
    private let threadCount: Int
    /// The round that all threads are in, and how often one has done its part of any.
    private let current = Atomic(0)
    private let doneCount = Atomic(0)

    init(_ count: Int, threadCount: Int) {
      self.count = count
      self.threadCount = threadCount
    }

    /// One thread's part in each round, begun after a while that the seed chooses.
    func run(seed: UInt64, _ part: (Int) -> Void) {
      var generator = SeededGenerator(seed: seed)
      for index in 0..<count {
        while current.load(ordering: .acquiring) != index { sched_yield() }
        for _ in 0..<Int.random(in: 0..<500, using: &generator) {
          _ = current.load(ordering: .relaxed)
        }
        part(index)
        let done = doneCount.add(1, ordering: .acquiringAndReleasing).newValue
        if done == (index + 1) * threadCount { current.store(index + 1, ordering: .releasing) }
      }
    }
  }

  @Test("One reply goes out whichever threads answer and interrupt, many times over")
  func race() throws {
    let session = try Session()
    let kernel = session.kernel
    let requests = (0..<1000).map { _ in (unique: kernel.newUnique(), wait: Wait()) }
    let parked = Lock<[WeakReply]>([])
    let rounds = Rounds(requests.count, threadCount: 4)
    let interrupters = [2, 3].map { seed in
      PosixThread(named: "interrupter") {
        rounds.run(seed: seed) { index in
          // Unless it is held back, it comes first nearly always.
          let request = requests[index]
          while index % 4 != 0, !request.wait.isParked { sched_yield() }
          kernel.interrupt(request.unique)
        }
      }
    }
    let answerer = PosixThread(named: "answerer") {
      rounds.run(seed: 4) { index in
        let wait = requests[index].wait
        while !wait.isParked { sched_yield() }
        wait.answer()
      }
    }
    rounds.run(seed: 1) { index in
      let (unique, wait) = requests[index]
      session.send(unique) { reply in
        parked.withLock { $0.append(WeakReply(reply: reply)) }
        wait.park(reply)
        reply.waits(wait.interruption)
      }
    }
    for thread in interrupters + [answerer] { try #require(thread).join() }
    kernel.end()

    let replies = requests.map { kernel.replies(to: $0.unique) }
    let right = replies.filter { $0 == [answered] || $0 == [interrupted] }
    #expect(right.count == requests.count)
    #expect(parked.withLock { $0.filter { $0.reply != nil }.count } == 0, "requests that are left")
    print("\(replies.filter { $0 == [interrupted] }.count) of \(replies.count) were interrupted")
  }
}

private struct WeakReply {
  weak var reply: ParkedReply?
}
