import Dispatch
import Locks
import Testing

@testable import AWSCredentials

/// Credentials are known at once while they hold, renewed before they end, and looked for by one at
/// a time.
@Suite(.timeLimit(.minutes(2))) struct CredentialsKeeperTests {
  /// Gives A1, A2 and so on, which expire after 1000 s; what it is told to fails.
  private final class Source: CredentialsProvider {
    struct State {
      var asked = 0
      var fails = false
      var isSame = false
    }
    let state = Lock(State())
    let now = Lock<Int64>(0)
    let gate: DispatchSemaphore?
    var whereItLooks: String { "here" }

    init(gate: DispatchSemaphore? = nil) { self.gate = gate }

    func credentials() throws(CredentialsError) -> Credentials? {
      gate?.wait()
      let (number, found, fails) = state.withLock { state in
        state.asked += 1
        let found = state.isSame ? 0 : now.withLock { $0 }
        return (state.isSame ? 1 : state.asked, found, state.fails)
      }
      if fails { throw .failed(source: "s", problem: "p", advice: "a", isTemporary: true) }
      return Credentials(
        accessKeyID: "A\(number)", secretAccessKey: "s", expiration: found + 1000)
    }

    var asked: Int { state.withLock { $0.asked } }
    func pass(_ seconds: Int64) { now.withLock { $0 += seconds } }
    func keeper() -> CredentialsKeeper { CredentialsKeeper(self) { self.now.withLock { $0 } } }
  }

  @Test("They are asked for once, and again when they near their end, while the old ones are used")
  func renewal() async throws {
    let source = Source()
    let keeper = source.keeper()
    #expect(try await keeper.keyID() == "A1")
    source.pass(700)
    #expect(try await keeper.keyID() == "A1")
    #expect(source.asked == 1)
    source.pass(1)
    #expect(try await keeper.keyID() == "A1")
    while source.asked < 2 { try await Task.sleep(for: .milliseconds(2)) }
    try await keeper.wait(for: "A2")
  }

  @Test("A source that fails is asked again now and then, and nobody notices until the end")
  func failingRenewal() async throws {
    let source = Source()
    let keeper = source.keeper()
    #expect(try await keeper.keyID() == "A1")
    source.state.withLock { $0.fails = true }
    source.pass(800)
    for _ in 0..<10 { #expect(try await keeper.keyID() == "A1") }
    while source.asked < 2 { try await Task.sleep(for: .milliseconds(2)) }
    for _ in 0..<10 { #expect(try await keeper.keyID() == "A1") }
    try await Task.sleep(for: .milliseconds(20))
    #expect(source.asked == 2, "no sooner than after 10 s")
    source.pass(200)
    let error = await #expect(throws: CredentialsError.self) { try await keeper.keyID() }
    #expect(error?.isTemporary == true)
    let asked = source.asked
    await #expect(throws: CredentialsError.self) { try await keeper.keyID() }
    #expect(source.asked == asked, "no sooner than after 1 s")
    source.state.withLock { $0.fails = false }
    source.pass(1)
    #expect(try await keeper.keyID()?.hasPrefix("A") == true)
  }

  @Test("A clock that is set back does not keep from renewing")
  func clockSetBack() async throws {
    let source = Source()
    let keeper = source.keeper()
    #expect(try await keeper.keyID() == "A1")
    source.state.withLock { $0.fails = true }
    source.pass(950)
    #expect(try await keeper.keyID() == "A1")
    while source.asked < 2 { try await Task.sleep(for: .milliseconds(2)) }
    source.state.withLock { $0.fails = false }
    source.pass(-100)
    try await keeper.wait(for: "A3")
  }

  @Test("What has expired as it comes is used for a while: the clock is wrong")
  func wrongClock() async throws {
    let source = Source()
    let keeper = CredentialsKeeper(source) { 5000 + source.now.withLock { $0 } }
    for _ in 0..<10 { #expect(try await keeper.keyID() == "A1") }
    source.pass(10)
    #expect(try await keeper.keyID() == "A2")
  }

  @Test("Many who ask at once, and many who were refused at once, are told of one answer")
  func joining() async throws {
    let gate = DispatchSemaphore(value: 0)
    let source = Source(gate: gate)
    let keeper = source.keeper()
    let told = Lock<[String?]>([])
    for _ in 0..<20 {
      keeper.get { answer in told.withLock { $0.append(try? answer?.get()?.accessKeyID) } }
    }
    gate.signal()
    while told.withLock({ $0.count }) < 20 { try await Task.sleep(for: .milliseconds(2)) }
    let first = try #require(try await keeper.credentials())
    for _ in 0..<20 {
      keeper.renew(first) { renewed in told.withLock { $0.append(renewed?.accessKeyID) } }
    }
    gate.signal()
    while told.withLock({ $0.count }) < 40 { try await Task.sleep(for: .milliseconds(2)) }
    keeper.renew(first) { renewed in told.withLock { $0.append(renewed?.accessKeyID) } }
    let expected = Array(repeating: "A1", count: 20) + Array(repeating: "A2", count: 21)
    #expect(told.withLock { $0 } == expected)
    #expect(source.asked == 2)
  }

  @Test("Credentials that a renewal does not change are none, and stay in use")
  func unchanged() async throws {
    let source = Source()
    source.state.withLock { $0.isSame = true }
    let keeper = source.keeper()
    let first = try #require(try await keeper.credentials())
    #expect(await keeper.renewed(first) == nil)
    #expect(try await keeper.keyID() == "A1")
    #expect(source.asked == 2)
  }

  @Test("A store that refuses whatever it is sent does not make us ask without a pause")
  func refusedForEver() async throws {
    let source = Source()
    source.state.withLock { $0.isSame = true }
    let keeper = source.keeper()
    let first = try #require(try await keeper.credentials())
    source.pass(100)
    for _ in 0..<10 { #expect(await keeper.renewed(first) == nil) }
    #expect(source.asked == 2)
    source.pass(1)
    #expect(await keeper.renewed(first) == nil)
    #expect(source.asked == 3)
  }

  @Test("One refusal does not take the credentials from all others where the source fails")
  func failingRenewalAfterRefusal() async throws {
    let source = Source()
    let keeper = source.keeper()
    let first = try #require(try await keeper.credentials())
    source.state.withLock { $0.fails = true }
    #expect(await keeper.renewed(first) == nil)
    #expect(try await keeper.keyID() == "A1")
  }

  @Test("Who waits for a source that does not answer is told when nothing is looked for any more")
  func stopping() async throws {
    let gate = DispatchSemaphore(value: 0)
    defer { gate.signal() }
    let keeper = Source(gate: gate).keeper()
    let told = Lock<[Bool]>([])
    keeper.get { answer in told.withLock { $0.append(answer == nil) } }
    keeper.stop()
    keeper.get { answer in told.withLock { $0.append(answer == nil) } }
    #expect(told.withLock { $0 } == [true, true])
  }
}

extension CredentialsKeeper {
  fileprivate func credentials() async throws -> Credentials? {
    try await withCheckedThrowingContinuation { continuation in
      get { continuation.resume(with: $0 ?? .success(nil)) }
    }
  }

  fileprivate func renewed(_ refused: Credentials) async -> Credentials? {
    await withCheckedContinuation { continuation in
      renew(refused) { continuation.resume(returning: $0) }
    }
  }

  fileprivate func keyID() async throws -> String? { try await credentials()?.accessKeyID }

  fileprivate func wait(for keyID: String) async throws {
    while try await self.keyID() != keyID { try await Task.sleep(for: .milliseconds(2)) }
  }
}
