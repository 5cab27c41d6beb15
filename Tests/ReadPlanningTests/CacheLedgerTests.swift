import Blocks
import ReadPlanning
import TestSupport
import Testing

@Suite("The cache's books")
struct CacheLedgerTests {
  private func segment(_ entry: Int, _ index: Int) -> Segment {
    .init(entry: EntryID(number: entry), index: index)
  }

  @Test("What was used longest ago leaves first; what is in use does not leave")
  func order() {
    var ledger = CacheLedger(boundInBytes: 400)
    for index in 0..<4 { ledger.reserve(segment(1, index), bytes: 100) }
    ledger.pin(segment(1, 0))
    ledger.unpin(segment(1, 0))
    ledger.pin(segment(1, 1))
    let first = ledger.evict(toFit: 200)
    #expect(first == [segment(1, 2), segment(1, 3)])
    let second = ledger.evict(toFit: 300)
    #expect(second == [segment(1, 0)])
    let third = ledger.evict(toFit: 400)
    #expect(third.isEmpty, "segment 1 is pinned")
  }

  @Test("What is to be spared does not leave")
  func sparing() {
    var ledger = CacheLedger(boundInBytes: 500)
    for index in 0..<5 { ledger.reserve(segment(1, index), bytes: 100) }
    ledger.pin(segment(1, 4))
    let spared = [segment(1, 0), segment(1, 2)]
    let first = ledger.evict(toFit: 100, sparing: spared.contains)
    #expect(first == [segment(1, 1)])
    let second = ledger.evict(toFit: 400, sparing: spared.contains)
    #expect(second == [segment(1, 3)])
    let rest = ledger.evict(toFit: 400)
    #expect(rest == spared)
  }

  @Test("Space is free only once the hole has been punched")
  func leaving() {
    var ledger = CacheLedger(boundInBytes: 200)
    ledger.reserve(segment(1, 0), bytes: 200)
    let victims = ledger.evict(toFit: 100)
    #expect(victims == [segment(1, 0)])
    #expect(!ledger.fits(1))
    #expect(ledger.isLeaving(segment(1, 0)) && !ledger.isStored(segment(1, 0)))
    let more = ledger.evict(toFit: 100)
    #expect(more.isEmpty, "enough is leaving already")
    let isEmpty = ledger.evicted(segment(1, 0))
    #expect(isEmpty)
    #expect(ledger.fits(200) && ledger.usedInBytes == 0 && ledger.leavingInBytes == 0)
  }

  @Test("What an earlier run left goes before anything used in this one, oldest first")
  func adoption() {
    var ledger = CacheLedger(boundInBytes: 300)
    ledger.reserve(segment(3, 0), bytes: 100)
    ledger.adopt(segment(2, 0), allocatedInBytes: 100)
    ledger.adopt(segment(1, 0), allocatedInBytes: 100)
    let victims = ledger.evict(toFit: 300)
    #expect(victims == [segment(1, 0), segment(2, 0), segment(3, 0)])
  }

  @Test(
    "The sums agree with the parts through any sequence of events",
    arguments: [1, 2, 3] as [UInt64])
  func sums(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var ledger = CacheLedger(boundInBytes: 10_000)
    var model: [Segment: (bytes: Int, pins: Int)] = [:]
    var leaving: Set<Segment> = []
    for _ in 0..<20_000 {
      let any = segment(
        Int.random(in: 0..<3, using: &generator), Int.random(in: 0..<20, using: &generator))
      switch Int.random(in: 0..<5, using: &generator) {
      case 0 where !leaving.contains(any) && ledger.fits(100):
        ledger.reserve(any, bytes: 100)
        model[any, default: (0, 0)].bytes += 100
      case 1 where model[any] != nil && !leaving.contains(any):
        ledger.pin(any)
        model[any]?.pins += 1
      case 2 where (model[any]?.pins ?? 0) > 0:
        ledger.unpin(any)
        model[any]?.pins -= 1
      case 3:
        for victim in ledger.evict(toFit: Int.random(in: 0..<3000, using: &generator)) {
          #expect(model[victim]?.pins == 0, "seed \(seed)")
          leaving.insert(victim)
        }
      case 4:
        guard let gone = leaving.randomElement(using: &generator) else { continue }
        _ = ledger.evicted(gone)
        leaving.remove(gone)
        model[gone] = nil
      default: continue
      }
      #expect(ledger.usedInBytes == model.values.reduce(0) { $0 + $1.bytes }, "seed \(seed)")
      #expect(ledger.pinnedInBytes == model.values.reduce(0) { $0 + ($1.pins > 0 ? $1.bytes : 0) })
      #expect(ledger.leavingInBytes == leaving.reduce(0) { $0 + (model[$1]?.bytes ?? 0) })
      #expect(ledger.usedInBytes <= ledger.boundInBytes)
    }
  }
}
