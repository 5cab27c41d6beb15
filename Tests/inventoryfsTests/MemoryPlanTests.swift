import Testing

@testable import inventoryfs

@Suite("What a mount's memory follows from")
struct MemoryPlanTests {
  private static let mebibyte = 1 << 20

  private func plan(_ mebibytes: Int, connections: Int = 32, threads: Int = 1) -> MemoryPlan? {
    MemoryPlan(
      limitInBytes: mebibytes * Self.mebibyte, maxConnections: connections, threadCount: 6,
      networkThreadCount: threads)
  }

  @Test("The default, and four network threads, fit in 64 MiB with everything that was asked for")
  func plenty() {
    for threads in [1, 4] {
      let plan = plan(64, threads: threads)
      #expect(plan?.maxConnections == 32)
      #expect(plan?.receiveBufferSizeInBytes == 256 << 10)
      #expect(plan?.networkThreadCount == threads)
    }
  }

  @Test("Where the limit is low, buffers shrink, then threads and at last connections become fewer")
  func scarce() {
    var last = plan(64, threads: 4)
    for mebibytes in (34...63).reversed() {
      let plan = plan(mebibytes, threads: 4)
      #expect((plan?.peakInBytes ?? .max) <= mebibytes * Self.mebibyte)
      if let plan, plan.networkThreadCount < 4 {
        #expect(plan.receiveBufferSizeInBytes == 32 << 10)
      }
      if let plan, plan.maxConnections < 32 { #expect(plan.networkThreadCount == 1) }
      #expect((plan?.maxConnections ?? 0) <= (last?.maxConnections ?? 0))
      last = plan
    }
    #expect(last?.networkThreadCount == 1)
    #expect((1..<32).contains(last?.maxConnections ?? 0))
  }

  @Test("There are no more network threads than connections, and one connection at least")
  func smallest() {
    #expect(plan(64, connections: 2, threads: 4)?.networkThreadCount == 2)
    let smallest = MemoryPlan.smallestLimitInBytes(threadCount: 6)
    func planned(_ bytes: Int) -> MemoryPlan? {
      MemoryPlan(limitInBytes: bytes, maxConnections: 32, threadCount: 6, networkThreadCount: 4)
    }
    // In whole MiB, which may be enough for a few connections more.
    #expect(smallest.isMultiple(of: Self.mebibyte))
    #expect(planned(smallest) != nil)
    #expect(planned(smallest - Self.mebibyte) == nil)
  }
}
