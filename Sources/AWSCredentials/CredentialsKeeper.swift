import Dispatch
import Locks

/// Keeps the credentials in use, and renews them.
///
/// Until they expire, the keeper hands them over at once. It gets new ones on a queue of its own,
/// because a source may take seconds: a file on a server, a command, a service. Requests that need
/// them meanwhile wait until they are there. The keeper renews credentials from five minutes before
/// they expire, while the old ones are still used: a source that fails then is asked again, and no
/// request fails.
package final class CredentialsKeeper: Sendable {
  /// Receives the credentials; nil for requests that are not signed.
  package typealias Answer = Result<Credentials?, CredentialsError>

  /// How long before their expiration credentials are renewed. AWS's SDKs renew in the last five
  /// minutes too, and a request that was signed before must still arrive.
  private static let renewalMarginInSeconds: Int64 = 300
  /// The shortest time between two renewals of credentials that are still valid.
  private static let pauseInSeconds = 10
  /// The shortest time between two renewals after a source has failed, or after a store has refused
  /// its credentials.
  private static let shortPauseInSeconds = 1

  private struct State {
    /// The last credentials found. They are kept until others are found, since they may be valid
    /// although a store refused one request.
    var known: Credentials??
    var foundAt: Int64 = 0
    /// Why the source gave no credentials when it was last asked; nil if it gave some.
    var failure: (error: CredentialsError, at: Int64)?
    /// When a refusal last caused a renewal.
    var renewedAt: Int64?
    var askedAt: Int64 = 0
    var isAsking = false
    var isStopped = false
    /// The callbacks of requests that wait for credentials; `stop` calls them with nil.
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

  /// Hands over the credentials: at once where they are known, else on the queue. The handed-over
  /// value is nil after `stop`.
  package func get(_ completion: @escaping @Sendable (Answer?) -> Void) {
    let now = clock()
    let answer: Answer?? = state.withLock { state in
      if state.isStopped { return .some(nil) }
      if let known = state.known {
        guard let expiration = known?.expiration, now >= expiration else { return .success(known) }
        // If credentials seem to have expired as soon as they arrived, this machine's clock is
        // wrong rather than the source.
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

  /// Gets other credentials than those that a store refused, and hands over nil where there are
  /// none. It calls back on the queue, or at once where others are known already: of many requests
  /// that are refused together, only the first one asks the source. The credentials in use stay in
  /// use meanwhile, and also where no others are found.
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
        // A source's failure is not reported here: the store's refusal says more.
        let found = try? answer?.get()
        completion(found == refused ? nil : found)
      }
      return .none
    }
    if let isKnown { completion(isKnown) }
    askIfDue(now)
  }

  /// Whether less than this pause lies between the two times. A clock that is set back does not
  /// make a pause longer.
  private static func isWithin(_ seconds: Int, _ now: Int64, _ then: Int64) -> Bool {
    (now - then).magnitude < UInt64(seconds)
  }

  /// Hands over nil to all requests that wait, and to later ones.
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
