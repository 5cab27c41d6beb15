import FoundationEssentials
import Glibc
import InventoryFileSystem
import TestSupport
import Testing

/// The real stack above the store (file system, planner, cache) against flat arrays, in programs
/// drawn from a seed.
///
/// A program is some hundred steps: open, read, seek, close, several reads at once, some of them
/// interrupted, a sweep that drives everything else out of a small cache, faults of the store that
/// a retry heals, connections dropped, restarts, and files of the cache damaged meanwhile. What is
/// drawn depends on the seed alone and not on what happens, so that `INVENTORYFS_SEED=n swift test
/// --filter ReferenceModel` runs the same program again. A seed that failed once stays, with what
/// was wrong as its name.
@Suite(.timeLimit(.minutes(2))) struct ReferenceModelTests {
  @Test("Any program of reads, faults and restarts sees flat arrays", arguments: seeds)
  func randomProgram(seed: UInt64) async throws {
    print("reference model: seed \(seed)")
    try await ReferenceProgram.run(seed: seed, stepCount: 250)
  }

  static var seeds: [UInt64] {
    if let seed = ProcessInfo.processInfo.environment["INVENTORYFS_SEED"].flatMap({ UInt64($0) }) {
      return [seed]
    }
    return Array(1...6)
  }
}

private struct ReferenceProgram {
  private struct Handle {
    let file: OpenFile
    let chunk: Int
    var position: Int
  }

  private struct Failure: Error, CustomStringConvertible { let description: String }

  private static let cacheSizeInBytes = 16 << 20
  private static let mostHandles = 12

  private let seed: UInt64
  private let store: ScriptedStore
  private let folder: CacheFolder
  private let chunks: [Rig.Chunk]

  private var generator: SeededGenerator
  /// Nil while there is none: the cache is locked until the last reference to the one before is
  /// gone.
  private var current: Rig?
  private var handles: [Handle] = []
  private var step = 0
  private var action = ""

  static func run(seed: UInt64, stepCount: Int) async throws {
    // Together nearly twice the cache; with the odd sizes: nothing, one byte, exactly a block, one
    // past a block.
    let sizes = [9_000_001, 12 << 20, 5_000_003, 700_000, 65_536, 65_537, 1, 0]
    let chunks = sizes.enumerated().map { index, size in
      Rig.Chunk(
        key: "chunk\(index)", bytes: content(size, seed: seed &+ UInt64(index)),
        hasMD5: index % 4 != 2)
    }
    let folder = try CacheFolder()
    let store = ScriptedStore()
    store.put(chunks)
    var program = try ReferenceProgram(seed, store, folder, chunks)
    do {
      for _ in 0..<stepCount { try await program.takeStep() }
      try await program.end()
    } catch {
      program.current?.fileSystem.shutDown()
      throw Failure(
        description: "seed \(seed), step \(program.step), \(program.action): \(error)")
    }
  }

  private init(
    _ seed: UInt64, _ store: ScriptedStore, _ folder: CacheFolder, _ chunks: [Rig.Chunk]
  ) throws {
    self.seed = seed
    self.store = store
    self.folder = folder
    self.chunks = chunks
    generator = SeededGenerator(seed: seed)
    current = try Rig(
      store.connect(), chunks, cachePath: folder.path, cacheSizeInBytes: Self.cacheSizeInBytes)
  }

  private mutating func takeStep() async throws {
    step += 1
    switch Int.random(in: 0..<100, using: &generator) {
    case 0..<14: try await open()
    case 14..<50: try await readOn()
    case 50..<70: try await seekAndRead()
    case 70..<80: try await readAtOnce()
    case 80..<88: try close()
    case 88..<91: try await sweep()
    case 91..<96: setFaults()
    case 96..<98: dropConnections()
    default: try await restart()
    }
    try checkBound()
  }

  private mutating func end() async throws {
    action = "comparing all at the end"
    try closeAll()
    store.setRules([])
    for chunk in chunks {
      guard isSame(try await rig.contents(chunk.key), chunk.bytes) else {
        throw Failure(description: "\(chunk.key) differs")
      }
    }
    try rig.fileSystem.shutDown()
  }

  // MARK: Steps

  private mutating func open() async throws {
    let chunk = Int.random(in: 0..<chunks.count, using: &generator)
    let position = Int.random(in: 0...chunks[chunk].bytes.count, using: &generator)
    let startsAtZero = Bool.random(using: &generator)
    action = "open \(chunks[chunk].key)"
    if handles.count == Self.mostHandles { try rig.fileSystem.close(handles.removeFirst().file) }
    handles.append(
      Handle(
        file: try await rig.open(chunks[chunk].key), chunk: chunk,
        position: startsAtZero ? 0 : position))
  }

  private mutating func readOn() async throws {
    let count = drawCount()
    guard let index = drawHandle() else { return }
    let handle = handles[index]
    try await read(handle, handle.position, count)
    handles[index].position = min(handle.position + count, chunks[handle.chunk].bytes.count)
  }

  private mutating func seekAndRead() async throws {
    let count = drawCount()
    let place = Double.random(in: 0...1.02, using: &generator)
    guard let index = drawHandle() else { return }
    let handle = handles[index]
    // Now and then past the end.
    let position = Int(place * Double(chunks[handle.chunk].bytes.count))
    try await read(handle, position, count)
    handles[index].position = min(position + count, chunks[handle.chunk].bytes.count)
  }

  /// Several reads under way at once, half of those that have to wait interrupted.
  private mutating func readAtOnce() async throws {
    let draws = (0..<Int.random(in: 2...8, using: &generator)).map { _ in
      (
        place: Double.random(in: 0...1, using: &generator), count: drawCount(),
        isInterrupted: Bool.random(using: &generator), handle: drawHandle()
      )
    }
    action = "\(draws.count) reads at once"
    var started: [(read: TestRead, handle: Handle, position: Int, draw: (Int, Bool))] = []
    for draw in draws {
      guard let index = draw.handle else { continue }
      let position = Int(draw.place * Double(chunks[handles[index].chunk].bytes.count))
      started.append(
        (
          try rig.start(handles[index].file, position, draw.count), handles[index], position,
          (draw.count, draw.isInterrupted)
        ))
    }
    for (read, _, _, (_, isInterrupted)) in started where isInterrupted { read.interrupt() }
    for (read, handle, position, (count, isInterrupted)) in started {
      do {
        try compare(try await read.value(), handle, position, count)
      } catch FileSystemError.interrupted where isInterrupted {
        continue
      }
    }
  }

  private mutating func close() throws {
    guard let index = drawHandle() else { return }
    action = "close \(chunks[handles[index].chunk].key)"
    try rig.fileSystem.close(handles.remove(at: index).file)
  }

  /// Reads the largest chunk from end to end, which evicts most of the rest.
  private mutating func sweep() async throws {
    action = "sweep"
    guard isSame(try await rig.contents(chunks[1].key, pieceInBytes: 900_000), chunks[1].bytes)
    else {
      throw Failure(description: "\(chunks[1].key) differs")
    }
  }

  /// What a retry heals, rarely enough not to use up the attempts of one part; also where a chunk
  /// without MD5 is opened, for which the store is asked by a HEAD.
  private mutating func setFaults() {
    let faults: [(fault: ScriptedStore.Fault, method: String?)] = [
      (.cut(afterBytes: Int.random(in: 0...300_000, using: &generator)), nil),
      (.status(500, code: "InternalError"), nil),
      (.status(503, code: "SlowDown", retryAfter: 0), nil),
      (.status(503, code: "ServiceUnavailable"), nil),
      // The answer to a HEAD has no body, and so no code that tells it from refusals.
      (.status(400, code: "RequestTimeout"), "GET"),
      (.fail(.connection(.timeout, text: "nothing came")), nil),
    ]
    let rules = (0..<3).map { _ in
      let (fault, method) = faults[Int.random(in: 0..<faults.count, using: &generator)]
      return ScriptedStore.Rule(fault, method: method, probability: 0.1)
    }
    action = "faults"
    store.setRules(
      Bool.random(using: &generator) ? rules : [], seed: generator.next())
  }

  private mutating func dropConnections() {
    action = "drop connections"
    store.dropConnections()
  }

  /// A new file system on the same cache, of which some files were damaged meanwhile.
  private mutating func restart() async throws {
    action = "restart"
    try closeAll()
    try rig.fileSystem.shutDown()
    current = nil
    for _ in 0..<Int.random(in: 0...3, using: &generator) {
      let (choice, place) = (generator.next(), Double.random(in: 0..<1, using: &generator))
      let paths = try folder.chunkFiles(endingIn: "").sorted()
      guard !paths.isEmpty else { continue }
      try damage(paths[Int(choice % UInt64(paths.count))], at: place)
    }
    current = try await untilFree {
      try Rig(
        store.connect(), chunks, cachePath: folder.path, cacheSizeInBytes: Self.cacheSizeInBytes)
    }
  }

  // MARK: Helpers

  private var rig: Rig {
    get throws { try #require(current) }
  }

  private mutating func drawHandle() -> Int? {
    let number = Int.random(in: 0..<Self.mostHandles, using: &generator)
    return handles.isEmpty ? nil : number % handles.count
  }

  private mutating func drawCount() -> Int {
    let largest = [1, 4096, 70_000, 1 << 20][Int.random(in: 0..<4, using: &generator)]
    return Int.random(in: 1...largest, using: &generator)
  }

  private mutating func read(_ handle: Handle, _ position: Int, _ count: Int) async throws {
    action = "read \(chunks[handle.chunk].key) at \(position), \(count) bytes"
    try compare(try await rig.read(handle.file, position, count), handle, position, count)
  }

  private func compare(
    _ got: [UInt8], _ handle: Handle, _ position: Int, _ count: Int
  ) throws {
    let bytes = chunks[handle.chunk].bytes
    let start = min(position, bytes.count)
    let wanted = bytes[start..<min(start + count, bytes.count)]
    if isSame(got, wanted) { return }
    let first = zip(got, wanted).enumerated().first { $1.0 != $1.1 }?.offset
    throw Failure(
      description: """
        \(chunks[handle.chunk].key) at \(position), \(count) bytes: got \(got.count), wanted \(wanted.count), \
        first difference at \(first.map { position + $0 }.map(String.init) ?? "the end")
        """)
  }

  private mutating func closeAll() throws {
    for handle in handles { try rig.fileSystem.close(handle.file) }
    handles = []
  }

  private func damage(_ path: String, at place: Double) throws {
    let descriptor = Glibc.open(path, O_RDWR)
    guard descriptor >= 0 else { throw Failure(description: "\(path): errno \(errno)") }
    defer { Glibc.close(descriptor) }
    var info = stat()
    guard fstat(descriptor, &info) == 0, info.st_size > 0 else { return }
    let offset = Int(place * Double(info.st_size))
    var byte: UInt8 = 0
    guard pread(descriptor, &byte, 1, off_t(offset)) == 1 else { return }
    byte ^= 1 << UInt8(offset % 8)
    _ = pwrite(descriptor, &byte, 1, off_t(offset))
  }

  private func checkBound() throws {
    var taken = 0
    for path in try folder.chunkFiles(endingIn: "") {
      var info = stat()
      if lstat(path, &info) == 0 { taken += Int(info.st_blocks) * 512 }
    }
    guard taken <= Self.cacheSizeInBytes else {
      throw Failure(description: "the cache takes \(taken) bytes")
    }
  }
}
