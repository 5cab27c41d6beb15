import AWSCredentials
import ObjectStore

/// The same credentials at all times.
struct StaticCredentials: CredentialsProvider {
  private let value: Credentials
  init(_ value: Credentials) { self.value = value }
  var whereItLooks: String { "given credentials" }
  func credentials() -> Credentials? { value }
}
