extension UInt64 {
  /// Reads digits only, unlike `UInt64("+1")`; nil if there are none or the number does not fit.
  package init?(decimalDigits digits: some Collection<UInt8>) {
    guard !digits.isEmpty else { return nil }
    var number: UInt64 = 0
    for digit in digits {
      guard digit.isDigit else { return nil }
      let (shifted, overflow) = number.multipliedReportingOverflow(by: 10)
      let (sum, carry) = shifted.addingReportingOverflow(UInt64(digit - UInt8(ascii: "0")))
      guard !overflow, !carry else { return nil }
      number = sum
    }
    self = number
  }
}

extension UInt8 {
  /// Whether the byte is the ASCII code of a decimal digit.
  package var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
}
