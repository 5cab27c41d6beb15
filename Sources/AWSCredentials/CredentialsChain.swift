import Locks

/// Asks several sources in order, and takes the first answer. From then on only that source is
/// asked, as by the AWS SDKs: a file that is missing for a moment must not make us somebody else.
public final class CredentialsChain: CredentialsProvider {
  private let providers: [any CredentialsProvider]
  private let chosen = Lock<(any CredentialsProvider)?>(nil)

  public init(_ providers: [any CredentialsProvider]) { self.providers = providers }

  public var whereItLooks: String { providers.map(\.whereItLooks).joined(separator: "; ") }

  /// Never nil.
  ///
  /// - Throws: `CredentialsError.notFound` if no source has any, or what the first unusable source
  ///   throws.
  public func credentials() throws(CredentialsError) -> Credentials? {
    let providers = chosen.withLock { $0 }.map { [$0] } ?? providers
    for provider in providers {
      guard let found = try provider.credentials() else { continue }
      chosen.withLock { $0 = provider }
      return found
    }
    throw .notFound(lookedAt: providers.map(\.whereItLooks))
  }
}

extension CredentialsChain {
  /// A profile named by flag and nothing else; or the environment's keys, the environment's web
  /// identity, the profile of AWS_PROFILE or "default", the container's, the EC2 instance's.
  public static func standard(
    profileNamed name: String?, _ sources: CredentialSources
  ) -> CredentialsChain {
    let profile = ProfileCredentials(profileNamed: name, sources)
    guard name == nil else { return CredentialsChain([profile]) }
    return CredentialsChain([
      EnvironmentCredentials(environment: sources.environment), WebIdentityCredentials(sources),
      profile, ContainerCredentials(sources), InstanceCredentials(sources),
    ])
  }
}
