import HTTPTransfer
import Testing

@Suite struct EnginePoolTests {
  @Test(
    "Places are handed out so that no thread has more than its share of the connections",
    arguments: [(1, 4), (2, 5), (3, 32), (4, 3)])
  func shares(threadCount: Int, maxConnections: Int) throws {
    var configuration = CurlEngine.Configuration()
    configuration.maxConnections = maxConnections
    let pool = try #require(EnginePool(threadCount: threadCount, configuration))
    defer { pool.stop() }
    let most = (maxConnections + min(threadCount, maxConnections) - 1) / threadCount
    var places = (0..<maxConnections).map { _ in pool.take() }
    for round in 0..<20 {
      let counts = Dictionary(grouping: places, by: \.number).mapValues(\.count)
      #expect(counts.count == min(threadCount, maxConnections))
      #expect(counts.values.allSatisfy { $0 <= max(1, most) })
      for _ in 0..<min(3, maxConnections) {
        pool.leave(places.remove(at: round * 7 % places.count))
      }
      while places.count < maxConnections { places.append(pool.take()) }
    }
  }
}
