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

  private func withPipe(_ body: (String) throws -> Void) throws {
    var folder = Array("/tmp/whole-file-tests.XXXXXX".utf8CString)
    try #require(mkdtemp(&folder) != nil)
    let name = String(decoding: folder.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
      unlink(name + "/pipe")
      rmdir(name)
    }
    try #require(mkfifo(name + "/pipe", 0o600) == 0)
    try body(name + "/pipe")
  }

  @Test("A pipe that nobody writes to is silent, and one that is written to is read to its end")
  func pipes() throws {
    try withPipe { path in
      #expect(throws: WholeFile.Failure.silent) {
        _ = try WholeFile.read(path, limitInBytes: 10, timeLimit: .milliseconds(30))
      }
      #expect(throws: WholeFile.Failure.notRegular) {
        _ = try WholeFile.read(path, limitInBytes: 10, mustBeRegular: true)
      }
      #expect(WholeFile.isPipe(path))
    }
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let path = "/dev/fd/\(ends[0])"
    defer { close(ends[0]) }
    #expect(write(ends[1], "0123", 4) == 4)
    #expect(throws: WholeFile.Failure.silent, "its writer has not ended") {
      _ = try WholeFile.read(path, limitInBytes: 10, timeLimit: .milliseconds(30))
    }
    #expect(write(ends[1], "4567", 4) == 4)
    close(ends[1])
    let found = try WholeFile.read(path, limitInBytes: 10)
    #expect(found == Array("4567".utf8))
    #expect(WholeFile.isPipe(path))
  }

  @Test("Other files are no pipes, and a path that responds is told from none by what is above it")
  func paths() {
    #expect(!WholeFile.isPipe("/tmp") && !WholeFile.isPipe("/no/such"))
    for path in ["/", "/tmp", "/no/such/file", "", "no-such-file", "/dev/null/below"] {
      #expect(pathResponds(path), "\(path)")
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
