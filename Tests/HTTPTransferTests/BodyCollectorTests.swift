import Locks
import Testing

@testable import HTTPTransfer

@Suite("Joining the pieces of bodies")
struct BodyCollectorTests {
  /// What the receivers got: whose bytes, and which.
  private struct Delivery: Equatable {
    var name: String
    var bytes: [UInt8]
  }

  private final class Deliveries: Sendable {
    private let list = Lock<[Delivery]>([])
    var all: [Delivery] { list.withLock { $0 } }

    /// A transfer that takes `count` deliveries and refuses the next.
    func transfer(_ name: String, taking count: Int = .max) -> CurlTransfer {
      let rest = Lock(count)
      return CurlTransfer(
        url: "", headers: [], isHead: false, onHeader: { _ in true },
        onBody: { bytes in
          let isTaken = rest.withLock { rest in
            rest -= 1
            return rest >= 0
          }
          if isTaken { self.list.withLock { $0.append(Delivery(name: name, bytes: Array(bytes))) } }
          return isTaken
        },
        onEnd: { _ in })
    }
  }

  private let deliveries = Deliveries()
  private let collector = BodyCollector(capacityInBytes: 8)

  private func append(_ bytes: [UInt8], of transfer: CurlTransfer) {
    bytes.withUnsafeBytes { collector.append($0, of: transfer) }
  }

  @Test("Pieces of one body are handed on as one, at the latest when asked to")
  func joined() {
    let a = deliveries.transfer("a")
    for piece in [[1, 2], [3], [4, 5]] as [[UInt8]] { append(piece, of: a) }
    #expect(deliveries.all == [])
    collector.flush()
    collector.flush()
    #expect(deliveries.all == [Delivery(name: "a", bytes: [1, 2, 3, 4, 5])])
  }

  @Test("A piece that does not fit, or is another body's, sends on what is there; order is kept")
  func order() {
    let a = deliveries.transfer("a")
    let b = deliveries.transfer("b")
    append([1, 2, 3, 4, 5], of: a)
    append([6, 7, 8, 9], of: a)
    append([1], of: b)
    append([UInt8](2..<12), of: b)
    append([12], of: b)
    collector.flush()
    let expected = [
      Delivery(name: "a", bytes: [1, 2, 3, 4, 5]), Delivery(name: "a", bytes: [6, 7, 8, 9]),
      Delivery(name: "b", bytes: [1]), Delivery(name: "b", bytes: [UInt8](2..<12)),
      Delivery(name: "b", bytes: [12]),
    ]
    #expect(deliveries.all == expected)
  }

  @Test("A receiver that has refused gets nothing more")
  func refusal() {
    let a = deliveries.transfer("a", taking: 1)
    append([1], of: a)
    collector.flush()
    #expect(!a.isRefused)
    append([2], of: a)
    collector.flush()
    #expect(a.isRefused)
    append([3], of: a)
    collector.flush()
    #expect(deliveries.all == [Delivery(name: "a", bytes: [1])])
  }
}
