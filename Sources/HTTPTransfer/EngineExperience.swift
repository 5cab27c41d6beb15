import Locks

extension CurlEngine {
  /// The server's usual response times and speeds, shared by all engines.
  final class Experience: Sendable {
    let patience: Lock<FirstBytePatience>
    let usualSpeed = Lock(UsualSpeed())

    init(_ configuration: Configuration) {
      patience = Lock(FirstBytePatience(longest: configuration.firstByteTimeout))
    }
  }
}
