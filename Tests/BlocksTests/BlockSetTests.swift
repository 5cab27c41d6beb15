import Blocks
import TestSupport
import Testing

@Suite("Block sets and grids")
struct BlockSetTests {
  @Test("A block set answers like a plain set of integers", arguments: [1, 2, 3] as [UInt64])
  func matchesModel(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let count = Int.random(in: 1...300, using: &generator)
    var blocks = BlockSet(blockCount: count)
    var model: Set<Int> = []
    for _ in 0..<2000 {
      let start = Int.random(in: 0...count, using: &generator)
      let range = start..<Int.random(in: start...count, using: &generator)
      switch Int.random(in: 0..<3, using: &generator) {
      case 0:
        blocks.insert(range)
        model.formUnion(range)
      case 1:
        blocks.remove(range)
        model.subtract(range)
      default:
        #expect(
          blocks.firstAbsent(in: range) == range.first { !model.contains($0) }, "seed \(seed)")
        #expect(
          blocks.firstPresent(in: range) == range.first { model.contains($0) }, "seed \(seed)")
        #expect(blocks.containsAll(range) == range.allSatisfy(model.contains), "seed \(seed)")
        #expect(blocks.count(in: range) == range.count(where: model.contains), "seed \(seed)")
        #expect(blocks.presentRuns(in: range).flatMap { $0 } == range.filter(model.contains))
      }
    }
    #expect(blocks.count == model.count)
    #expect((0..<count).allSatisfy { blocks.contains($0) == model.contains($0) })
  }

  @Test("Segments take what their blocks take, and only those that hold some are named")
  func segments() {
    var generator = SeededGenerator(seed: 4)
    for size in [0, 1, 3_000_000, 10 << 20] {
      let grid = BlockGrid(sizeInBytes: size)
      var blocks = BlockSet(blockCount: grid.blockCount)
      for block in 0..<grid.blockCount where Bool.random(using: &generator) {
        blocks.insert(block..<block + 1)
      }
      var expected: [Int: Int] = [:]
      for block in 0..<grid.blockCount where blocks.contains(block) {
        expected[block / 16, default: 0] += grid.allocatedBytes(of: block..<block + 1)
      }
      let found = grid.segments(holding: blocks)
      #expect(found.map(\.index) == expected.keys.sorted())
      #expect(found.allSatisfy { expected[$0.index] == $0.allocatedInBytes })
    }
  }

  @Test("The last block ends with the chunk, and is rounded up on disk only")
  func lastBlock() {
    let grid = BlockGrid(sizeInBytes: 100_000)
    #expect(grid.blockCount == 2)
    #expect(grid.bytes(of: 1..<2) == 65536..<100_000)
    #expect(grid.allocatedBytes(of: 1..<2) == 36864)
    #expect(grid.blocks(inside: 1..<100_000) == 1..<2)
    #expect(grid.blocks(inside: 0..<99_999) == 0..<1)
    #expect(grid.blocks(covering: 65535..<65537) == 0..<2)
    #expect(grid.blocks(covering: 100_000..<200_000).isEmpty)
    #expect(BlockGrid(sizeInBytes: 0).blockCount == 0)
  }
}
