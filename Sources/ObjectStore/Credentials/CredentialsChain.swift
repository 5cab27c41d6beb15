/// Asks several sources in order, and takes the first answer.
public struct CredentialsChain: CredentialsProvider {
  private let providers: [any CredentialsProvider]

  public init(_ providers: [any CredentialsProvider]) { self.providers = providers }

  public var whereItLooks: String { providers.map(\.whereItLooks).joined(separator: "; ") }

  /// Never nil.
  ///
  /// - Throws: `CredentialsError.notFound` if no source has any, or what the first unusable source throws.
  public func credentials() throws(CredentialsError) -> Credentials? {
    for provider in providers {
      if let found = try provider.credentials() { return found }
    }
    throw .notFound(lookedAt: providers.map(\.whereItLooks))
  }
}

extension CredentialsChain {
  /// A profile named by flag and nothing else; or the environment's keys, the environment's web identity, the profile of
  /// AWS_PROFILE or "default", the container's, the EC2 instance's.
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
