/// A lock for each key, there while somebody has it or waits for it.
///
/// For what takes a while, as opening a file does, so that one thing does not wait for another.
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

  /// How many keys somebody has or waits for.
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
