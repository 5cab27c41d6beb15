import PrintableText

/// A moment as HTTP headers write it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7,
/// IMF-fixdate). The two obsolete forms, which no store sends, are not read.
public struct HTTPDate: Sendable, Equatable {
  public let secondsSinceEpoch: Int64

  /// Reads a date; nil for other text, and for a day that does not exist. The weekday is not
  /// compared with the day.
  public init?(parsing text: some StringProtocol) {
    let text = Array(text.utf8)
    // The separators between the fields, each at its fixed position.
    guard text.count == 29, text[3...4].elementsEqual(", ".utf8), text[7] == 0x20,
      text[11] == 0x20, text[16] == 0x20, text[19] == 0x3a, text[22] == 0x3a,
      text[25...].elementsEqual(" GMT".utf8),
      let month = Self.months.firstIndex(where: { $0.utf8.elementsEqual(text[8..<11]) }),
      let day = Int64(digits: text[5..<7]), let year = Int64(digits: text[12..<16]),
      let hour = Int64(digits: text[17..<19]), let minute = Int64(digits: text[20..<22]),
      let second = Int64(digits: text[23..<25]),
      hour < 24, minute < 60, second < 61, year >= 1970
    else { return nil }
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let lengths: [Int64] = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    guard (1...lengths[month]).contains(day) else { return nil }
    let previous = year - 1
    let leapDays = previous / 4 - previous / 100 + previous / 400 - 477
    let days = (year - 1970) * 365 + leapDays + lengths[..<month].reduce(0, +) + day - 1
    secondsSinceEpoch = days * 86_400 + hour * 3600 + minute * 60 + second
  }

  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]
}

extension Int64 {
  fileprivate init?(digits: ArraySlice<UInt8>) {
    guard let number = UInt64(decimalDigits: digits) else { return nil }
    self.init(clamping: number)
  }
}
