import Glibc
import Posix
import Testing

@Suite(.timeLimit(.minutes(2))) struct ChildProcessTests {
  private func shell(
    _ command: String, setup: (inout ChildProcess.Setup) -> Void = { _ in }
  ) throws -> ChildProcess {
    try ChildProcess("sh", ["sh", "-c", command], setup: setup)
  }

  /// What a shell prints.
  private func output(
    of command: String, setup: (inout ChildProcess.Setup) -> Void = { _ in }
  ) throws -> String {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    defer { close(ends[0]) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let writing = ends[1]
    let child = try shell(command) {
      $0.give(writing, as: STDOUT_FILENO)
      setup(&$0)
    }
    close(writing)
    var text: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1024)
    while case let count = read(ends[0], &piece, piece.count), count > 0 { text += piece[..<count] }
    #expect(child.waitForEnd() == .exited(status: 0))
    return String(decoding: text, as: UTF8.self)
  }

  @Test("The end is a status or a signal")
  func endings() throws {
    #expect(try shell("exit 0").waitForEnd() == .exited(status: 0))
    #expect(try shell("exit 7").waitForEnd() == .exited(status: 7))
    #expect(try shell("kill -9 $$").waitForEnd() == .signalled(SIGKILL))
  }

  @Test("A program that runs has no end, and one that was waited for is forgotten")
  func running() throws {
    // A thread that runs tests may have SIGTERM blocked, which programs inherit.
    let child = try shell("exec sleep 1000") { $0.resetSignals() }
    #expect(child.endingIfEnded() == nil)
    kill(child.pid, SIGTERM)
    #expect(child.waitForEnd() == .signalled(SIGTERM))
    #expect(child.endingIfEnded() == .unknown)
  }

  @Test("A program that is not there cannot be started")
  func missing() {
    #expect { _ = try ChildProcess("/no/such/program", ["x"]) } throws: {
      ($0 as? ChildProcess.StartFailure)?.errno == ENOENT
    }
  }

  @Test("A program gets the descriptors and the folder that it is given, and no others")
  func descriptors() throws {
    let kept = open("/dev/null", O_RDONLY)
    defer { close(kept) }
    // The list has the descriptor with which ls reads it.
    let names = try output(of: "ls /proc/self/fd") {
      $0.open(STDIN_FILENO, "/dev/zero", O_RDONLY)
      $0.closeDescriptors(from: 3)
    }
    #expect(names.split(separator: "\n") == ["0", "1", "2", "3"])
    let target = try output(of: "readlink /proc/self/fd/0") {
      $0.open(STDIN_FILENO, "/dev/zero", O_RDONLY)
    }
    #expect(target == "/dev/zero\n")
    let folder = try output(of: "pwd") { $0.changeFolder(to: "/usr") }
    #expect(folder == "/usr\n")
  }

  @Test("A program leads a process group of its own, and blocks and ignores no signal")
  func processGroup() throws {
    let own = try output(of: "cut -d' ' -f5 /proc/$$/stat; echo $$") { $0.makeProcessGroup() }
    let lines = own.split(separator: "\n")
    #expect(lines.count == 2 && lines[0] == lines[1])
    let before = signal(SIGPIPE, SIG_IGN)
    defer { signal(SIGPIPE, before) }
    // The last 7 of 16 digits: the C library keeps signals 32 and 33 for itself.
    let command = "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2 | cut -c10- | tr -d '0\\n'"
    let signals = try output(of: command) { $0.resetSignals() }
    #expect(signals == "")
  }
}
