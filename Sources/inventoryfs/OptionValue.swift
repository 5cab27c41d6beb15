import ArgumentParser

/// The value of an option, whose type describes the values that it accepts.
protocol OptionValue: CustomStringConvertible {
  /// The form of a value, with its bounds; messages show it after "expected".
  static var expectation: String { get }

  init?(argument: String)
}

extension OptionValue {
  /// Parses a value for `@Option(transform:)`, whose messages end with the error thrown here.
  static func parse(_ argument: String) throws -> Self {
    guard let value = Self(argument: argument) else {
      throw ValidationError("expected \(expectation)")
    }
    return value
  }
}
