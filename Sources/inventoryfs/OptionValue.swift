import ArgumentParser

/// The value of an option, which says what it is to be where it is not.
protocol OptionValue: CustomStringConvertible {
  /// What a value looks like, with its bounds; comes after "expected".
  static var expectation: String { get }

  init?(argument: String)
}

extension OptionValue {
  /// For `@Option(transform:)`, whose messages end with what is thrown.
  static func parse(_ argument: String) throws -> Self {
    guard let value = Self(argument: argument) else {
      throw ValidationError("expected \(expectation)")
    }
    return value
  }
}
