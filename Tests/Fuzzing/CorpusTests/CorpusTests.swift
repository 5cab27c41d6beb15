import FoundationEssentials
import TestSupport
import Testing

/// Gives each fuzzing target its corpus, and inputs that are a little different, without libFuzzer.
@Suite(.timeLimit(.minutes(2))) struct CorpusTests {
  private static let corpus = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "corpus")
  /// Of each file.
  private static let mutationCount = 100

  private static func names(in folder: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
  }

  private static func files(of target: String) throws -> [(name: String, bytes: [UInt8])] {
    let folder = corpus.appending(path: target)
    return try names(in: folder).map {
      ($0, Array(try Data(contentsOf: folder.appending(path: $0))))
    }
  }

  @Test("Each target has a corpus, and each corpus a target")
  func folders() throws {
    #expect(try Self.names(in: Self.corpus) == FuzzTargets.all.keys.sorted())
    for target in FuzzTargets.all.keys {
      #expect(try !Self.files(of: target).isEmpty, "\(target)")
    }
  }

  @Test("A target takes every input of its corpus", arguments: FuzzTargets.all.keys.sorted())
  func replay(name: String) throws {
    let target = try #require(FuzzTargets.all[name])
    for (file, bytes) in try Self.files(of: name) {
      CheckedInput.$current.withValue("\(name)/\(file)") { target(bytes) }
    }
    target([])
  }

  @Test(
    "A target takes inputs that are a little different", arguments: FuzzTargets.all.keys.sorted())
  func mutations(name: String) throws {
    let seed: UInt64 = 20_261_201
    print("\(name): seed \(seed)")
    let target = try #require(FuzzTargets.all[name])
    let files = try Self.files(of: name)
    var generator = SeededGenerator(seed: seed)
    for (file, bytes) in files {
      for index in 0..<Self.mutationCount {
        let other = files.randomElement(using: &generator)?.bytes ?? []
        let mutated = Self.mutated(bytes, other, &generator)
        CheckedInput.$current.withValue("\(name)/\(file), mutation \(index), seed \(seed)") {
          target(mutated)
        }
      }
    }
  }

  /// One to four of the changes that libFuzzer makes too.
  private static func mutated(
    _ original: [UInt8], _ other: [UInt8], _ generator: inout SeededGenerator
  ) -> [UInt8] {
    var bytes = original
    for _ in 0..<Int.random(in: 1...4, using: &generator) {
      let place = Int.random(in: 0...bytes.count, using: &generator)
      let end = min(bytes.count, place + Int.random(in: 1...16, using: &generator))
      let interesting: [UInt8] = [
        0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x0d, 0x1b, 0x20, 0x22, 0x2f, 0x3c, 0x5c,
      ]
      switch Int.random(in: 0..<8, using: &generator) {
      case 0 where place < bytes.count:
        bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 1 where place < bytes.count: bytes[place] = .random(in: .min ... .max, using: &generator)
      case 2: bytes.insert(interesting.randomElement(using: &generator) ?? 0, at: place)
      case 3: bytes.removeSubrange(place..<end)
      case 4: bytes.insert(contentsOf: bytes[place..<end], at: place)
      case 5: bytes.removeSubrange(place...)
      case 6:
        let from = Int.random(in: 0...other.count, using: &generator)
        bytes.insert(contentsOf: other[from...].prefix(32), at: place)
      default:
        for index in place..<end {
          bytes[index] = interesting.randomElement(using: &generator) ?? 0
        }
      }
    }
    return bytes
  }
}

/// What the target is given now, for messages.
enum CheckedInput {
  @TaskLocal static var current = "no bytes"
}

/// What a target finds to be wrong.
func check(_ condition: Bool, _ message: @autoclosure () -> String) {
  if !condition { Issue.record("\(CheckedInput.current): \(message())") }
}
