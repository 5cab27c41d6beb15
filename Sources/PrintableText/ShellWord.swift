/// The text quoted so that a shell takes it for one word.
package func shellWord(_ text: String) -> String {
  // A path that begins with "-" would be taken for an option, quoted or not.
  let text = text.hasPrefix("-") ? "./" + text : text
  let isPlain = text.utf8.allSatisfy {
    switch $0 {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...:
      true
    default: "/._-+=:@,%".utf8.contains($0)
    }
  }
  if isPlain, !text.isEmpty { return text }
  return "'"
    + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
}
