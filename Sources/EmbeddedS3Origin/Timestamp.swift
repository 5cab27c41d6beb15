import Glibc

/// A second in UTC, and the three ways in which S3 writes it.
struct Timestamp: Sendable, Hashable {
  let secondsSince1970: Int

  init(secondsSince1970: Int) {
    self.secondsSince1970 = secondsSince1970
  }

  static func now(offset: Duration = .zero) -> Timestamp {
    Timestamp(secondsSince1970: time(nil) + Int(offset.components.seconds))
  }

  static var millisecondsSince1970: Int {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec * 1000 + now.tv_nsec / 1_000_000
  }

  /// Reads `20260131T235959Z`, the form of x-amz-date; nil for other text.
  init?(basicFormat text: String) {
    let bytes = Array(text.utf8)
    guard bytes.count == 16, bytes[8] == UInt8(ascii: "T"), bytes[15] == UInt8(ascii: "Z") else {
      return nil
    }
    func number(_ range: Range<Int>) -> Int32? {
      var value: Int32 = 0
      for byte in bytes[range] {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
        value = value * 10 + Int32(byte - UInt8(ascii: "0"))
      }
      return value
    }
    guard let year = number(0..<4), let month = number(4..<6), let day = number(6..<8),
      let hour = number(9..<11), let minute = number(11..<13), let second = number(13..<15),
      (1...12).contains(month), (1...31).contains(day)
    else { return nil }
    var fields = tm()
    fields.tm_year = year - 1900
    fields.tm_mon = month - 1
    fields.tm_mday = day
    fields.tm_hour = hour
    fields.tm_min = minute
    fields.tm_sec = second
    secondsSince1970 = timegm(&fields)
  }

  /// The form `Sat, 31 Jan 2026 23:59:59 GMT` of the Date and Last-Modified headers.
  var httpDate: String {
    let fields = utc
    let day = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][Int(fields.tm_wday)]
    let month = [
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ][Int(fields.tm_mon)]
    return "\(day), \(padded(fields.tm_mday)) \(month) \(fields.tm_year + 1900) "
      + "\(padded(fields.tm_hour)):\(padded(fields.tm_min)):\(padded(fields.tm_sec)) GMT"
  }

  /// The form `2026-01-31T23:59:59.000Z` of XML.
  var iso8601: String {
    let fields = utc
    return "\(fields.tm_year + 1900)-\(padded(fields.tm_mon + 1))-\(padded(fields.tm_mday))T"
      + "\(padded(fields.tm_hour)):\(padded(fields.tm_min)):\(padded(fields.tm_sec)).000Z"
  }

  private var utc: tm {
    var seconds = secondsSince1970
    var fields = tm()
    gmtime_r(&seconds, &fields)
    return fields
  }

  private func padded(_ number: Int32) -> String {
    number < 10 ? "0\(number)" : "\(number)"
  }
}
