import Glibc
import Posix

/// Runs a command and returns its standard output.
package enum CommandOutput {
  package typealias Runner =
    @Sendable (_ command: String, _ timeout: Duration) throws(Failure) -> [UInt8]

  package struct Failure: Error {
    package let problem: String
  }

  static let largestInBytes = 64 << 10

  /// Runs a command by `sh -c`, with an empty standard input and with our standard error.
  ///
  /// - Parameters:
  ///   - timeout: how long the command may take before it is killed, with all processes that it has
  ///     started.
  ///   - folder: the folder in which the command runs, if that still exists.
  package static func run(
    _ command: String, timeout: Duration, in folder: String
  ) throws(Failure) -> [UInt8] {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw Failure(problem: "cannot create a pipe: \(String(cString: strerror(errno)))")
    }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(ends[0]) }
    let spawned = Result { () throws(Failure) in
      try spawn(command, writingTo: ends[1], in: folder)
    }
    close(ends[1])
    let child = try spawned.get()
    let output = Result { () throws(Failure) in
      try read(ends[0], until: SuspendingClock.now + timeout)
    }
    let ending = end(of: child, isWanted: (try? output.get()) != nil)
    let bytes = try output.get()
    switch ending {
    case .exited(status: 0), .unknown: return bytes
    case .exited(let status): throw Failure(problem: "the command ended with exit status \(status)")
    case .signalled(let signal): throw Failure(problem: "the command was ended by signal \(signal)")
    }
  }

  /// Waits for the end of a command that has closed its output, or whose output is not wanted any
  /// more.
  private static func end(of child: ChildProcess, isWanted: Bool) -> ChildProcess.Ending {
    for _ in 0..<100 where isWanted {
      if let ending = child.endingIfEnded() { return ending }
      usleep(10_000)
    }
    // The command has a process group of its own.
    kill(-child.pid, SIGKILL)
    return child.waitForEnd()
  }

  private static func spawn(
    _ command: String, writingTo end: Int32, in folder: String
  ) throws(Failure) -> ChildProcess {
    do {
      return try ChildProcess("/bin/sh", ["sh", "-c", command]) { setup in
        setup.give(end, as: STDOUT_FILENO)
        setup.open(STDIN_FILENO, "/dev/null", O_RDONLY)
        if access(folder, X_OK) == 0 { setup.changeFolder(to: folder) }
        // The command must not inherit libcurl's sockets.
        setup.closeDescriptors(from: STDERR_FILENO + 1)
        setup.resetSignals()
        setup.makeProcessGroup()
      }
    } catch {
      throw Failure(problem: "the command cannot be started: \(error)")
    }
  }

  private static func read(
    _ end: Int32, until deadline: SuspendingClock.Instant
  ) throws(Failure) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let remaining = deadline - SuspendingClock.now
      guard remaining > .zero else {
        throw Failure(problem: "the command took too long and was killed")
      }
      var descriptor = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
      guard poll(&descriptor, 1, Int32(clamping: remaining.inMilliseconds + 1)) > 0 else {
        continue
      }
      let count = Glibc.read(end, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return bytes }
      bytes += buffer[..<count]
      guard bytes.count <= largestInBytes else {
        throw Failure(problem: "the command printed more than \(largestInBytes) bytes")
      }
    }
  }
}
