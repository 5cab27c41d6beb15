/// Locks for many things, told apart by number: each has its own, but for those that share one of the 64.
///
/// For what takes a while, as opening a file does, so that one thing does not wait for another. A thread has one of
/// them at a time, or two whose things share one would wait for each other.
public struct StripedLock: Sendable {
  private final class Stripe: Sendable {
    let lock = Lock(())
  }

  private let stripes = (0..<64).map { _ in Stripe() }

  public init() {}

  public func withLock<Result: Sendable, Failure: Error>(
    of number: Int, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try stripes[Int(UInt(bitPattern: number) % UInt(stripes.count))].lock.withLock {
      _ throws(Failure) in try body()
    }
  }
}
