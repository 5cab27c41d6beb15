import ArgumentParser

/// A duration on the command line: `60` and `60s` are seconds, `500ms`, `2m`, `1h`. More than nothing, at most a day.
struct TimeSpan: ExpressibleByArgument {
  let duration: Duration

  init(_ duration: Duration) { self.duration = duration }

  init?(argument: String) {
    let number = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let units = ["": 1, "s": 1, "ms": 0.001, "m": 60, "h": 3600]
    guard let value = Double(number), let unit = units[String(argument.dropFirst(number.count))],
      value > 0, value * unit <= 86_400
    else { return nil }
    duration = .seconds(value * unit)
  }

  var defaultValueDescription: String { "\(Int(duration.components.seconds))s" }
}
