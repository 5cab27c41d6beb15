import Locks

/// Asks several sources in order, and takes the first credentials. From then on it asks only that
/// source, as the AWS SDKs do: a file that is missing for a moment must not switch to another
/// identity.
public final class CredentialsChain: CredentialsProvider {
  private let providers: [any CredentialsProvider]
  private let chosen = Lock<(any CredentialsProvider)?>(nil)

  public init(_ providers: [any CredentialsProvider]) { self.providers = providers }

  public var whereItLooks: String { providers.map(\.whereItLooks).joined(separator: "; ") }

  /// The credentials of the first source that has any; never nil.
  ///
  /// - Throws: `CredentialsError.notFound` if no source has any, or the error of the first unusable
  ///   source.
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
  /// The standard order of sources: only the profile that a flag names, if one does; otherwise the
  /// environment's keys, the environment's web identity, the profile of AWS_PROFILE or "default",
  /// the container's role, the EC2 instance's role.
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
