/// One lock per key, which exists while a thread holds it or waits for it.
///
/// It guards operations that take a while, such as opening a file, so that an operation on one key
/// does not wait for those on other keys.
public final class KeyedLock<Key: Hashable & Sendable>: Sendable {
  private final class KeyLock: Sendable {
    let lock = Lock(())
  }

  private let users = Lock([Key: (lock: KeyLock, count: Int)]())

  public init() {}

  public func withLock<Result: Sendable, Failure: Error>(
    of key: Key, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let lock = enter(key)
    defer { leave(key) }
    return try lock.lock.withLock { _ throws(Failure) in try body() }
  }

  /// How many keys some thread holds or waits for.
  package var count: Int { users.withLock { $0.count } }

  private func enter(_ key: Key) -> KeyLock {
    users.withLock { users in
      let (lock, count) = users[key] ?? (KeyLock(), 0)
      users[key] = (lock, count + 1)
      return lock
    }
  }

  private func leave(_ key: Key) {
    users.withLock { users in
      guard let (lock, count) = users[key] else { return }
      users[key] = count > 1 ? (lock, count - 1) : nil
    }
  }
}
