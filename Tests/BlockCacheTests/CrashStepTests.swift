import Blocks
import Glibc
import Locks
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import BlockCache

/// kill -9 at every step of writing the cache, and every mixture of old and new sectors that power
/// loss may leave.
@Suite(.timeLimit(.minutes(2))) struct CrashStepTests {
  private static let whole = content(18 * blockSize + 77)
  private static let identity = CacheIdentity.chunk(sizeInBytes: whole.count)
  private static let otherIdentity = CacheIdentity.chunk(sizeInBytes: 3 * blockSize, key: "other")

  /// Uses everything that writes: new entries, blocks in several steps, eviction of open and of
  /// closed entries, an entry that is written anew, one that is removed.
  private static func runProgram(at path: String, hook: CacheStepHook?) throws {
    let cache = try BlockCache(path: path, logger: silent, hook: hook)
    try cache.scan { _ in }
    let entry = try cache.open(identity)
    entry.record(eTag: "\"e\"")
    try entry.store(0..<3, of: whole)
    // A block that arrives in two pieces.
    try entry.put(whole[3 * blockSize..<3 * blockSize + 1000], at: 3 * blockSize)
    try entry.put(whole[3 * blockSize + 1000..<4 * blockSize], at: 3 * blockSize + 1000)
    let block = whole[3 * blockSize..<4 * blockSize]
    try entry.commit(
      from: 3, checksums: [block.withUnsafeBytes { BlockChecksum(of: $0).value }])
    try entry.store(15..<19, of: whole)
    try cache.evict(.init(entry: entry.id, index: 0))
    try entry.store(1..<2, of: whole)
    cache.close(entry)
    try cache.evict(.init(entry: entry.id, index: 1))
    let again = try cache.open(identity)
    try again.store(17..<19, of: whole)
    let other = try cache.open(otherIdentity)
    other.record(eTag: "\"o\"")
    try other.store(0..<3, of: whole)
    cache.discard(other)
    cache.close(other)
    let third = try cache.open(otherIdentity)
    third.record(eTag: "\"o\"")
    try third.store(0..<1, of: whole)
    cache.close(third)
    #expect(cache.removeIfIdle(third.id))
    cache.close(again)
  }

  /// Opens what is in the folder: every block that it gives out is right, and the books cover what
  /// is on disk.
  private static func check(_ folder: CacheFolder, _ occasion: String) throws {
    let cache = try folder.openCache()
    var booked = 0
    try cache.scan {
      booked += $0.overheadInBytes + $0.segments.reduce(0) { $0 + $1.allocatedInBytes }
    }
    let onDisk = try folder.files().reduce(0) {
      $0 + folder.allocatedInBytes("\(folder.chunkFolder)/\($1)")
    }
    #expect(onDisk <= booked, "\(occasion)")
    for identity in [identity, otherIdentity] {
      let entry = try cache.open(identity)
      for block in 0..<entry.grid.blockCount where entry.presentBlocks.contains(block) {
        guard try entry.firstCorruptBlock(in: block..<block + 1) == nil else { continue }
        let range = entry.grid.bytes(of: block..<block + 1)
        #expect(try entry.bytes(range) == Array(whole[range]), "\(occasion): block \(block)")
        #expect(entry.eTag != nil, "\(occasion): blocks of no known version")
      }
      // And what is stored over it is right too.
      entry.record(eTag: "\"e\"")
      try entry.store(0..<entry.grid.blockCount, of: whole)
      #expect(
        try entry.bytes(0..<entry.grid.sizeInBytes) == Array(whole[..<entry.grid.sizeInBytes]))
      cache.close(entry)
    }
  }

  @Test("kill -9 at any step leaves a cache that the next start reads rightly")
  func killedAtEveryStep() async throws {
    let count = Atomic(0)
    do {
      let folder = try CacheFolder()
      try Self.runProgram(at: folder.path) { _ in
        count.add(1, ordering: .relaxed)
        return nil
      }
      try Self.check(folder, "not killed")
    }
    let stepCount = count.load(ordering: .relaxed)
    #expect(stepCount > 60)
    for fatalStep in 1...stepCount {
      let folder = try CacheFolder()
      let path = folder.path
      await #expect(processExitsWith: .signal(SIGKILL), "step \(fatalStep)") {
        [path = path as String, fatalStep = fatalStep as Int] in
        let count = Atomic(0)
        try Self.runProgram(at: path) { _ in
          if count.add(1, ordering: .relaxed).newValue == fatalStep { kill(getpid(), SIGKILL) }
          return nil
        }
      }
      try Self.check(folder, "killed before step \(fatalStep) of \(stepCount)")
    }
  }

  @Test(
    "An error at any step is reported or made good later, and leaves a cache that the next start reads rightly"
  )
  func failingAtEveryStep() throws {
    for failingStep in 1... {
      let folder = try CacheFolder()
      let steps = Lock<[CacheStep]>([])
      var isReported = false
      do {
        try Self.runProgram(at: folder.path) { step in
          let number = steps.withLock { steps in
            steps.append(step)
            return steps.count
          }
          return number == failingStep ? .ioError : nil
        }
      } catch {
        isReported = true
      }
      try Self.check(folder, "failed at step \(failingStep)")
      let taken = Array(steps.withLock { $0 }.prefix(failingStep))
      guard taken.count == failingStep, let failed = taken.last else { break }
      // Files that stay are found by the next start. An entry's version, after its first header, is
      // written again before its first bytes.
      let isForgiven =
        [.removeIndex, .removeData, .findFolder, .findUsers].contains(failed)
        || taken.suffix(2) == [.writeHeader, .writeHeader]
      #expect(isReported != isForgiven, "failed at step \(failingStep), \(failed)")
    }
  }

  /// Power loss: each sector of the two files may be as it was after any of the steps.
  @Test("Any mixture of older and newer sectors gives right blocks or none", arguments: 1...8)
  func mixedSectors(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let folder = try CacheFolder()
    var images: [String: [[UInt8]]] = [:]
    var paths: [String: String] = [:]
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(Self.identity)
      func snapshot() throws {
        for suffix in [".data", ".index"] {
          let path = try folder.file(endingIn: suffix)
          paths[suffix] = path
          images[suffix, default: []].append(try folder.bytes(of: path))
        }
      }
      try snapshot()
      entry.record(eTag: "\"e\"")
      try snapshot()
      for block in 0..<19 {
        try entry.store(block..<block + 1, of: Self.whole)
        if block % 3 == 0 { try snapshot() }
      }
      try snapshot()
      try cache.evict(.init(entry: entry.id, index: 0))
      try snapshot()
      try entry.store(4..<9, of: Self.whole)
      try snapshot()
      cache.close(entry)
    }
    for round in 0..<10 {
      for (suffix, versions) in images {
        var mixture: [UInt8] = []
        var version = versions[0]
        // Runs of sectors of one version, some as long as a block, or none would ever survive.
        for sector in stride(from: 0, to: versions[0].count, by: 512) {
          if sector % blockSize == 0 || Int.random(in: 0..<200, using: &generator) == 0 {
            version = versions[Int.random(in: 0..<versions.count, using: &generator)]
          }
          mixture += version[sector..<min(sector + 512, version.count)]
        }
        // `check` fills the entry, so that each round starts from the images.
        try folder.write(mixture, to: try #require(paths[suffix]))
      }
      try Self.check(folder, "seed \(seed), round \(round)")
    }
  }

  @Test("Blocks whose version did not reach the disk are nobody's, and leave nothing uncounted")
  func lostVersion() throws {
    let folder = try CacheFolder()
    let (header, file): ([UInt8], String)
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(Self.identity)
      file = try folder.file(endingIn: ".index")
      header = try Array(folder.bytes(of: file)[..<IndexFormat.headerSizeInBytes])
      entry.record(eTag: "\"e\"")
      try entry.store(0..<19, of: Self.whole)
      cache.close(entry)
    }
    try folder.overwrite(file, at: 0, with: header)
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(Self.identity)
      #expect(entry.presentBlocks.isEmpty && entry.eTag == nil)
      #expect(try folder.allocatedInBytes(folder.file(endingIn: ".data")) == 0)
      cache.close(entry)
    }
    try folder.overwrite(folder.file(endingIn: ".index"), at: 0, with: header)
    try Self.check(folder, "the first header again")
  }

  @Test("Every byte of the index flipped, one at a time: no wrong byte is served")
  func everyIndexByte() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(Self.otherIdentity)
      entry.record(eTag: "\"e\"")
      try entry.store(0..<3, of: Self.whole)
      cache.close(entry)
    }
    let (file, data) = (try folder.file(endingIn: ".index"), try folder.file(endingIn: ".data"))
    let (index, bytes) = (try folder.bytes(of: file), try folder.bytes(of: data))
    let blockCount = 3
    for place in index.indices {
      if place <= IndexFormat.headerSizeInBytes {
        // With its header wrong the entry was removed as a whole.
        try folder.write(bytes, to: data)
        try folder.write(index, to: file)
      }
      try folder.overwrite(file, at: place, with: [index[place] ^ 1 << UInt8(place % 8)])
      let cache = try folder.openCache()
      let entry = try cache.open(Self.otherIdentity)
      if place < IndexFormat.headerSizeInBytes {
        #expect(entry.presentBlocks.isEmpty, "byte \(place)")
        #expect(entry.eTag == nil, "byte \(place)")
      } else {
        let lost = (place - IndexFormat.headerSizeInBytes) / 8
        #expect(entry.presentBlocks.count == blockCount - 1, "byte \(place)")
        #expect(!entry.presentBlocks.contains(lost), "byte \(place)")
        try folder.overwrite(file, at: place, with: [index[place]])
      }
      cache.close(entry)
    }
  }

  @Test(
    "Sampled bytes of the data flipped, one at a time: the block is found out", arguments: [1, 2])
  func sampledDataBytes(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(Self.identity)
      try entry.store(0..<19, of: Self.whole)
      cache.close(entry)
    }
    let file = try folder.file(endingIn: ".data")
    for _ in 0..<100 {
      let place = Int.random(in: 0..<Self.whole.count, using: &generator)
      let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &generator)
      try folder.overwrite(file, at: place, with: [Self.whole[place] ^ bit])
      let cache = try folder.openCache()
      let entry = try cache.open(Self.identity)
      #expect(
        try entry.firstCorruptBlock(in: 0..<19) == place / blockSize, "seed \(seed), byte \(place)")
      cache.close(entry)
      try folder.overwrite(file, at: place, with: [Self.whole[place]])
    }
  }
}
