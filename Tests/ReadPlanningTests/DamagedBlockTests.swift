import Blocks
import ReadPlanning
import Testing

@Suite struct DamagedBlockTests {
  @Test("A damaged block is handed out once it has come anew as a whole, and not before")
  func handedOutWhole() throws {
    let chunk = ChunkID(index: 0)
    let handle = HandleID(number: 1)
    let block = BlockGrid.blockSizeInBytes
    var present = BlockSet(blockCount: 2)
    present.insert(0..<2)
    var planner = FetchPlanner(maxConnections: 4, cacheBoundInBytes: 64 << 20)
    _ = planner.cacheIsKnown()
    planner.load(
      chunk, sizeInBytes: 2 * block, entry: EntryID(number: 1), overheadInBytes: 4096,
      present: present, isVersionKnown: true, opening: 0..<block)
    _ = planner.open(chunk, handle: handle, wait: WaitID(number: 1))
    #expect(
      planner.read(chunk, handle: handle, bytes: 0..<100, wait: WaitID(number: 2)).0 == .present)
    planner.discarded(chunk, blocks: 0..<1)
    _ = planner.finishedReading(chunk, bytes: 0..<100)

    let (decision, actions) = planner.read(
      chunk, handle: handle, bytes: 0..<100, wait: WaitID(number: 3))
    #expect(decision == .wait)
    guard case .fetch(let part)? = actions.first else {
      Issue.record("nothing is fetched: \(actions)")
      return
    }
    #expect(part.bytes == 0..<block)
    // Its reader would find the old checksum, come back at once, and so on until the rest is there.
    #expect(planner.arrived(part.id, count: 1000) == [])
    #expect(planner.arrived(part.id, count: block - 1000) == [.answer(WaitID(number: 3))])
    #expect(planner.finished(part.id) == [])
  }
}
