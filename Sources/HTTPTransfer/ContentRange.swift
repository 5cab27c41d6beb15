import PrintableText

/// The value of a Content-Range header: which bytes of an object an answer holds.
///
/// It is read strictly (RFC 9110, 14.4), because the bytes are written where it says: a number that
/// does not fit, a range that is not within the object, or a total that is unknown make it
/// unusable.
public struct ContentRange: Sendable, Hashable, CustomStringConvertible {
  /// The bytes in the answer; nil for `bytes */TOTAL`, with which a store refuses a range (status
  /// 416).
  public let range: Range<UInt64>?
  /// The object's length.
  public let totalSizeInBytes: UInt64

  /// Reads `bytes FIRST-LAST/TOTAL` or `bytes */TOTAL`; nil for anything else.
  public init?(parsing text: some StringProtocol) {
    let words = text.utf8.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
    guard words.count == 2, words[0].count == 5,
      zip(words[0], "bytes".utf8).allSatisfy({ $0 | 0x20 == $1 })
    else { return nil }
    let parts = words[1].split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard parts.count == 2, let total = UInt64(decimalDigits: parts[1]) else { return nil }
    totalSizeInBytes = total
    if parts[0].elementsEqual("*".utf8) {
      range = nil
      return
    }
    let ends = parts[0].split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
    guard ends.count == 2, let first = UInt64(decimalDigits: ends[0]),
      let last = UInt64(decimalDigits: ends[1]), first <= last, last < total
    else { return nil }
    range = first..<last + 1
  }

  public var description: String {
    let bytes = range.map { "\($0.lowerBound)-\($0.upperBound - 1)" } ?? "*"
    return "bytes \(bytes)/\(totalSizeInBytes)"
  }
}
