import PrintableText

/// A header of a request. One that grants access does not show its value when printed.
public struct HTTPHeader: Sendable, Hashable, CustomStringConvertible, CustomReflectable {
  public let name: String
  public let value: String

  public init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }

  public var description: String {
    let secret = [
      "authorization", "x-amz-security-token", "x-amz-sso_bearer_token", "x-aws-ec2-metadata-token",
    ].contains(name.lowercased())
    return "\(name): \(secret ? "redacted" : printable(value, limit: 200))"
  }

  public var customMirror: Mirror { Mirror(self, children: ["header": description]) }
}
