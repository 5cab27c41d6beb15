extension StringProtocol {
  /// The text without spaces, tabs and line breaks at both ends.
  package var trimmedOfSpaces: String {
    var trimmed = Substring(self)
    while trimmed.first?.isWhitespace == true { trimmed.removeFirst() }
    while trimmed.last?.isWhitespace == true { trimmed.removeLast() }
    return String(trimmed)
  }
}
