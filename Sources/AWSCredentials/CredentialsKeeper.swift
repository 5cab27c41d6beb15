import Dispatch
import Locks

/// The credentials in use.
///
/// As long as they hold they are known at once. They are looked for on a queue of its own, because
/// a source may take seconds: a file on a server, a command, a service. Who asks meanwhile is told
/// when they are there. Five minutes before they expire they are looked for again, while the old
/// ones are still used: a source that fails then is asked again, and nobody notices.
package final class CredentialsKeeper: Sendable {
  /// Nil for requests that are not signed.
  package typealias Answer = Result<Credentials?, CredentialsError>

  /// AWS's SDKs renew in the last five minutes too, and a request that was signed before must still
  /// arrive.
  private static let renewalMarginInSeconds: Int64 = 300
  /// How often a source is asked at most for what still holds.
  private static let pauseInSeconds = 10
  /// How often it is asked at most where it has just failed, or a store refuses what it gives.
  private static let shortPauseInSeconds = 1

  private struct State {
    /// What was found last. Kept until others are found: those in use may be good although a store
    /// refused one request.
    var known: Credentials??
    var foundAt: Int64 = 0
    /// Why the source gave none when it was last asked.
    var failure: (error: CredentialsError, at: Int64)?
    /// When a refusal last made us ask.
    var renewedAt: Int64?
    var askedAt: Int64 = 0
    var isAsking = false
    var isStopped = false
    /// Nil: told when nothing is looked for any more.
    var waiting: [@Sendable (Answer?) -> Void] = []
  }

  private let provider: any CredentialsProvider
  private let clock: @Sendable () -> Int64
  private let queue = DispatchQueue(label: "credentials")
  private let state = Lock(State())

  package init(_ provider: any CredentialsProvider, clock: @escaping @Sendable () -> Int64) {
    self.provider = provider
    self.clock = clock
  }

  /// Hands over the credentials: at once where they are known, else on the queue. Nil after `stop`.
  package func get(_ completion: @escaping @Sendable (Answer?) -> Void) {
    let now = clock()
    let answer: Answer?? = state.withLock { state in
      if state.isStopped { return .some(nil) }
      if let known = state.known {
        guard let expiration = known?.expiration, now >= expiration else { return .success(known) }
        // Where they seem to have expired as soon as they came, this machine's clock is wrong
        // rather than the source.
        if Self.isWithin(Self.pauseInSeconds, now, state.foundAt) { return .success(known) }
      }
      if let failure = state.failure, Self.isWithin(Self.shortPauseInSeconds, now, failure.at) {
        return .failure(failure.error)
      }
      state.waiting.append(completion)
      return .none
    }
    if let answer { completion(answer) }
    askIfDue(now)
  }

  /// Looks for other credentials than those that a store refused; nil where there are none. On the
  /// queue, or at once where they are known already: of many requests that are refused together the
  /// first one has them looked for. Those in use stay so meanwhile, and where no others are found.
  package func renew(
    _ refused: Credentials, _ completion: @escaping @Sendable (Credentials?) -> Void
  ) {
    let now = clock()
    let isKnown: Credentials?? = state.withLock { state in
      if state.isStopped { return .some(nil) }
      if let known = state.known, known != refused { return .some(known) }
      if !state.isAsking, state.waiting.isEmpty {
        if let last = state.renewedAt, Self.isWithin(Self.shortPauseInSeconds, now, last) {
          return .some(nil)
        }
        state.renewedAt = now
      }
      state.waiting.append { answer in
        // What cannot be had now is no reason of its own: the store's refusal says more.
        let found = try? answer?.get()
        completion(found == refused ? nil : found)
      }
      return .none
    }
    if let isKnown { completion(isKnown) }
    askIfDue(now)
  }

  /// Whether so little time lies between the two. A clock that is set back does not make a pause
  /// longer.
  private static func isWithin(_ seconds: Int, _ now: Int64, _ then: Int64) -> Bool {
    (now - then).magnitude < UInt64(seconds)
  }

  /// Tells all who wait that nothing comes.
  package func stop() {
    let waiting = state.withLock { state in
      state.isStopped = true
      return exchange(&state.waiting, with: [])
    }
    for completion in waiting { completion(nil) }
  }

  private func askIfDue(_ now: Int64) {
    let isDue = state.withLock { state in
      guard !state.isAsking, !state.isStopped else { return false }
      if state.waiting.isEmpty {
        guard let expiration = state.known??.expiration,
          now > expiration - Self.renewalMarginInSeconds,
          !Self.isWithin(Self.pauseInSeconds, now, state.askedAt)
        else { return false }
      }
      state.isAsking = true
      state.askedAt = now
      return true
    }
    if isDue { queue.async { [self] in ask() } }
  }

  private func ask() {
    let answer = Result { () throws(CredentialsError) in try provider.credentials() }
    let waiting = state.withLock { state in
      state.isAsking = false
      switch answer {
      case .success(let found):
        state.known = .some(found)
        state.foundAt = clock()
        state.failure = nil
      case .failure(let error):
        state.failure = (error, clock())
      }
      return exchange(&state.waiting, with: [])
    }
    for completion in waiting { completion(answer) }
  }
}
