/// A digest function that takes its bytes piece by piece. It is a value: a copy continues
/// independently.
public protocol DigestFunction: Sendable {
  init()

  /// Appends `bytes`, of any count, to what has been taken so far.
  mutating func update(_ bytes: UnsafeRawBufferPointer)

  /// The digest of everything taken so far, first byte first. More may be taken afterwards.
  func digest() -> [UInt8]
}

extension DigestFunction {
  /// Appends `bytes` to what has been taken so far.
  public mutating func update(_ bytes: some Sequence<UInt8>) {
    // The closure's buffer holds the sequence's own bytes, or else a copy of them, and both outlive
    // the closure.
    if bytes.withContiguousStorageIfAvailable({ update(UnsafeRawBufferPointer($0)) }) == nil {
      Array(bytes).withUnsafeBytes { update($0) }
    }
  }

  /// Appends the UTF-8 of `text` to what has been taken so far.
  public mutating func update(_ text: some StringProtocol) { update(text.utf8) }

  /// The digest of `bytes`, first byte first.
  public static func digest(of bytes: some Sequence<UInt8>) -> [UInt8] {
    var function = Self()
    function.update(bytes)
    return function.digest()
  }

  /// The digest of the UTF-8 of `text`, first byte first.
  public static func digest(of text: some StringProtocol) -> [UInt8] { digest(of: text.utf8) }
}
