import PrintableText
import Testing

@Suite struct PrintableTextTests {
  @Test(
    "Ordinary text stays as it is, in every script",
    arguments: [
      "", "data/a.csv.gz", "prix en €, naïve", "字源", "שלום", "🙂", "a b",
      "a\u{a0}b", "e\u{301}", "\u{fffd}",
    ])
  func ordinary(text: String) {
    #expect(printable(text, limit: 100) == text)
  }

  @Test(
    "What would move the cursor, end the line, hide or reorder text is escaped",
    arguments: [
      ("\u{0}", "0"), ("\u{7}", "7"), ("\t", "9"), ("\n", "a"), ("\r", "d"), ("\u{1b}", "1b"),
      ("\u{7f}", "7f"), ("\u{85}", "85"), ("\u{9b}", "9b"), ("\u{ad}", "ad"), ("\u{200b}", "200b"),
      ("\u{200d}", "200d"), ("\u{200e}", "200e"), ("\u{202a}", "202a"), ("\u{202e}", "202e"),
      ("\u{2028}", "2028"), ("\u{2029}", "2029"), ("\u{2066}", "2066"), ("\u{2069}", "2069"),
      ("\u{feff}", "feff"), ("\u{e000}", "e000"), ("\u{e0041}", "e0041"),
    ])
  func escaped(text: String, number: String) {
    #expect(printable("a\(text)b", limit: 100) == "a\\u{\(number)}b")
  }

  @Test("No control or format character is left, whichever scalars a text has")
  func everyScalar() {
    for value in UInt32(0)...0x10ffff {
      guard let scalar = Unicode.Scalar(value) else { continue }
      let text = printable(String(Character(scalar)), limit: 1)
      let isClean = text.unicodeScalars.allSatisfy {
        switch $0.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse,
          .surrogate:
          false
        default: true
        }
      }
      if !isClean || text.isEmpty { Issue.record("U+\(String(value, radix: 16))") }
    }
  }

  @Test("The two characters of a line's end are escaped as two, not lost as one")
  func lineEnd() {
    #expect(printable("a\r\nb", limit: 100) == "a\\u{d}\\u{a}b")
    #expect(printable("a\r\nb", limit: 2) == "a\\u{d}…")
  }

  @Test("Bytes that are no UTF-8 are shown as U+FFFD")
  func invalid() {
    let text = String(decoding: [0x61, 0xff, 0xc3, 0x62, 0xed, 0xa0, 0x80], as: UTF8.self)
    #expect(printable(text, limit: 100) == "a\u{fffd}\u{fffd}b\u{fffd}\u{fffd}\u{fffd}")
  }

  @Test("A text of as many scalars as the limit is whole; one more, and the cut is shown")
  func limit() {
    #expect(printable("abc", limit: 3) == "abc")
    #expect(printable("abc", limit: 4) == "abc")
    #expect(printable("abcd", limit: 3) == "abc…")
    #expect(printable("abcd", limit: 0) == "…")
    #expect(printable("", limit: 0) == "")
    #expect(printable("abc", limit: .max) == "abc")
  }

  @Test("The limit counts scalars, also within a character, and an escape counts as one")
  func scalars() {
    let decomposed = "e\u{301}e\u{301}"
    #expect(printable(decomposed, limit: 4) == decomposed)
    #expect(printable(decomposed, limit: 3) == "e\u{301}e…")
    #expect(printable("字字字", limit: 2) == "字字…")
    #expect(printable("\u{1b}\u{1b}\u{1b}", limit: 2) == "\\u{1b}\\u{1b}…")
    // One character of a thousand marks is no way round it.
    let long = "e" + String(repeating: "\u{301}", count: 1000)
    #expect(printable(long, limit: 10).unicodeScalars.count == 11)
  }

  @Test("A part of a text is as good as a text")
  func substring() {
    #expect(printable("ab\u{1b}cd".dropFirst().dropLast(), limit: 9) == "b\\u{1b}c")
  }
}
