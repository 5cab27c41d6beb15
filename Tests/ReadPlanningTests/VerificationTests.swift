import Blocks
import ReadPlanning
import Testing

private let mebibyte = 1 << 20

@Suite("Comparing chunks with the manifest's MD5")
struct VerificationTests {
  private let size = 3 * mebibyte
  private let chunk = ChunkID(index: 0)
  private let handle = HandleID(number: 1)

  private func planner(
    _ mode: VerificationMode, boundInBytes: Int = 64 << 20
  ) -> FetchPlanner {
    var planner = FetchPlanner(
      maxConnections: 8, cacheBoundInBytes: boundInBytes, verificationMode: mode)
    _ = planner.cacheIsKnown()
    return planner
  }

  /// Loads a chunk of which the cache has all, but for its last `missing` blocks, and opens it.
  private func open(
    _ planner: inout FetchPlanner, index: Int = 0, sizeInBytes: Int? = nil, missing: Int = 0,
    isVerifiable: Bool = true, isVerified: Bool = false
  ) -> [FetchPlanner.Action] {
    let size = sizeInBytes ?? size
    var present = BlockSet(blockCount: BlockGrid(sizeInBytes: size).blockCount)
    present.insert(0..<present.blockCount - missing)
    let id = ChunkID(index: index)
    planner.load(
      id, sizeInBytes: size, entry: EntryID(number: index), overheadInBytes: 4096,
      present: present, isVersionKnown: true, opening: 0..<mebibyte, isVerifiable: isVerifiable,
      isVerified: isVerified)
    let actions = planner.resume()
    let (decision, more) = planner.open(
      id, handle: HandleID(number: UInt64(index) + 1), wait: WaitID(number: UInt64(index) + 1))
    #expect(decision == .present)
    return actions + more
  }

  private func read(
    _ planner: inout FetchPlanner, _ bytes: Range<Int>, wait: UInt64, index: Int = 0
  ) -> (FetchPlanner.ReadDecision, [FetchPlanner.Action]) {
    planner.read(
      ChunkID(index: index), handle: HandleID(number: UInt64(index) + 1), bytes: bytes,
      wait: WaitID(number: wait))
  }

  /// Plays a store that is always right, until nothing is asked for any more.
  private func serve(
    _ planner: inout FetchPlanner, _ actions: [FetchPlanner.Action]
  ) -> [FetchPlanner.Action] {
    var pending = actions
    var others: [FetchPlanner.Action] = []
    while !pending.isEmpty {
      switch pending.removeFirst() {
      case .fetch(let part):
        pending += planner.arrived(part.id, count: part.bytes.count) + planner.finished(part.id)
      case .evict(let segment): pending += planner.evicted(segment).1
      case let other: others.append(other)
      }
    }
    return others
  }

  // `#expect` takes no mutating call by itself.
  private func begins(_ id: ChunkID, _ planner: inout FetchPlanner) -> Bool {
    planner.beginVerification(id)
  }

  private func goesOn(_ bytes: Range<Int>, _ planner: inout FetchPlanner) -> Bool {
    planner.continueVerification(chunk, bytes: bytes)
  }

  private func cancels(_ number: UInt64, _ planner: inout FetchPlanner) -> Bool {
    planner.cancel(WaitID(number: number)) != nil
  }

  private func verdictAfter(
    _ outcome: VerificationOutcome, _ planner: inout FetchPlanner
  ) -> VerificationVerdict {
    planner.verificationEnded(chunk, outcome).0
  }

  private func lastByte(ofSize size: Int) -> Range<Int> { size - 1..<size }

  @Test("A complete chunk is compared once nobody has read it between two looks")
  func quiet() {
    var planner = planner(.background)
    #expect(open(&planner) == [.verifyLater])
    for step in 0..<3 {
      let (decision, actions) = read(&planner, 0..<100, wait: UInt64(10 + step))
      #expect(decision == .present)
      #expect(actions == [], "one look is planned already")
      _ = planner.finishedReading(chunk, bytes: 0..<100)
      #expect(planner.verificationIsDue() == [.verifyLater], "it was read just now")
    }
    #expect(planner.verificationIsDue() == [.verify(chunk)])
    #expect(planner.verificationIsDue() == [], "one comparison is enough")
  }

  @Test("While another chunk is being fetched a comparison waits, for half a minute")
  func givesWay() {
    var planner = planner(.background)
    _ = open(&planner)
    _ = planner.close(handle)
    // A read that the store has not answered yet.
    _ = open(&planner, index: 1, missing: 48)
    let (decision, _) = read(&planner, 0..<100, wait: 10, index: 1)
    #expect(decision == .wait)
    for _ in 0..<30 { #expect(planner.verificationIsDue() == [.verifyLater]) }
    #expect(planner.verificationIsDue().contains(.verify(chunk)))
  }

  @Test("What nobody has open is compared at the next look, even when it is not loaded any more")
  func closed() {
    var planner = planner(.background)
    _ = open(&planner)
    _ = read(&planner, 0..<100, wait: 10)
    _ = planner.finishedReading(chunk, bytes: 0..<100)
    _ = planner.close(handle)
    #expect(planner.isIdle(chunk))
    _ = planner.unload(chunk)
    #expect(planner.verificationIsDue() == [.verify(chunk)])
    #expect(!begins(chunk, &planner), "it has to be loaded first")
  }

  @Test("Of several chunks that nobody has open, one look has all compared, one after the other")
  func several() {
    var planner = planner(.background)
    for index in 0..<4 { _ = open(&planner, index: index) }
    for index in 0..<3 { _ = planner.close(HandleID(number: UInt64(index) + 1)) }
    var actions = planner.verificationIsDue()
    for index in 0..<3 {
      #expect(actions.contains(.verify(ChunkID(index: index))))
      #expect(begins(ChunkID(index: index), &planner))
      actions = planner.verificationEnded(ChunkID(index: index), .same).1
    }
    #expect(actions == [], "the fourth may be being read")
    #expect(planner.verificationIsDue() == [.verify(ChunkID(index: 3))])
  }

  @Test("A chunk is not compared while its reader waits, or while part of it is under way")
  func busy() {
    var planner = planner(.background)
    #expect(open(&planner, missing: 1) == [])
    let (decision, actions) = read(&planner, lastByte(ofSize: size), wait: 10)
    #expect(decision == .wait)
    guard case .fetch(let part)? = actions.first else {
      Issue.record("nothing is fetched: \(actions)")
      return
    }
    #expect(planner.verificationIsDue() == [])
    #expect(planner.arrived(part.id, count: part.bytes.count) == [.answer(WaitID(number: 10))])
    #expect(planner.finished(part.id) == [.verifyLater], "now it is complete")
  }

  @Test("What was found right is not compared again until something of it has come anew")
  func once() {
    var planner = planner(.background)
    #expect(open(&planner, isVerified: true) == [])
    #expect(planner.verificationState(of: chunk) == .ok)
    planner.discarded(chunk, blocks: 0..<1)
    let (_, actions) = read(&planner, 0..<100, wait: 10)
    #expect(planner.verificationState(of: chunk) == .ok, "what is left was compared")
    #expect(serve(&planner, actions) == [.answer(WaitID(number: 10)), .verifyLater])
    #expect(planner.verificationState(of: chunk) == .pending)
  }

  @Test("Without an MD5, and where the mode is off, nothing is compared")
  func nothing() {
    var unverifiable = planner(.strict)
    #expect(open(&unverifiable, isVerifiable: false) == [])
    #expect(unverifiable.verificationState(of: chunk) == .unverifiable)
    #expect(read(&unverifiable, lastByte(ofSize: size), wait: 10).0 == .present)
    var off = planner(.off)
    #expect(open(&off) == [])
    #expect(off.verificationState(of: chunk) == .pending)
    #expect(read(&off, lastByte(ofSize: size), wait: 10).0 == .present)
  }

  /// Brings a planner to the point where a comparison is under way.
  private func begin(_ planner: inout FetchPlanner) {
    _ = planner.verificationIsDue()
    #expect(planner.verificationIsDue() == [.verify(chunk)])
    #expect(begins(chunk, &planner))
  }

  @Test("A small chunk is pinned while it is compared, a large one only where it is being read")
  func pins() {
    for (bound, pinned) in [(64 << 20, size), (8 << 20, 0)] {
      var planner = planner(.background, boundInBytes: bound)
      _ = open(&planner)
      begin(&planner)
      #expect(planner.ledger.pinnedInBytes == pinned)
      #expect(goesOn(0..<1000, &planner))
      #expect(planner.ledger.pinnedInBytes == max(pinned, mebibyte))
      _ = planner.finishedReading(chunk, bytes: 0..<1000)
      #expect(verdictAfter(.same, &planner) == .ok)
      #expect(planner.ledger.pinnedInBytes == 0)
    }
  }

  @Test("A chunk that is being compared stays loaded")
  func staysLoaded() {
    var planner = planner(.background, boundInBytes: 8 << 20)
    _ = open(&planner)
    begin(&planner)
    _ = planner.close(handle)
    #expect(!planner.isIdle(chunk))
    _ = planner.verificationEnded(chunk, .same)
    #expect(planner.isIdle(chunk))
    #expect(planner.takeReleased() == [chunk], "somebody has to unload it")
  }

  @Test("Where a block left or came anew meanwhile, a difference says nothing")
  func disturbed() {
    var planner = planner(.background)
    _ = open(&planner)
    begin(&planner)
    planner.discarded(chunk, blocks: 3..<4)
    #expect(!goesOn(0..<1000, &planner))
    let (_, actions) = read(&planner, 3 * 65536..<3 * 65536 + 1, wait: 10)
    #expect(serve(&planner, actions) == [.answer(WaitID(number: 10))])
    _ = planner.finishedReading(chunk, bytes: 3 * 65536..<3 * 65536 + 1)
    let (verdict, more) = planner.verificationEnded(chunk, .different)
    #expect(verdict == .undecided)
    #expect(more == [.verifyLater], "it is complete, so it is compared anew")
    #expect(planner.verificationState(of: chunk) == .pending)
  }

  @Test("Wrong bytes are dropped and fetched once more; wrong again, reading them fails")
  func mismatch() {
    var planner = planner(.background)
    _ = open(&planner)
    begin(&planner)
    // A reader is just copying from the first segment.
    #expect(read(&planner, 0..<100, wait: 10).0 == .present)
    let (verdict, actions) = planner.verificationEnded(chunk, .different)
    #expect(verdict == .fetchAgain)
    let evicted = actions.compactMap { action in
      if case .evict(let segment) = action { segment.index } else { nil }
    }
    #expect(evicted == [1, 2], "what is copied from stays on disk")
    _ = planner.finishedReading(chunk, bytes: 0..<100)
    #expect(planner.cachedBytes(of: chunk, entry: nil, sizeInBytes: size) == 0)
    #expect(!planner.mayKeepPages(of: chunk))
    #expect(serve(&planner, actions) == [])

    let (decision, fetching) = read(&planner, 0..<size, wait: 11)
    #expect(decision == .wait)
    #expect(serve(&planner, fetching) == [.answer(WaitID(number: 11)), .verifyLater])
    _ = planner.finishedReading(chunk, bytes: 0..<size)
    begin(&planner)
    #expect(verdictAfter(.different, &planner) == .failed)
    #expect(planner.verificationState(of: chunk) == .failed)
    #expect(read(&planner, 0..<100, wait: 12).1 == [.fail(WaitID(number: 12))])
    // Also after everybody has gone and come back.
    _ = planner.close(handle)
    _ = planner.unload(chunk)
    #expect(planner.verificationState(of: chunk) == .failed)
    _ = open(&planner)
    #expect(read(&planner, 0..<100, wait: 13).1 == [.fail(WaitID(number: 13))])
    _ = open(&planner, index: 1)
    #expect(read(&planner, 0..<100, wait: 14, index: 1).0 == .present)
  }

  @Test("Right at the second time, it is a chunk like any other, but for pages that the kernel has")
  func refetched() {
    var planner = planner(.background)
    _ = open(&planner)
    begin(&planner)
    let dropping = planner.verificationEnded(chunk, .different).1
    _ = serve(&planner, dropping)
    let (_, fetching) = read(&planner, 0..<size, wait: 11)
    _ = serve(&planner, fetching)
    _ = planner.finishedReading(chunk, bytes: 0..<size)
    begin(&planner)
    #expect(verdictAfter(.same, &planner) == .ok)
    #expect(planner.verificationState(of: chunk) == .ok)
    #expect(!planner.mayKeepPages(of: chunk))
  }

  // MARK: Strict

  @Test("Strict: the last byte waits for all of the chunk to be compared, other bytes do not")
  func lastByteWaits() {
    var planner = planner(.strict)
    // All of the second segment and most of the third.
    _ = open(&planner, missing: 40)
    #expect(!planner.mayLend(chunk))
    let (_, first) = read(&planner, size - 2..<size - 1, wait: 11)
    #expect(serve(&planner, first) == [.answer(WaitID(number: 11))])
    _ = planner.finishedReading(chunk, bytes: size - 2..<size - 1)
    let (decision, actions) = read(&planner, lastByte(ofSize: size), wait: 12)
    #expect(decision == .wait, "it is here, and held back")
    #expect(serve(&planner, actions) == [.verify(chunk)])
    #expect(planner.cachedBytes(of: chunk, entry: nil, sizeInBytes: size) == size)
    #expect(begins(chunk, &planner))
    #expect(planner.ledger.pinnedInBytes == size, "nothing of it leaves")
    let (verdict, end) = planner.verificationEnded(chunk, .same)
    #expect(verdict == .ok)
    #expect(end == [.answer(WaitID(number: 12))])
    _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size))
    #expect(planner.ledger.pinnedInBytes == 0)
    #expect(planner.mayLend(chunk))
    #expect(read(&planner, lastByte(ofSize: size), wait: 13).0 == .present)
  }

  @Test("Strict: wrong bytes are fetched again before the last one is given out, or it fails")
  func strictMismatch() {
    for isRightAtLast in [true, false] {
      var planner = planner(.strict)
      _ = open(&planner)
      #expect(read(&planner, lastByte(ofSize: size), wait: 10).1 == [.verify(chunk)])
      #expect(begins(chunk, &planner))
      let (verdict, actions) = planner.verificationEnded(chunk, .different)
      #expect(verdict == .fetchAgain)
      #expect(serve(&planner, actions) == [.verify(chunk)])
      #expect(begins(chunk, &planner))
      let (last, end) = planner.verificationEnded(chunk, isRightAtLast ? .same : .different)
      #expect(last == (isRightAtLast ? .ok : .failed))
      let wait = WaitID(number: 10)
      #expect(end.contains(isRightAtLast ? .answer(wait) : .fail(wait)))
      if isRightAtLast { _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size)) }
      #expect(planner.ledger.pinnedInBytes == 0)
    }
  }

  @Test("Strict: three chunks that do not fit together are compared one after the other")
  func oneAfterTheOther() {
    // A chunk is 3/8 of the bound.
    var planner = planner(.strict, boundInBytes: 8 << 20)
    let opened = (0..<3).map { open(&planner, index: $0, missing: 48) }
    #expect(opened == [[], [], []])
    var actions: [FetchPlanner.Action] = []
    for index in 0..<3 {
      actions += read(&planner, lastByte(ofSize: size), wait: UInt64(10 + index), index: index).1
    }
    for index in 0..<3 {
      #expect(serve(&planner, actions) == [.verify(ChunkID(index: index))])
      #expect(begins(ChunkID(index: index), &planner))
      actions = planner.verificationEnded(ChunkID(index: index), .same).1
      let answer = FetchPlanner.Action.answer(WaitID(number: UInt64(10 + index)))
      #expect(actions.contains(answer))
      actions.removeAll { $0 == answer }
      actions += planner.finishedReading(
        ChunkID(index: index), bytes: lastByte(ofSize: size))
    }
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  @Test("Strict: a chunk that the cache cannot keep is read unverified, with one warning")
  func tooLarge() {
    let size = 4 * mebibyte
    var planner = planner(.strict, boundInBytes: 8 << 20)
    _ = open(&planner, sizeInBytes: size)
    for round in 0..<2 {
      let (_, actions) = read(&planner, lastByte(ofSize: size), wait: UInt64(10 + round))
      #expect(actions.contains(.cannotVerify(chunk, isTooLarge: true)) == (round == 0))
      _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size))
      #expect(planner.verificationState(of: chunk) == .unverifiable)
      _ = planner.close(handle)
      _ = planner.unload(chunk)
      _ = open(&planner, sizeInBytes: size)
    }
    #expect(!planner.mayLend(chunk))
  }

  @Test("Strict: when a part of the chunk cannot be had, who waits for the last byte is told")
  func strictFailure() {
    var planner = planner(.strict)
    _ = open(&planner, missing: 40)
    let (_, actions) = read(&planner, lastByte(ofSize: size), wait: 10)
    let parts = actions.compactMap { action in
      if case .fetch(let part) = action { part } else { nil }
    }
    guard let first = parts.first else {
      Issue.record("nothing is fetched: \(actions)")
      return
    }
    #expect(!first.bytes.contains(size - 1), "the first part is not the last byte's")
    #expect(planner.failed(first.id).contains(.fail(WaitID(number: 10))))
    for part in parts.dropFirst() { _ = planner.failed(part.id) }
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  @Test("Strict: when the reader gives up, the next one's chunk is fetched at once")
  func strictInterruptedBeforeAnother() {
    var planner = planner(.strict)
    _ = open(&planner, index: 0, missing: 48)
    _ = open(&planner, index: 1, missing: 48)
    _ = read(&planner, lastByte(ofSize: size), wait: 10)
    let (_, behind) = read(&planner, lastByte(ofSize: size), wait: 11, index: 1)
    #expect(!behind.contains { if case .fetch = $0 { true } else { false } }, "one at a time")
    let fetched = (planner.cancel(WaitID(number: 10)) ?? []).compactMap { action in
      if case .fetch(let part) = action { part.chunk } else { nil }
    }
    #expect(fetched.contains(ChunkID(index: 1)))
  }

  @Test("Strict: when the reader gives up, what was held for it may leave")
  func strictInterrupted() {
    var planner = planner(.strict)
    _ = open(&planner)
    _ = read(&planner, lastByte(ofSize: size), wait: 10)
    #expect(planner.ledger.pinnedInBytes == size)
    #expect(cancels(10, &planner))
    #expect(begins(chunk, &planner), "what has been started is done")
    #expect(verdictAfter(.same, &planner) == .ok)
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  @Test("Strict: a cache that cannot be read fails the reader instead of trying for ever")
  func unreadable() {
    var planner = planner(.strict)
    _ = open(&planner)
    _ = read(&planner, lastByte(ofSize: size), wait: 10)
    #expect(begins(chunk, &planner))
    let (verdict, actions) = planner.verificationEnded(chunk, .unreadable)
    #expect(verdict == .undecided)
    #expect(actions == [.fail(WaitID(number: 10))])
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  // MARK: Strict, while the cache's disk is full or fails

  private func parts(_ actions: [FetchPlanner.Action]) -> [FetchPlanner.Part] {
    actions.compactMap { if case .fetch(let part) = $0 { part } else { nil } }
  }

  @Test("Strict: while caching is paused the last byte is given out unverified, with a warning")
  func strictPaused() {
    var planner = planner(.strict)
    _ = open(&planner, missing: 1)
    _ = planner.cachingFailed()
    let (_, actions) = read(&planner, lastByte(ofSize: size), wait: 10)
    #expect(actions.contains(.cannotVerify(chunk, isTooLarge: false)))
    #expect(parts(actions).map(\.isInMemory) == [true])
    #expect(planner.verificationState(of: chunk) == .unverifiable)
    #expect(!planner.mayLend(chunk))
    #expect(serve(&planner, actions).contains(.answer(WaitID(number: 10))))
    _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size))
    // Once the disk works, the next reader waits for the comparison again.
    _ = planner.cachingResumed()
    #expect(planner.verificationState(of: chunk) == .pending)
    let (decision, fetching) = read(&planner, lastByte(ofSize: size), wait: 11)
    #expect(decision == .wait)
    #expect(serve(&planner, fetching) == [.verify(chunk)])
    #expect(begins(chunk, &planner))
    #expect(planner.verificationEnded(chunk, .same).1 == [.answer(WaitID(number: 11))])
    _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size))
    #expect(planner.ledger.pinnedInBytes == 0)
  }

  @Test("Strict: the disk fails while the chunk is made complete, or while it is compared")
  func strictPausedMeanwhile() {
    for isBegun in [false, true] {
      var planner = planner(.strict)
      _ = open(&planner, missing: isBegun ? 0 : 40)
      let (_, actions) = read(&planner, lastByte(ofSize: size), wait: 10)
      var more: [FetchPlanner.Action] = []
      if isBegun {
        #expect(actions == [.verify(chunk)])
        #expect(begins(chunk, &planner))
        more = planner.cachingFailed()
      }
      for part in parts(actions) { more += planner.cachingFailed(part.id) }
      let others = serve(&planner, more)
      #expect(others.contains(.cannotVerify(chunk, isTooLarge: false)))
      #expect(others.contains(.answer(WaitID(number: 10))))
      if isBegun { #expect(verdictAfter(.same, &planner) == .undecided) }
      _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size))
      #expect(planner.ledger.pinnedInBytes == 0)
    }
  }

  @Test(
    "Strict: what came into memory while the disk failed does not keep the chunk from becoming complete"
  )
  func strictResumedInMemory() {
    for isBegunBefore in [true, false] {
      var planner = planner(.strict)
      _ = open(&planner, missing: 20)
      _ = planner.cachingFailed()
      let last = size - (1 << 20)..<size
      let (_, actions) = read(&planner, last, wait: 10)
      var later = actions.filter { if case .cannotVerify = $0 { false } else { true } }
      if !isBegunBefore {
        // The last block is there before, and another reader copies from it.
        #expect(serve(&planner, later) == [.answer(WaitID(number: 10))])
        later = []
      }
      later += planner.cachingResumed()
      #expect(planner.verificationState(of: chunk) == .pending)
      if !isBegunBefore { later += read(&planner, lastByte(ofSize: size), wait: 11).1 }
      let others = serve(&planner, later)
      #expect(others.contains(.verify(chunk)), "begun before: \(isBegunBefore), \(others)")
      #expect(begins(chunk, &planner))
      let (verdict, end) = planner.verificationEnded(chunk, .same)
      #expect(verdict == .ok)
      #expect(end.contains(.answer(WaitID(number: isBegunBefore ? 10 : 11))))
    }
  }

  @Test("Strict: a chunk read through memory until it is unloaded is compared when it comes back")
  func strictMemoryOnly() {
    var planner = planner(.strict)
    _ = open(&planner)
    // Wrong once, which is remembered.
    _ = read(&planner, lastByte(ofSize: size), wait: 10)
    #expect(begins(chunk, &planner))
    _ = serve(&planner, planner.verificationEnded(chunk, .different).1)
    #expect(begins(chunk, &planner))
    for _ in 0..<2 { _ = planner.unreadable(chunk, blocks: 0..<1) }
    let actions = planner.verificationEnded(chunk, .interrupted).1
    #expect(actions.contains(.cannotVerify(chunk, isTooLarge: false)))
    #expect(serve(&planner, actions).contains(.answer(WaitID(number: 10))))
    _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size))
    _ = planner.cachingResumed()
    #expect(planner.verificationState(of: chunk) == .unverifiable, "its files are not used")
    #expect(planner.ledger.pinnedInBytes == 0)
    _ = planner.close(handle)
    _ = planner.unload(chunk)
    _ = open(&planner)
    #expect(planner.verificationState(of: chunk) == .pending)
    #expect(!planner.mayKeepPages(of: chunk))
    #expect(read(&planner, lastByte(ofSize: size), wait: 11).0 == .wait)
  }

  @Test("Strict: what comes into memory of a chunk that was found right was not compared")
  func strictEvictedThenPaused() {
    var planner = planner(.strict)
    _ = open(&planner, isVerified: true)
    _ = planner.noteRoom(inBytes: -(64 << 20)).map { action in
      if case .evict(let segment) = action { _ = planner.evicted(segment) }
    }
    _ = planner.cachingFailed()
    let (_, actions) = read(&planner, lastByte(ofSize: size), wait: 10)
    let others = serve(&planner, actions)
    #expect(others.contains(.cannotVerify(chunk, isTooLarge: false)))
    #expect(others.contains(.answer(WaitID(number: 10))))
    #expect(planner.verificationState(of: chunk) == .unverifiable)
  }

  @Test("Strict: a chunk for which the disk has too little room is not too large for good")
  func strictCurtailed() {
    var planner = planner(.strict)
    _ = open(&planner, missing: 1)
    _ = serve(&planner, planner.noteRoom(inBytes: -(1 << 20)))
    #expect(planner.ledger.boundInBytes < size * 8 / 3)
    let (_, actions) = read(&planner, lastByte(ofSize: size), wait: 10)
    #expect(actions.contains(.cannotVerify(chunk, isTooLarge: false)))
    #expect(serve(&planner, actions).contains(.answer(WaitID(number: 10))))
    _ = planner.finishedReading(chunk, bytes: lastByte(ofSize: size))
    _ = planner.noteRoom(inBytes: 1 << 40)
    #expect(planner.verificationState(of: chunk) == .pending)
    #expect(read(&planner, lastByte(ofSize: size), wait: 11).0 == .wait)
  }

  @Test(
    "Strict: what is lent to the kernel leaves no room for the chunk on a disk that has less of it")
  func strictCurtailedBesidePins() {
    let lent = 24 * mebibyte
    var planner = planner(.strict)
    _ = open(&planner, index: 1, sizeInBytes: lent, isVerified: true)
    #expect(pinsWhole(ChunkID(index: 1), &planner))
    _ = open(&planner, missing: 40)
    _ = planner.noteRoom(inBytes: 0)
    let (_, actions) = read(&planner, lastByte(ofSize: size), wait: 10)
    #expect(actions.contains(.cannotVerify(chunk, isTooLarge: false)))
    #expect(serve(&planner, actions).contains(.answer(WaitID(number: 10))))
    #expect(planner.ledger.usedInBytes <= planner.ledger.boundInBytes)
  }

  @Test("Strict: a chunk that is held waits for room on disk, and not in memory")
  func strictStarved() {
    let (size, other) = (48 * mebibyte, 60 * mebibyte)
    var planner = planner(.strict, boundInBytes: 160 << 20)
    for index in 1...2 {
      _ = open(&planner, index: index, sizeInBytes: other)
      // A reader copies from all of it.
      #expect(read(&planner, 0..<other - 1, wait: UInt64(10 + index), index: index).0 == .present)
    }
    _ = open(&planner, sizeInBytes: size, missing: 768)
    _ = planner.noteRoom(inBytes: 10 << 20)
    var actions = read(&planner, lastByte(ofSize: size), wait: 10).1
    #expect(!actions.isEmpty)
    #expect(serve(&planner, actions) == [])
    #expect(planner.ledger.usedInBytes <= planner.ledger.boundInBytes)
    actions = planner.finishedReading(ChunkID(index: 1), bytes: 0..<other - 1)
    #expect(serve(&planner, actions) == [.verify(chunk)])
  }

  private func pinsWhole(_ id: ChunkID, _ planner: inout FetchPlanner) -> Bool {
    planner.pinWhole(id)
  }
}
