/// A Range header with one range (RFC 9110, 14.1.2), before the object's size is known.
enum ByteRange: Equatable, Sendable {
  /// `bytes=first-last` or, without `last`, `bytes=first-`. Both ends belong to it.
  case from(first: Int, last: Int?)
  /// `bytes=-count`: the last bytes of the object.
  case suffix(count: Int)

  /// Reads a header; nil if it is malformed or asks for several ranges: S3 then sends the whole
  /// object.
  init?(header: String) {
    let unit = "bytes="
    guard header.hasPrefix(unit) else { return nil }
    let spec = header.dropFirst(unit.count)
    guard let dash = spec.utf8.firstIndex(of: UInt8(ascii: "-")) else { return nil }
    let before = spec[..<dash]
    let after = spec[spec.utf8.index(after: dash)...]
    switch (before.isEmpty, after.isEmpty) {
    case (true, true): return nil
    case (true, false):
      guard let count = Self.number(after) else { return nil }
      self = .suffix(count: count)
    case (false, true):
      guard let first = Self.number(before) else { return nil }
      self = .from(first: first, last: nil)
    case (false, false):
      guard let first = Self.number(before), let last = Self.number(after), first <= last else {
        return nil
      }
      self = .from(first: first, last: last)
    }
  }

  /// The bytes meant in an object of this size; nil if there are none (416).
  func resolved(sizeInBytes: Int) -> Range<Int>? {
    switch self {
    case .from(let first, let last):
      guard first < sizeInBytes else { return nil }
      return first..<min(last ?? Int.max, sizeInBytes - 1) + 1
    case .suffix(let count):
      guard count > 0, sizeInBytes > 0 else { return nil }
      return max(0, sizeInBytes - count)..<sizeInBytes
    }
  }

  /// Whether the range touches these bytes, as far as that is known without the size: a suffix does
  /// not.
  func overlaps(_ bytes: Range<Int>) -> Bool {
    switch self {
    case .from(let first, let last):
      first < bytes.upperBound && last ?? Int.max >= bytes.lowerBound
    case .suffix: false
    }
  }

  /// Reads digits only; a number too large for an Int becomes the largest one.
  private static func number(_ text: Substring) -> Int? {
    guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
      return nil
    }
    return Int(text) ?? Int.max
  }
}
