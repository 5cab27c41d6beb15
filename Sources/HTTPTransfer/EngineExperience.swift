import Locks

extension CurlEngine {
  /// What is usual of the server's answers, which is known once for all engines.
  final class Experience: Sendable {
    let patience: Lock<FirstBytePatience>
    let usualSpeed = Lock(UsualSpeed())

    init(_ configuration: Configuration) {
      patience = Lock(FirstBytePatience(longest: configuration.firstByteTimeout))
    }
  }
}
