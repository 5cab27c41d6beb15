/// The little XML that S3 writes: elements with text, no attributes but the namespace.
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

  /// Control characters become references, as S3 writes them, although XML 1.0 knows few of them:
  /// that is what `encoding-type=url` is for.
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
