/// Returns text from outside in a form fit for one line of a terminal or a log: control characters
/// are escaped as `\u{…}`, and the text is cut after `limit` scalars.
public func printable(_ text: some StringProtocol, limit: Int) -> String {
  var result = ""
  for (count, scalar) in text.unicodeScalars.enumerated() {
    guard count < limit else { return result + "…" }
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse:
      result += "\\u{\(String(scalar.value, radix: 16))}"
    default:
      result.unicodeScalars.append(scalar)
    }
  }
  return result
}
