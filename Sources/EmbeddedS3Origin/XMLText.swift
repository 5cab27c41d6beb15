/// Writes the simple XML of S3: elements with text, and no attributes but the namespace.
struct XMLText {
  private(set) var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

  mutating func element(_ name: String, _ value: String) {
    text += "<\(name)>\(Self.escaped(value))</\(name)>"
  }

  mutating func append(_ value: String) {
    text += Self.escaped(value)
  }

  mutating func element(
    _ name: String, namespaced: Bool = false, _ content: (inout XMLText) -> Void
  ) {
    text += namespaced ? "<\(name) xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" : "<\(name)>"
    content(&self)
    text += "</\(name)>"
  }

  /// Escapes a text. Control characters become references, as S3 writes them, although XML 1.0
  /// allows few of them: clients avoid them by `encoding-type=url`.
  static func escaped(_ value: String) -> String {
    var escaped = ""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case _ where scalar.value < 0x20: escaped += "&#x\(String(scalar.value, radix: 16));"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}
