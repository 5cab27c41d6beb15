import Testing

@testable import inventoryfs

/// Durations as the command line reads and writes them.
@Suite struct TimeSpanTests {
  @Test(
    "A duration is read with its unit, seconds where there is none",
    arguments: [
      ("60", 60_000), ("60s", 60_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000),
      ("0.5", 500), (".5s", 500), ("1.5m", 90_000), ("1ms", 1), ("24h", 86_400_000),
      ("86400", 86_400_000), ("007", 7000), ("0.000001h", 3),
    ] as [(String, Int)])
  func reads(text: String, milliseconds: Int) throws {
    let duration = try #require(TimeSpan(argument: text)).duration
    // Written as a fraction it is not exact.
    let (seconds, attoseconds) = duration.components
    #expect(seconds * 1000 + attoseconds / 1_000_000_000_000_000 == milliseconds)
  }

  @Test(
    "What is no duration, nothing, or more than a day is refused",
    arguments: [
      "", "s", ".", "0", "0s", "0.0h", "-1", "+1", "1 s", " 1", "1d", "1S", "1sec", "1m30s",
      "1.2.3",
      "1e3", "0x10", "inf", "nan", "infinity", "86401", "1441m", "25h", "86400.001", "１２", "½",
      "99999999999999999999999999", String(repeating: "9", count: 400),
      "0.000000000000000000000000000001", "1µs", "1s ",
    ] as [String])
  func refuses(text: String) {
    #expect(TimeSpan(argument: text) == nil)
    #expect(throws: (any Error).self) { try TimeSpan.parse(text) }
  }

  @Test("A duration is written as it can be read")
  func writes() {
    for (text, written) in [("60", "60s"), ("2m", "120s"), ("500ms", "500ms"), ("1.5", "1500ms")] {
      #expect(TimeSpan(argument: text).map { "\($0)" } == written)
      #expect(TimeSpan(argument: written).map { "\($0)" } == written)
    }
  }

  @Test(
    "A value that is refused is named, with what would be right",
    arguments: [
      ("--read-timeout", "25h", "more than 0 and at most 24h"), ("--read-timeout", "5x", "90s"),
      ("--cache-size", "much", "512MiB"), ("--cache-min-free", "-1", "less than 1024PiB"),
      ("--memory-limit", "1GiBs", "512MiB"),
      ("--file-mode", "999", "octal permissions of at most 777"),
      ("--dir-mode", "u=rx", "0440"),
    ])
  func message(option: String, value: String, hint: String) {
    let error = #expect(throws: (any Error).self) {
      _ = try MountCommand.parse(["source", "mountpoint", "\(option)=\(value)"])
    }
    let text = error.map { MountCommand.fullMessage(for: $0) } ?? ""
    let line = text.prefix { $0 != "\n" }
    #expect(
      line.contains("'\(value)'") && line.contains(option) && line.contains(hint), "\(text)")
  }
}
