import CLinux
import Glibc
import PosixThreads

/// Runs a command and takes what it prints.
package enum CommandOutput {
  package typealias Runner =
    @Sendable (_ command: String, _ timeout: Duration) throws(Failure) -> [UInt8]

  package struct Failure: Error {
    package let problem: String
  }

  static let largestInBytes = 64 << 10

  /// Runs a command by `sh -c`, with nothing to read and our standard error.
  ///
  /// - Parameters:
  ///   - timeout: how long it may take before it is killed, with all that it has started.
  ///   - folder: where it runs, if it is still there.
  package static func run(
    _ command: String, timeout: Duration, in folder: String
  ) throws(Failure) -> [UInt8] {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw Failure(problem: "no pipe: \(String(cString: strerror(errno)))")
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
    let status = end(of: child, isWanted: (try? output.get()) != nil)
    let bytes = try output.get()
    guard status == 0 else {
      let signal = status & 0x7f
      throw Failure(
        problem: signal == 0 ? "exit status \(status >> 8 & 0xff)" : "ended by signal \(signal)")
    }
    return bytes
  }

  /// Waits for the end of a command that has closed its output, or whose output is not wanted any
  /// more.
  private static func end(of child: pid_t, isWanted: Bool) -> Int32 {
    var status: Int32 = 0
    for _ in 0..<100 where isWanted {
      // Less than 0 where SIGCHLD is ignored, and the kernel has forgotten it already.
      if waitpid(child, &status, WNOHANG) != 0 { return status }
      usleep(10_000)
    }
    // It has a process group of its own.
    kill(-child, SIGKILL)
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    return status
  }

  private static func spawn(
    _ command: String, writingTo end: Int32, in folder: String
  ) throws(Failure) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, end, STDOUT_FILENO)
    if access(folder, X_OK) == 0 { inventoryfs_change_folder(&actions, folder) }
    // libcurl's sockets are inherited.
    inventoryfs_close_from(&actions, STDERR_FILENO + 1)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // Neither the signals that we wait for nor those that we ignore.
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes,
      Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
    let arguments: [String] = ["sh", "-c", command]
    var argv = arguments.map { strdup($0) } + [nil]
    defer { for argument in argv { free(argument) } }
    var child = pid_t()
    let code = posix_spawn(&child, "/bin/sh", &actions, &attributes, &argv, environ)
    guard code == 0 else {
      throw Failure(problem: "cannot be started: \(String(cString: strerror(code)))")
    }
    return child
  }

  private static func read(
    _ end: Int32, until deadline: SuspendingClock.Instant
  ) throws(Failure) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let remaining = deadline - SuspendingClock.now
      guard remaining > .zero else { throw Failure(problem: "it took too long, and was ended") }
      var descriptor = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
      guard poll(&descriptor, 1, Int32(clamping: remaining.inMilliseconds + 1)) > 0 else {
        continue
      }
      let count = Glibc.read(end, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return bytes }
      bytes += buffer[..<count]
      guard bytes.count <= largestInBytes else {
        throw Failure(problem: "it printed more than \(largestInBytes) bytes")
      }
    }
  }
}
