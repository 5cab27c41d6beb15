extension CurlEngine {
  /// The limits of an engine and of each of its transfers.
  package struct Configuration: Sendable {
    package var maxConnections = 32
    package var receiveBufferSizeInBytes = 256 << 10
    package var connectTimeout: Duration = .seconds(10)
    /// A request whose response has not begun after this time has failed; the timeout is usually
    /// shorter (`FirstBytePatience`).
    package var firstByteTimeout: Duration = .seconds(15)
    /// A transfer slower than this many bytes per second for `stallTimeout` has failed.
    package var stallBytesPerSecond = 1 << 10
    package var stallTimeout: Duration = .seconds(15)

    package init() {}

    /// Limits with which a reader that waits for `readTimeout` at most sees several attempts.
    package mutating func allowAttempts(within readTimeout: Duration) {
      // libcurl measures a transfer's speed in whole seconds.
      let share = max(.seconds(1), readTimeout / 4)
      connectTimeout = min(connectTimeout, share)
      firstByteTimeout = min(firstByteTimeout, share)
      stallTimeout = min(stallTimeout, share)
    }
  }
}
