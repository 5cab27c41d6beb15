import ReadPlanning
import Testing

@testable import inventoryfs

/// Sizes as the command line reads and writes them.
@Suite struct ByteCountTests {
  @Test(
    "A size is read with its unit",
    arguments: [
      ("0", 0), ("1000000", 1_000_000), ("7b", 7), ("512MiB", 512 << 20), ("20 GiB", 20 << 30),
      ("1.5G", 3 << 29), ("1kB", 1000), ("2tb", 2_000_000_000_000),
    ])
  func reads(text: String, bytes: Int) {
    #expect(ByteCount(argument: text)?.bytes == bytes)
  }

  @Test(
    "What is no size, or one that cannot be reckoned with, is refused",
    arguments: ["", "MiB", "-1", "1XB", "1MiBs", "1.2.3", "1024PiB", "9999999999999999999"])
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
