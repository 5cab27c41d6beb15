import CLinux
import Glibc
import Posix

/// Puts the mount in the background.
///
/// The program starts itself again and waits for one message on a pipe: "ready", or an error. The
/// second process starts a session of its own once it has mounted, and not before: while the kernel
/// waits for the mount of an autofs mountpoint, only the automounter's process group may access
/// that. The program does not fork: a forked process has none of the threads that the runtime may
/// have started by then. Standard error stays the user's until the mount is ready, so that warnings
/// are seen.
enum BackgroundProcess {
  private static let readyDescriptor: Int32 = 3
  private static let ready = UInt8(ascii: "+")
  private static let failed = UInt8(ascii: "-")

  /// The hidden option that tells the second process about its pipe.
  static let readyOption = "ready-descriptor"

  /// Starts this program again with the same arguments and waits for its message.
  static func start() throws(Failure) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw Failure("cannot create a pipe: \(String(cString: strerror(errno)))")
    }
    defer { close(ends[0]) }
    // Only the copy made for the second process stays open there.
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let spawned = Result { () throws(Failure) in try spawn(readyEnd: ends[1]) }
    close(ends[1])
    let child = try spawned.get()
    var message: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(ends[0], &buffer, buffer.count)
      if count > 0 { message += buffer[..<count] } else if count == 0 || errno != EINTR { break }
    }
    switch message.first {
    case ready: return
    case failed:
      // The second process must have ended before we return.
      _ = ending(of: child)
      throw Failure(String(decoding: message.dropFirst(), as: UTF8.self))
    default:
      throw Failure(
        "the background process ended \(ending(of: child)) before it had mounted; mount with --foreground to see its messages"
      )
    }
  }

  private static func spawn(readyEnd: Int32) throws(Failure) -> ChildProcess {
    var arguments = MountOptionList(Array(CommandLine.arguments.dropFirst())).arguments
    // The option goes after the command and before a `--`, which ends the options.
    let place = arguments.firstIndex(of: "mount").map { $0 + 1 } ?? arguments.endIndex
    arguments.insert("--\(readyOption)=\(readyDescriptor)", at: place)
    arguments.insert(CommandLine.arguments.first ?? "inventoryfs", at: 0)
    do {
      return try ChildProcess("/proc/self/exe", arguments) { setup in
        // First, because the pipe's end may have one of the numbers that are opened next.
        setup.give(readyEnd, as: readyDescriptor)
        setup.open(STDIN_FILENO, "/dev/null", O_RDONLY)
        setup.open(STDOUT_FILENO, "/dev/null", O_WRONLY)
      }
    } catch {
      throw Failure("cannot start the background process: \(error)")
    }
  }

  private static func ending(of child: ChildProcess) -> String {
    switch child.waitForEnd() {
    case .exited(let status): "with status \(status)"
    case .signalled(let signal): "by signal \(signal)"
    case .unknown: "unexpectedly"
    }
  }

  // MARK: In the second process

  /// Leaves the session of the first process, whose terminal may send signals, and tells that
  /// process that the mount works. Returns false when that process has ended, so that the mount
  /// must end too.
  static func reportReady(to descriptor: Int32) -> Bool {
    defer { close(descriptor) }
    setsid()
    return write(descriptor, [ready], 1) == 1
  }

  static func report(_ failure: Failure, to descriptor: Int32) {
    let message = [failed] + Array(failure.description.utf8)
    _ = write(descriptor, message, message.count)
    close(descriptor)
  }

  /// The descriptors that the second process inherited beside its standard descriptors and its
  /// pipe, such as a lock that the caller holds. It must be called before any file is opened.
  /// Descriptors that the runtime has opened are close-on-exec; inherited ones are not.
  static func inheritedDescriptors() -> [Int32] {
    guard let folder = opendir("/proc/self/fd") else { return [] }
    defer { closedir(folder) }
    var found: [Int32] = []
    while let item = readdir(folder) {
      let name = String(cString: inventoryfs_entry_name(item))
      guard let descriptor = Int32(name), descriptor > readyDescriptor else { continue }
      let flags = fcntl(descriptor, F_GETFD)
      if flags >= 0, flags & FD_CLOEXEC == 0 { found.append(descriptor) }
    }
    return found
  }

  /// Lets go of the terminal, of the directory that the process was started in, and of the
  /// inherited descriptors: by now any file that was named as /dev/fd/N has been read.
  static func detach(closing inherited: [Int32]) {
    chdir("/")
    for descriptor in inherited { close(descriptor) }
    let null = open("/dev/null", O_RDWR | O_CLOEXEC)
    guard null >= 0 else { return }
    dup2(null, STDERR_FILENO)
    close(null)
  }
}
