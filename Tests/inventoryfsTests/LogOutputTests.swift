import Foundation
import Glibc
import Testing

@testable import inventoryfs

/// A log that hangs or fails keeps nobody waiting, and says what is missing.
@Suite(.timeLimit(.minutes(2))) struct LogOutputTests {
  /// The lines that a pipe yields until its other end is closed.
  private static func lines(from descriptor: Int32) -> [String] {
    let data = FileHandle(fileDescriptor: descriptor).readDataToEndOfFile()
    return String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  @Test("A pipe that nobody reads keeps a bounded number of lines, and the rest is counted")
  func hanging() async throws {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let output = LogOutput()
    output.redirect(to: .file(ends[1]))
    let count = 20_000
    // None of these waits: nobody reads the pipe until all are written.
    for number in 0..<count {
      output.write(.info, "line \(number) \(String(repeating: "x", count: 80))")
    }
    #expect(!output.flush(withinMilliseconds: 10))
    let reader = ends[0]
    let reading = Task.detached { Self.lines(from: reader) }
    try #require(output.flush(withinMilliseconds: 60_000))
    output.write(.info, "the last one")
    try #require(output.flush(withinMilliseconds: 60_000))
    close(ends[1])
    let lines = await reading.value
    close(ends[0])
    let reports = lines.filter { $0.contains("lines are missing here") }
    let report = try #require(reports.first)
    #expect(reports.count == 1)
    let missing = try #require(report.split(separator: " ").compactMap { Int($0) }.first)
    #expect(lines.count - 2 + missing == count)
    #expect(lines.count < count / 2, "what is kept is bounded")
    #expect(lines.last?.hasSuffix("the last one") == true)
    #expect(lines.firstIndex(of: report) == lines.count - 2, "where the lines are missing")
  }

  @Test("Lines that a full disk does not take are counted too")
  func failing() throws {
    let full = open("/dev/full", O_WRONLY | O_CLOEXEC)
    defer { close(full) }
    let output = LogOutput()
    output.redirect(to: .file(full))
    for number in 0..<10 {
      output.write(.info, "line \(number)")
      try #require(output.flush(withinMilliseconds: 60_000))
    }
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    output.redirect(to: .file(ends[1]))
    output.write(.info, "the disk has room again")
    try #require(output.flush(withinMilliseconds: 60_000))
    close(ends[1])
    let lines = Self.lines(from: ends[0])
    close(ends[0])
    #expect(lines.count == 2)
    #expect(lines.first?.contains("10 lines are missing here") == true)
    #expect(lines.last?.hasSuffix("the disk has room again") == true)
  }
}
