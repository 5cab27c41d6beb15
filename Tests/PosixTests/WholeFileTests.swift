import Glibc
import Posix
import Testing

@Suite(.timeLimit(.minutes(2))) struct WholeFileTests {
  private func withFile(_ bytes: [UInt8], _ body: (String) throws -> Void) throws {
    var path = Array("/tmp/whole-file-tests.XXXXXX".utf8CString)
    let descriptor = mkstemp(&path)
    try #require(descriptor >= 0)
    let name = String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
      close(descriptor)
      unlink(name)
    }
    try #require(write(descriptor, bytes, bytes.count) == bytes.count)
    try body(name)
  }

  @Test(
    "A file is read whole up to the limit, and not a byte more", arguments: [0, 1, 65_536, 200_000])
  func limit(count: Int) throws {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    try withFile(bytes) { path in
      let found = try WholeFile.read(path, limitInBytes: count)
      #expect(found == bytes)
      #expect(throws: WholeFile.Failure.tooLarge) {
        _ = try WholeFile.read(path, limitInBytes: count - 1)
      }
    }
  }

  @Test("A file without a size, or without an end, is read up to the limit")
  func specialFiles() throws {
    let table = try WholeFile.read("/proc/self/mountinfo", limitInBytes: 1 << 20)
    #expect(!table.isEmpty)
    #expect(throws: WholeFile.Failure.tooLarge) {
      _ = try WholeFile.read("/dev/zero", limitInBytes: 1 << 20)
    }
  }

  @Test("What cannot be read says why")
  func failures() {
    #expect(throws: WholeFile.Failure.system(ENOENT)) {
      _ = try WholeFile.read("/no/such/file", limitInBytes: 1)
    }
    #expect(throws: WholeFile.Failure.system(EISDIR)) {
      _ = try WholeFile.read("/tmp", limitInBytes: 1 << 20)
    }
  }

  @Test("What takes too long is left behind, and what answers in time is heard")
  func timedAnswer() {
    var ends: [Int32] = [-1, -1]
    #expect(pipe(&ends) == 0)
    let reading = ends[0]
    let late: UInt8? = answer(withinMilliseconds: 20) {
      var byte: UInt8 = 0
      _ = read(reading, &byte, 1)
      return byte
    }
    #expect(late == nil)
    #expect(answer(withinMilliseconds: 60_000) { 7 } == 7)
    // Lets the thread that was left behind end.
    close(ends[1])
  }
}
