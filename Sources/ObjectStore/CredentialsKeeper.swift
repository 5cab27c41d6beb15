import Dispatch
import Locks

/// The credentials in use.
///
/// As long as they hold they are known at once. They are looked for on a queue of its own, because a source may take
/// seconds: a file on a server, a command, a service. Who asks meanwhile is told when they are there. Five minutes before
/// they expire they are looked for again, while the old ones are still used: a source that fails then is asked again,
/// and nobody notices.
final class CredentialsKeeper: Sendable {
  /// Nil for requests that are not signed.
  typealias Answer = Result<Credentials?, CredentialsError>

  /// AWS's SDKs renew in the last five minutes too, and a request that was signed before must still arrive.
  private static let renewalMarginInSeconds: Int64 = 300
  /// How often a source is asked at most for what it gave or refused a moment ago.
  private static let pauseInSeconds: Int64 = 10

  private struct State {
    /// What was found last.
    var known: Answer?
    var foundAt: Int64 = 0
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

  init(_ provider: any CredentialsProvider, clock: @escaping @Sendable () -> Int64) {
    self.provider = provider
    self.clock = clock
  }

  /// Hands over the credentials: at once where they are known, else on the queue. Nil after `stop`.
  func get(_ completion: @escaping @Sendable (Answer?) -> Void) {
    let now = clock()
    let answer: Answer?? = state.withLock { state in
      if state.isStopped { return .some(nil) }
      guard case .success(let known)? = state.known else {
        state.waiting.append(completion)
        return .none
      }
      guard let expiration = known?.expiration else { return state.known }
      // Where they seem to have expired as soon as they came, this machine's clock is wrong rather than the source.
      if now >= expiration, now >= state.foundAt + Self.pauseInSeconds {
        state.waiting.append(completion)
        return .none
      }
      return state.known
    }
    if let answer { completion(answer) }
    askIfDue(now)
  }

  /// Looks for other credentials than those that a store refused; nil where there are none. On the queue, or at once where
  /// they are known already: of many requests that are refused together the first one has them looked for.
  func renew(_ refused: Credentials, _ completion: @escaping @Sendable (Credentials?) -> Void) {
    let isKnown: Credentials?? = state.withLock { state in
      if state.isStopped { return .some(nil) }
      if case .success(let known)? = state.known, known != refused { return .some(known) }
      state.known = nil
      state.waiting.append { answer in
        // What cannot be had now is no reason of its own: the store's refusal says more.
        let found = try? answer?.get()
        completion(found == refused ? nil : found ?? nil)
      }
      return .none
    }
    if let isKnown { completion(isKnown) }
    askIfDue(clock())
  }

  /// Tells all who wait that nothing comes.
  func stop() {
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
        guard case .success(let known?)? = state.known, let expiration = known.expiration,
          now > expiration - Self.renewalMarginInSeconds,
          now >= state.askedAt + Self.pauseInSeconds
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
      if case .success = answer {
        state.known = answer
        state.foundAt = clock()
      }
      return exchange(&state.waiting, with: [])
    }
    for completion in waiting { completion(answer) }
  }
}
