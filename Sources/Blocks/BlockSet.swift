/// A set of block indices of one chunk, one bit each: which blocks are present, which are checked.
///
/// Looking for the next absent or present block goes word by word, so a scan of a 200 MB chunk is
/// 50 words.
public struct BlockSet: Sendable, Equatable {
  public let blockCount: Int
  private var words: [UInt64]

  public init(blockCount: Int) {
    self.blockCount = blockCount
    words = Array(repeating: 0, count: (blockCount + 63) / 64)
  }

  public func contains(_ block: Int) -> Bool {
    block >= 0 && block < blockCount && words[block >> 6] & (1 << UInt64(block & 63)) != 0
  }

  public func containsAll(_ blocks: Range<Int>) -> Bool { firstAbsent(in: blocks) == nil }

  public var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

  public var isFull: Bool { containsAll(0..<blockCount) }

  /// How many blocks are in the set.
  public var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

  public func count(in blocks: Range<Int>) -> Int {
    var total = 0
    Self.forEachWord(of: blocks.clamped(to: 0..<blockCount)) { index, mask in
      total += (words[index] & mask).nonzeroBitCount
    }
    return total
  }

  public mutating func insert(_ block: Int) { insert(block..<block + 1) }

  public mutating func insert(_ blocks: Range<Int>) {
    Self.forEachWord(of: blocks.clamped(to: 0..<blockCount)) { words[$0] |= $1 }
  }

  public mutating func remove(_ blocks: Range<Int>) {
    Self.forEachWord(of: blocks.clamped(to: 0..<blockCount)) { words[$0] &= ~$1 }
  }

  /// The first block of `blocks` that is not in the set.
  public func firstAbsent(in blocks: Range<Int>) -> Int? { first(in: blocks, inverted: true) }

  /// The first block of `blocks` that is in the set.
  public func firstPresent(in blocks: Range<Int>) -> Int? { first(in: blocks, inverted: false) }

  /// The runs of blocks inside `blocks` that are in the set, in order.
  public func presentRuns(in blocks: Range<Int>) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    var next = blocks.lowerBound
    while next < blocks.upperBound, let start = firstPresent(in: next..<blocks.upperBound) {
      let end = firstAbsent(in: start..<blocks.upperBound) ?? blocks.upperBound
      runs.append(start..<end)
      next = end
    }
    return runs
  }

  private func first(in blocks: Range<Int>, inverted: Bool) -> Int? {
    let blocks = blocks.clamped(to: 0..<blockCount)
    guard !blocks.isEmpty else { return nil }
    var index = blocks.lowerBound >> 6
    var mask = ~UInt64(0) << UInt64(blocks.lowerBound & 63)
    while index << 6 < blocks.upperBound {
      let hits = (inverted ? ~words[index] : words[index]) & mask
      if hits != 0 {
        let found = index << 6 + hits.trailingZeroBitCount
        return found < blocks.upperBound ? found : nil
      }
      index += 1
      mask = ~0
    }
    return nil
  }

  private static func forEachWord(
    of blocks: Range<Int>, _ body: (_ index: Int, _ mask: UInt64) -> Void
  ) {
    var next = blocks.lowerBound
    while next < blocks.upperBound {
      let index = next >> 6
      let end = min((index + 1) << 6, blocks.upperBound)
      let low = ~UInt64(0) << UInt64(next & 63)
      let high = end & 63 == 0 ? ~UInt64(0) : ~(~UInt64(0) << UInt64(end & 63))
      body(index, low & high)
      next = end
    }
  }
}
