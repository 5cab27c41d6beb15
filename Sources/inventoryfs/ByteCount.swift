/// A size on the command line: `512MiB`, `20GiB`, `1.5G`, `1000000`. A letter alone or with `iB`
/// stands for a power of 1024, with `B` for a power of 1000. Sizes are less than 1024 PiB, so that
/// sums do not overflow.
struct ByteCount: OptionValue, Equatable {
  static let expectation = "a size of less than 1024PiB, such as 512MiB, 20GiB, 1.5G or 500MB"

  let bytes: Int

  init(bytes: Int) { self.bytes = bytes }

  init?(argument: String) {
    let number = argument.prefix { $0.isNumber || $0 == "." }
    let unit = argument.dropFirst(number.count).drop { $0 == " " }.lowercased()
    guard let value = Double(number), let factor = Self.factor(unit) else { return nil }
    let bytes = (value * factor).rounded()
    guard bytes >= 0, bytes < 0x1p60 else { return nil }
    self.bytes = Int(bytes)
  }

  private static func factor(_ unit: String) -> Double? {
    if unit.isEmpty || unit == "b" { return 1 }
    guard let letter = unit.first, let power = "kmgtp".firstIndex(of: letter) else { return nil }
    let exponent = "kmgtp".distance(from: "kmgtp".startIndex, to: power) + 1
    let base: Double
    switch unit.dropFirst() {
    case "", "ib": base = 1024
    case "b": base = 1000
    default: return nil
    }
    return (0..<exponent).reduce(1) { product, _ in product * base }
  }
}

extension ByteCount {
  var description: String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
    where bytes >= 1 << shift {
      let whole = bytes >> shift
      // A shift binds more tightly than a product.
      let tenth = ((bytes - whole << shift) * 10) >> shift
      return tenth == 0 ? "\(whole)\(unit)" : "\(whole).\(tenth)\(unit)"
    }
    return "\(bytes)B"
  }
}
