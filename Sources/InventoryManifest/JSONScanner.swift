// Reads JSON (RFC 8259) front to back, without building a tree: a manifest of a million chunks has
// some 200 MB of text, whose tree would take several times as much memory.
//
// The text stays where it is, and strings are given as the ranges of its bytes. Nothing recurses
// deeper than 512 levels.

import PrintableText

struct JSONScanner {
  /// The text is not JSON, or is nested too deeply.
  struct Invalid: Error {}

  /// A value that is not an object or array of interest.
  enum Scalar {
    case string(Text)
    /// The bytes of a number.
    case number(Range<Int>)
    case null
    /// `true`, `false`, an object or an array, whose content was skipped.
    case other
  }

  /// A string between its quotes.
  struct Text {
    var range: Range<Int>
    /// Whether it has backslashes, so that its bytes are not those of the text that it means.
    var isEscaped: Bool
  }

  static let deepestNesting = 512

  let bytes: [UInt8]
  private var place: Int

  /// - Parameter start: the index of the first byte, behind a byte order mark.
  init(_ bytes: [UInt8], start: Int) {
    self.bytes = bytes
    place = start
  }

  // MARK: Structure

  /// The next byte that is no white space; it is not taken.
  mutating func next() throws -> UInt8 {
    while place < bytes.count {
      let byte = bytes[place]
      guard byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 else { return byte }
      place += 1
    }
    throw Invalid()
  }

  /// Takes the byte if it is the next one.
  private mutating func take(_ byte: UInt8) throws -> Bool {
    guard try next() == byte else { return false }
    place += 1
    return true
  }

  private mutating func require(_ byte: UInt8) throws {
    guard try take(byte) else { throw Invalid() }
  }

  /// Checks that nothing but white space follows.
  mutating func end() throws {
    if (try? next()) != nil { throw Invalid() }
  }

  /// Reads an object; `field` gets the name of each field, and must read its value.
  mutating func object(_ field: (inout JSONScanner, Text) throws -> Void) throws {
    try require(UInt8(ascii: "{"))
    if try take(UInt8(ascii: "}")) { return }
    repeat {
      try require(UInt8(ascii: "\""))
      let name = try text()
      try require(UInt8(ascii: ":"))
      try field(&self, name)
    } while try take(UInt8(ascii: ","))
    try require(UInt8(ascii: "}"))
  }

  /// Reads an array; `element` must read each of its elements.
  mutating func array(_ element: (inout JSONScanner) throws -> Void) throws {
    try require(UInt8(ascii: "["))
    if try take(UInt8(ascii: "]")) { return }
    repeat { try element(&self) } while try take(UInt8(ascii: ","))
    try require(UInt8(ascii: "]"))
  }

  /// Reads any value.
  ///
  /// - Parameter depth: how many objects and arrays it is in.
  mutating func scalar(depth: Int) throws -> Scalar {
    switch try next() {
    case UInt8(ascii: "\""):
      place += 1
      return .string(try text())
    case UInt8(ascii: "{"):
      guard depth < Self.deepestNesting else { throw Invalid() }
      try object { scanner, _ in _ = try scanner.scalar(depth: depth + 1) }
      return .other
    case UInt8(ascii: "["):
      guard depth < Self.deepestNesting else { throw Invalid() }
      try array { scanner in _ = try scanner.scalar(depth: depth + 1) }
      return .other
    case UInt8(ascii: "t"): return try word("true", .other)
    case UInt8(ascii: "f"): return try word("false", .other)
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return .number(try number())
    }
  }

  private mutating func word(_ word: StaticString, _ value: Scalar) throws -> Scalar {
    let length = word.utf8CodeUnitCount
    guard bytes.count - place >= length,
      word.withUTF8Buffer({ bytes[place..<place + length].elementsEqual($0) })
    else { throw Invalid() }
    place += length
    return value
  }

  private mutating func number() throws -> Range<Int> {
    let start = place
    func digits() throws {
      let first = place
      while place < bytes.count, bytes[place].isDigit { place += 1 }
      guard place > first else { throw Invalid() }
    }
    func has(_ byte: Character) -> Bool {
      place < bytes.count && bytes[place] == byte.asciiValue
    }
    if has("-") { place += 1 }
    let isZero = has("0")
    let first = place
    try digits()
    guard !isZero || place == first + 1 else { throw Invalid() }
    if has(".") {
      place += 1
      try digits()
    }
    if has("e") || has("E") {
      place += 1
      if has("+") || has("-") { place += 1 }
      try digits()
    }
    return start..<place
  }

  /// Reads a string behind its first quote.
  private mutating func text() throws -> Text {
    let start = place
    var isEscaped = false
    while place < bytes.count {
      switch bytes[place] {
      case UInt8(ascii: "\""):
        place += 1
        return Text(range: start..<place - 1, isEscaped: isEscaped)
      case UInt8(ascii: "\\"):
        isEscaped = true
        place += 2
      case 0..<0x20: throw Invalid()
      default: place += 1
      }
    }
    throw Invalid()
  }

  // MARK: Content

  /// Whether a string is this one; for the names of fields, which need no escapes.
  func isEqual(_ text: Text, _ name: StaticString) -> Bool {
    name.withUTF8Buffer { bytes[text.range].elementsEqual($0) }
  }

  /// The string's value.
  func string(_ text: Text) throws -> String {
    let content = bytes[text.range]
    guard
      let string = String(
        validating: text.isEscaped ? try unescaped(content)[...] : content, as: UTF8.self)
    else { throw Invalid() }
    return string
  }

  /// The bytes that a string means, which has escapes.
  private func unescaped(_ content: ArraySlice<UInt8>) throws -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(content.count)
    var rest = content
    func unit() throws -> UInt32 {
      let digits = rest.prefix(4)
      guard digits.count == 4, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
        let value = UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
      else { throw Invalid() }
      rest = rest.dropFirst(4)
      return value
    }
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\") else {
        result.append(byte)
        continue
      }
      switch rest.popFirst() {
      case UInt8(ascii: "b"): result.append(0x08)
      case UInt8(ascii: "f"): result.append(0x0c)
      case UInt8(ascii: "n"): result.append(0x0a)
      case UInt8(ascii: "r"): result.append(0x0d)
      case UInt8(ascii: "t"): result.append(0x09)
      case UInt8(ascii: "u"):
        var value = try unit()
        if (0xd800..<0xdc00).contains(value) {
          guard rest.starts(with: #"\u"#.utf8) else { throw Invalid() }
          rest = rest.dropFirst(2)
          let low = try unit()
          guard (0xdc00..<0xe000).contains(low) else { throw Invalid() }
          value = 0x10000 + (value - 0xd800) << 10 + (low - 0xdc00)
        }
        guard let scalar = Unicode.Scalar(value) else { throw Invalid() }
        result += Array(String(Character(scalar)).utf8)
      case let byte? where #""\/"#.utf8.contains(byte): result.append(byte)
      default: throw Invalid()
      }
    }
    return result
  }

  /// The number's text.
  func numberText(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
}
