import PrintableText

/// A header of a request. One that may grant access, by its name, does not show its value
/// when printed.
public struct HTTPHeader: Sendable, Hashable, CustomStringConvertible, CustomReflectable {
  public let name: String
  public let value: String

  public init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }

  public var description: String {
    let name = name.lowercased()
    let isSecret = ["authorization", "token"].contains { name.contains($0) }
    return "\(self.name): \(isSecret ? "redacted" : printable(value, limit: 200))"
  }

  public var customMirror: Mirror { Mirror(self, children: ["header": description]) }
}
