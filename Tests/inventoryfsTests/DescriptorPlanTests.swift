import Testing

@testable import inventoryfs

@Suite struct DescriptorPlanTests {
  @Test("The usual limit changes nothing", arguments: [1024, 524_288])
  func enough(limit: Int) {
    let plan = DescriptorPlan(limit: limit, maxConnections: 32, networkThreadCount: 4)
    #expect(plan.maxConnections == 32)
    #expect(plan.lingeringChunkCount == 32)
    #expect(plan.wantedCount <= limit)
  }

  @Test(
    "With few descriptors, connections and idle chunks leave some to readers",
    arguments: [0, 16, 32, 64, 100, 150])
  func few(limit: Int) {
    let plan = DescriptorPlan(limit: limit, maxConnections: 32, networkThreadCount: 1)
    #expect(plan.wantedCount > limit)
    #expect(plan.maxConnections >= 1)
    let taken =
      DescriptorPlan.baseCount + 2 + plan.maxConnections
      + plan.lingeringChunkCount * DescriptorPlan.countOfChunk
    #expect(taken <= max(limit - (limit >= 64 ? 5 : 0), DescriptorPlan.baseCount + 3))
  }
}
