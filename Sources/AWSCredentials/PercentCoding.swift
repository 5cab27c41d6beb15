import Digests
import PrintableText

extension String {
  /// The text with each UTF-8 byte but the unreserved ones of RFC 3986 written as %XX, in capitals,
  /// as the signature requires ("UriEncode" in Amazon's description of Signature Version 4).
  package func percentEncoded(keepingSlashes: Bool) -> String {
    if utf8.allSatisfy({ $0.isUnreserved || (keepingSlashes && $0 == UInt8(ascii: "/")) }) {
      return self
    }
    var encoded: [UInt8] = []
    encoded.reserveCapacity(utf8.count * 2)
    for byte in utf8 {
      if byte.isUnreserved || (keepingSlashes && byte == UInt8(ascii: "/")) {
        encoded.append(byte)
      } else {
        encoded.append(UInt8(ascii: "%"))
        encoded.append(Hexadecimal.digit(byte >> 4, uppercase: true))
        encoded.append(Hexadecimal.digit(byte & 15, uppercase: true))
      }
    }
    return String(decoding: encoded, as: UTF8.self)
  }
}

extension UInt8 {
  /// Whether the byte is a letter, a digit, or one of - . _ ~
  var isUnreserved: Bool {
    isDigit || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20)
      || self == UInt8(ascii: "-") || self == UInt8(ascii: ".") || self == UInt8(ascii: "_")
      || self == UInt8(ascii: "~")
  }
}
