import CLinux
import Glibc

/// A program that this one has started, by posix_spawn(3).
public struct ChildProcess: Sendable {
  /// Its number in this pid namespace.
  public let pid: Int32

  /// How a program ended.
  public enum Ending: Sendable, Equatable {
    case exited(status: Int32)
    case signalled(Int32)
    /// The kernel has forgotten the process already, as it does where SIGCHLD is ignored.
    case unknown
  }

  /// What the program gets instead of what it would inherit.
  public struct Setup: ~Copyable {
    fileprivate var actions = posix_spawn_file_actions_t()
    fileprivate var attributes = posix_spawnattr_t()
    private var flags: Int32 = 0

    fileprivate init() {
      posix_spawn_file_actions_init(&actions)
      posix_spawnattr_init(&attributes)
    }

    deinit {
      // The functions take a pointer to what they free, and a `deinit` has no way to hand out its
      // own: these are copies of two handles that nothing uses afterwards.
      var (actions, attributes) = (actions, attributes)
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }

    /// Opens a file as the descriptor of this number.
    public mutating func open(_ descriptor: Int32, _ path: String, _ flags: Int32) {
      posix_spawn_file_actions_addopen(&actions, descriptor, path, flags, 0)
    }

    /// Gives the program a descriptor of ours, by another number.
    public mutating func give(_ ours: Int32, as theirs: Int32) {
      posix_spawn_file_actions_adddup2(&actions, ours, theirs)
    }

    /// Closes all descriptors from this number on.
    public mutating func closeDescriptors(from first: Int32) {
      inventoryfs_close_from(&actions, first)
    }

    /// Runs the program in this folder, which must exist.
    public mutating func changeFolder(to path: String) {
      inventoryfs_change_folder(&actions, path)
    }

    /// Blocks no signal and ignores none, whatever this process does.
    public mutating func resetSignals() {
      var signals = sigset_t()
      sigemptyset(&signals)
      posix_spawnattr_setsigmask(&attributes, &signals)
      sigfillset(&signals)
      posix_spawnattr_setsigdefault(&attributes, &signals)
      add(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
    }

    /// Makes the program the leader of a process group, by whose number (its pid) it can be ended
    /// with all that it has started.
    public mutating func makeProcessGroup() {
      posix_spawnattr_setpgroup(&attributes, 0)
      add(POSIX_SPAWN_SETPGROUP)
    }

    private mutating func add(_ flag: Int32) {
      flags |= flag
      posix_spawnattr_setflags(&attributes, Int16(flags))
    }
  }

  /// Why a program could not be started.
  public struct StartFailure: Error, CustomStringConvertible {
    /// The errno of posix_spawn(3).
    public let errno: Int32
    public var description: String { String(cString: strerror(errno)) }
  }

  /// Starts a program with this one's environment.
  ///
  /// - Parameters:
  ///   - executable: a path, or a name that is looked for in PATH.
  ///   - arguments: all of them, the program's name first.
  public init(
    _ executable: String, _ arguments: [String], setup: (inout Setup) -> Void = { _ in }
  ) throws(StartFailure) {
    var prepared = Setup()
    setup(&prepared)
    // Freed when posix_spawn has returned, by when the program has copies.
    var argv = arguments.map { strdup($0) } + [nil]
    defer { for argument in argv { free(argument) } }
    var pid = pid_t()
    let code = posix_spawnp(
      &pid, executable, &prepared.actions, &prepared.attributes, &argv, environ)
    guard code == 0 else { throw StartFailure(errno: code) }
    self.pid = pid
  }

  /// Waits for the end.
  public func waitForEnd() -> Ending {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) != pid {
      guard errno == EINTR else { return .unknown }
    }
    return Self.ending(status)
  }

  /// The end, if the program has ended; nil while it runs.
  public func endingIfEnded() -> Ending? {
    var status: Int32 = 0
    switch waitpid(pid, &status, WNOHANG) {
    case 0: return nil
    case pid: return Self.ending(status)
    default: return errno == EINTR ? nil : .unknown
    }
  }

  private static func ending(_ status: Int32) -> Ending {
    let signal = status & 0x7f
    return signal == 0 ? .exited(status: status >> 8 & 0xff) : .signalled(signal)
  }
}
