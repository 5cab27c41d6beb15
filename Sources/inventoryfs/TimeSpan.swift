/// A duration on the command line: `60` or `60s` for seconds, `500ms`, `2m`, `1h`. It is more than
/// zero and at most a day.
struct TimeSpan: OptionValue {
  static let expectation = "more than 0 and at most 24h, such as 60, 90s, 500ms, 2m or 1h"

  let duration: Duration

  init(_ duration: Duration) { self.duration = duration }

  init?(argument: String) {
    let number = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let units = ["": 1, "s": 1, "ms": 0.001, "m": 60, "h": 3600]
    guard let value = Double(number), let unit = units[String(argument.dropFirst(number.count))],
      value * unit <= 86_400
    else { return nil }
    duration = .seconds(value * unit)
    // A value of less than an attosecond has become zero.
    guard duration > .zero else { return nil }
  }

  /// The duration in whole seconds, or else in milliseconds.
  var description: String {
    let (seconds, attoseconds) = duration.components
    return attoseconds == 0
      ? "\(seconds)s" : "\(seconds * 1000 + attoseconds / 1_000_000_000_000_000)ms"
  }
}
