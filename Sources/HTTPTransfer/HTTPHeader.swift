import PrintableText

/// A header of a request. When printed, it does not show its value if it may grant access, judged
/// by its name.
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
