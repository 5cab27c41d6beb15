import TestSupport
import Testing

@testable import inventoryfs

/// Sizes as the command line reads and writes them.
@Suite struct ByteCountTests {
  @Test(
    "A size is read with its unit",
    arguments: [
      ("0", 0), ("1000000", 1_000_000), ("7b", 7), ("512MiB", 512 << 20), ("20 GiB", 20 << 30),
      ("1.5G", 3 << 29), ("1kB", 1000), ("2tb", 2_000_000_000_000),
      (".5k", 512), ("5.", 5), ("0.4", 0), ("0.5", 1), ("1.5b", 2), ("0001m", 1 << 20),
      ("1  KIB", 1024), ("1023PiB", 1023 << 50), ("1p", 1 << 50), ("0PB", 0),
    ] as [(String, Int)])
  func reads(text: String, bytes: Int) {
    #expect(ByteCount(argument: text)?.bytes == bytes)
  }

  @Test(
    "What is no size, or one that cannot be reckoned with, is refused",
    arguments: [
      "", "MiB", "-1", "1XB", "1MiBs", "1.2.3", "1024PiB", "9999999999999999999",
      "1152921504606846976", "+1", " 1", "1e3", "0x10", "1 k i b", "1EiB", "1Ki", "inf",
      "nan",
      "１２", "½", "1,5G", ".", "1.5.G", String(repeating: "9", count: 400), "G1", "-0.1",
    ] as [String])
  func refuses(text: String) {
    #expect(ByteCount(argument: text) == nil)
  }

  @Test(
    "A size is written in its largest unit, with one decimal where there is one",
    arguments: [
      (0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (64 << 20, "64MiB"),
      (3 << 29, "1.5GiB"), (5 << 38, "1.2TiB"), (1023 << 50, "1047552TiB"),
    ])
  func writes(bytes: Int, text: String) {
    #expect("\(ByteCount(bytes: bytes))" == text)
  }

  @Test("A size that was written is read as no more than it was, and less by no tenth")
  func readsWhatItWrites() throws {
    var generator = SeededGenerator(seed: 5)
    for _ in 0..<2000 {
      let bytes = Int.random(
        in: 0..<1 << Int.random(in: 1...59, using: &generator), using: &generator)
      let size = ByteCount(bytes: bytes)
      let again = try #require(ByteCount(argument: "\(size)")).bytes
      // Half a byte more where a tenth of the unit is no whole number of bytes.
      #expect(again <= bytes + 1 && again >= bytes - bytes / 10, "\(bytes): \(size)")
    }
  }

  @Test("The smallest --memory-limit that is named is enough when it is typed in")
  func smallestMemoryLimit() {
    for threadCount in 1...16 {
      let named = ByteCount(bytes: MemoryPlan.smallestLimitInBytes(threadCount: threadCount))
      let typed = ByteCount(argument: "\(named)")?.bytes ?? 0
      #expect(
        MemoryPlan(limitInBytes: typed, maxConnections: 32, threadCount: threadCount) != nil)
    }
  }
}
