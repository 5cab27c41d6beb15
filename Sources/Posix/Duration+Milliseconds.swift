extension Duration {
  /// Whole milliseconds, as libcurl and libdispatch take them.
  package var inMilliseconds: Int {
    Int(components.seconds) * 1000 + Int(components.attoseconds / 1_000_000_000_000_000)
  }
}
