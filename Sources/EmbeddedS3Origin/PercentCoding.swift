import Digests

/// Percent-coding of keys and query values, byte for byte: a key is what its bytes say.
enum PercentCoding {
  /// Undoes the escapes. Nil if an escape is malformed or the outcome is not UTF-8.
  /// In a query, and only there, S3 reads `+` as a space.
  static func decode(_ text: some StringProtocol, plusIsSpace: Bool = false) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8.makeIterator()
    while let byte = rest.next() {
      switch byte {
      case UInt8(ascii: "%"):
        guard let high = rest.next().flatMap(Hexadecimal.value),
          let low = rest.next().flatMap(Hexadecimal.value)
        else { return nil }
        bytes.append(high << 4 | low)
      case UInt8(ascii: "+") where plusIsSpace:
        bytes.append(UInt8(ascii: " "))
      default:
        bytes.append(byte)
      }
    }
    return String(validating: bytes, as: UTF8.self)
  }

  /// The form that SigV4 prescribes: all but unreserved characters escaped, upper-case digits.
  static func encode(_ text: some StringProtocol, keepingSlash: Bool = false) -> String {
    var encoded = ""
    for byte in text.utf8 {
      if isUnreserved(byte) || (keepingSlash && byte == UInt8(ascii: "/")) {
        encoded.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        encoded += "%"
        for half in [byte >> 4, byte & 15] {
          encoded.unicodeScalars.append(
            Unicode.Scalar(Hexadecimal.digit(half, uppercase: true)))
        }
      }
    }
    return encoded
  }

  /// The form of `encoding-type=url` in a listing: a form field's, with the slash left alone.
  static func encodeForListing(_ text: String) -> String {
    String(encode(text, keepingSlash: true).replacing("%20", with: "+"))
  }

  private static func isUnreserved(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "_"), UInt8(ascii: "~"):
      true
    default: false
    }
  }
}
