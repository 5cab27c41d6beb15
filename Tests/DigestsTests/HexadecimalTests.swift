import Digests
import Testing

@Suite struct HexadecimalTests {
  @Test("Every byte comes back from its digits, in either case")
  func roundTrip() {
    let bytes = Array(UInt8.min...UInt8.max)
    let text = Hexadecimal.text(bytes)
    #expect(text.hasPrefix("000102") && text.hasSuffix("fdfeff"))
    #expect(Hexadecimal.bytes(text) == bytes)
    #expect(Hexadecimal.bytes(text.uppercased()) == bytes)
    #expect(Hexadecimal.bytes("") == [])
  }

  @Test(
    "What is not pairs of digits is nil",
    arguments: ["0", "012", "0g", "g0", "+1", "-1", " 1", "0x", "1 ", "１２", "\u{0}0"])
  func noDigits(text: String) {
    #expect(Hexadecimal.bytes(text) == nil)
  }

  @Test("A digit is ASCII, in the case that is asked for")
  func digits() {
    let values = UInt8(0)..<16
    #expect(
      String(decoding: values.map { Hexadecimal.digit($0) }, as: UTF8.self) == "0123456789abcdef")
    #expect(
      String(decoding: values.map { Hexadecimal.digit($0, uppercase: true) }, as: UTF8.self)
        == "0123456789ABCDEF")
    let digits = (UInt8.min...UInt8.max).filter { Hexadecimal.value(ofDigit: $0) != nil }
    #expect(String(decoding: digits, as: UTF8.self) == "0123456789ABCDEFabcdef")
  }
}
