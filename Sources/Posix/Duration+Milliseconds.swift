extension Duration {
  /// The duration in whole milliseconds, rounded down, as libcurl and libdispatch take them.
  package var inMilliseconds: Int {
    Int(components.seconds) * 1000 + Int(components.attoseconds / 1_000_000_000_000_000)
  }

  /// The duration as messages show it, without needless digits: `75 ms`, `15 s`, `2.5 s`.
  package var roundedText: String {
    guard self >= .seconds(1) else { return "\(inMilliseconds) ms" }
    let tenths = (inMilliseconds + 50) / 100
    return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\(tenths % 10) s"
  }
}
