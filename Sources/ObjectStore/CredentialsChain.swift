import Locks

/// Asks several sources in order and keeps the first answer, because it is asked before every request and
/// some sources read files. It asks anew when the credentials are about to expire, or were refused.
public final class CredentialsChain: CredentialsProvider {
  /// Asked anew this long before they expire: AWS SDKs refresh in the last five minutes too, and a request
  /// that was signed before must still arrive.
  private static let renewalMarginInSeconds: Int64 = 300

  private let providers: [any CredentialsProvider]
  private let secondsSinceEpoch: @Sendable () -> Int64
  private let remembered = Lock<Credentials?>(nil)

  public init(
    _ providers: [any CredentialsProvider], secondsSinceEpoch: @escaping @Sendable () -> Int64
  ) {
    self.providers = providers
    self.secondsSinceEpoch = secondsSinceEpoch
  }

  public var whereItLooks: String { providers.map(\.whereItLooks).joined(separator: "; ") }

  /// Never nil.
  ///
  /// - Throws: `CredentialsError.notFound` if no source has any, or what the first unusable source throws.
  public func credentials() throws(CredentialsError) -> Credentials? {
    if let known = remembered.withLock({ $0 }), !isNearExpiration(known) { return known }
    // Not under the lock: a source may be slow. Two threads may ask at once, which does no harm.
    for provider in providers {
      if let found = try provider.credentials() {
        remembered.withLock { $0 = found }
        return found
      }
    }
    throw .notFound(lookedAt: providers.map(\.whereItLooks))
  }

  public func invalidate() {
    remembered.withLock { $0 = nil }
    for provider in providers { provider.invalidate() }
  }

  private func isNearExpiration(_ credentials: Credentials) -> Bool {
    guard let expiration = credentials.expiration else { return false }
    return secondsSinceEpoch() > expiration - Self.renewalMarginInSeconds
  }
}

extension CredentialsChain {
  /// The order of the AWS command line: a profile named by flag and nothing else, or the environment's keys,
  /// then the profile of AWS_PROFILE, or "default".
  public static func standard(
    profileNamed name: String?, sharedFiles: SharedFiles, environment: [String: String],
    secondsSinceEpoch: @escaping @Sendable () -> Int64
  ) -> CredentialsChain {
    let profile = ProfileCredentials(profileNamed: name, sharedFiles: sharedFiles)
    return CredentialsChain(
      name == nil ? [EnvironmentCredentials(environment: environment), profile] : [profile],
      secondsSinceEpoch: secondsSinceEpoch)
  }
}
