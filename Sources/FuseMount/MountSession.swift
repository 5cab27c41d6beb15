import CFuse3
import Dispatch
import Glibc
public import InventoryFileSystem
import Locks
public import Logging
import Posix

/// A mounted file system: libfuse's session and the threads that serve it.
///
/// The session's threads never wait for the network: a read that has to wait is parked, so a few
/// threads serve any number of readers, and are enough to keep a local disk busy. Each owns one
/// buffer of the largest read, because a buffer that stays with its thread is 2.5 times as fast as
/// one allocated per read (measured on 1 MiB reads).
///
/// They are our own threads rather than libfuse's loop, because libfuse ends threads by
/// cancellation, which Swift code does not survive.
public final class MountSession: Sendable {
  /// Threads that receive requests and answer those that need not wait.
  public static let threadCount = 4
  /// Threads that answer reads that had to wait.
  public static let replyThreadCount = 2
  /// How long the end waits for threads that are blocked by a disk or a log.
  private static let endTimeoutInSeconds = 10

  // libfuse's session may be used from any thread; it is destroyed by `waitUntilUnmounted`, after
  // all threads have ended.
  private nonisolated(unsafe) let session: OpaquePointer
  private let context: OperationContext
  private let mountpoint: String
  /// The mount's device, which differs from that of another mount that has taken its place.
  private let mountedDevice: String?
  private let logger: Logger
  private let giveUp: @Sendable () -> Void
  // Mutable state
  private let threads = Lock<[PosixThread]>([])
  private let endedThreadCount = Lock(0)
  /// The semaphore that each thread signals as it ends.
  private let threadEnded = DispatchSemaphore(value: 0)
  /// Whether the session's resources are being freed. It is locked while `unmount` uses them.
  private let isFinished = Lock(false)
  /// Whether the end has begun, and its timeout is running.
  private let isEndWatched = Lock(false)
  /// Whether the session's resources have been freed.
  private let hasEnded = Lock(false)

  /// Mounts the file system. It replies to requests once `serve` has started its threads.
  ///
  /// It must be called in `Mountpoint.claiming`.
  ///
  /// - Parameter giveUp: ends the process at once. It is called when threads do not end in time, so
  ///   that their memory cannot be freed; the cache tolerates an end at any moment.
  public init(
    _ fileSystem: InventoryFileSystem, _ options: MountOptions, logger: Logger,
    giveUp: @escaping @Sendable () -> Void
  ) throws(MountError) {
    self.giveUp = giveUp
    // This comes first, because nothing has to be undone yet when it throws.
    try Self.checkDevice()
    guard
      let pool = ReplyPool(
        threadCount: Self.replyThreadCount, bufferSizeInBytes: OperationContext.maxReadInBytes)
    else { throw .noThreads }
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    let device = FuseDevice(options, fileSystem, logger: logger)
    let context = OperationContext(
      fileSystem, pool, device: device,
      backingFiles: device.map { BackingFiles(fileSystem, $0) },
      maxBackground: UInt32(options.maxBackground), bufferKey: key)
    self.context = context
    mountpoint = options.mountpoint
    self.logger = logger

    var arguments = Self.arguments(options)
    defer { fuse_opt_free_args(&arguments) }
    var operations = makeOperations()
    let session = LibfuseLog.collect {
      // The context is kept by this object, which outlives the session.
      fuse_session_new(
        &arguments, &operations, MemoryLayout<fuse_lowlevel_ops>.size,
        Unmanaged.passUnretained(context).toOpaque())
    }
    guard let raw = session.result else {
      if device != nil { try? Mountpoint.remove(mountpoint, lazily: true) }
      throw .fuseRefused(path: options.mountpoint, detail: session.detail)
    }
    self.session = raw
    if let device {
      if device.attach(to: raw) {
        mountedDevice = Self.mountedDevice(fuse_session_fd(raw), at: mountpoint)
        return
      }
      try? Mountpoint.remove(mountpoint, lazily: true)
    }
    let mounted = LibfuseLog.collect { fuse_session_mount(raw, options.mountpoint) }
    guard mounted.result == 0 else {
      fuse_session_destroy(raw)
      let obstacle = MountObstacle.found().map { "\($0) (\(mounted.detail))" }
      throw .fuseRefused(path: options.mountpoint, detail: obstacle ?? mounted.detail)
    }
    mountedDevice = Self.mountedDevice(fuse_session_fd(raw), at: mountpoint)
  }

  /// The device of the mount that a connection serves. Where the kernel does not tell it, it is
  /// that of the mount of ours on the path; another program may have mounted over it by now.
  private static func mountedDevice(_ connection: Int32, at mountpoint: String) -> String? {
    if let number = ServingProcess.statedConnection("/proc/self/fdinfo/\(connection)") {
      return "0:\(number)"
    }
    let mount = MountTable()?.topmost(at: mountpoint)
    return mount.flatMap { $0.type == Mountpoint.fileSystemType ? $0.device : nil }
  }

  /// Starts the threads that reply to the kernel. On failure the mount is removed.
  public func serve() throws(MountError) {
    for _ in 0..<Self.threadCount {
      guard let thread = PosixThread(named: "fuse", { [self] in serveRequests() }) else {
        unmount()
        waitUntilUnmounted()
        throw .noThreads
      }
      threads.withLock { $0.append(thread) }
    }
    raiseKernelReadAhead()
  }

  /// Waits until the file system has been unmounted, by `unmount` or from outside, and frees the
  /// session's resources.
  public func waitUntilUnmounted() {
    let threads = threads.withLock { $0 }
    for _ in threads {
      threadEnded.wait()
      watchEnd()
    }
    // This waits for an `unmount` that is under way; a later one does nothing.
    isFinished.withLock { $0 = true }
    for thread in threads { thread.join() }
    context.fileSystem.shutDown()
    context.pool.stop()
    // This removes the mount if it still exists, and closes the connection: remaining readers get
    // ENOTCONN. libfuse does so for its own mounts, and does not know ours.
    if isInPlace {
      if context.device?.isConnected == true {
        try? Mountpoint.detach(mountpoint, device: mountedDevice, lazily: true)
      }
      fuse_session_unmount(session)
    }
    fuse_session_destroy(session)
    context.device?.disconnect()
    pthread_key_delete(context.bufferKey)
    hasEnded.withLock { $0 = true }
  }

  /// Removes the mount even if files are open there, and lets `waitUntilUnmounted` return. It may
  /// be called from any thread.
  public func unmount() {
    isFinished.withLock { isFinished in
      if !isFinished { endThreads() }
    }
  }

  /// Ensures that a thread which is blocked by a hung disk does not keep the process from ending.
  private func watchEnd() {
    let isFirst = isEndWatched.withLock { isWatched in
      defer { isWatched = true }
      return !isWatched
    }
    guard isFirst else { return }
    DispatchQueue(label: "end").asyncAfter(deadline: .now() + .seconds(Self.endTimeoutInSeconds)) {
      [self] in
      guard !hasEnded.withLock({ $0 }) else { return }
      // The log itself may hang.
      _ = answer(withinMilliseconds: 1000) { [logger, mountpoint] in
        logger.error(
          "\(mountpoint): some threads do not end, perhaps because the cache's disk or the log hangs; the process ends without waiting for them"
        )
      }
      giveUp()
    }
  }

  /// Whether this mount is visible at its mountpoint: after a lazy unmount only programs with open
  /// files use it, and another mount may be there by now.
  /// Where the table cannot be read, as with no descriptors left, the mount is taken to be there.
  private var isInPlace: Bool {
    guard let mountedDevice, let table = MountTable() else { return true }
    return table.topmost(at: mountpoint)?.device == mountedDevice
  }

  private func endThreads() {
    watchEnd()
    do {
      if isInPlace {
        try Mountpoint.detach(mountpoint, device: mountedDevice, lazily: true)
      }
    } catch {
      // Another process may unmount it at the same time.
      if case .notMounted = error {} else { logger.warning("\(error)") }
    }
    // This fails reads that wait for the network.
    context.fileSystem.shutDown()
    fuse_session_exit(session)
    // With files open the kernel does not close the connection, so a signal interrupts threads that
    // wait for a request. A signal that arrives just before a thread starts to wait is lost, hence
    // the repetition.
    let threads = threads.withLock { $0 }
    while endedThreadCount.withLock({ $0 }) < threads.count {
      for thread in threads { thread.signal(SIGUSR1) }
      usleep(2000)
    }
  }

  // MARK: The threads

  private func serveRequests() {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: OperationContext.maxReadInBytes, alignment: 4096)
    pthread_setspecific(context.bufferKey, buffer.baseAddress)
    var wakeUp = sigset_t()
    sigemptyset(&wakeUp)
    sigaddset(&wakeUp, SIGUSR1)
    // The handler does nothing, but without SA_RESTART the signal ends the system call that it
    // arrives in.
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGUSR1, &action, nil)
    pthread_sigmask(SIG_UNBLOCK, &wakeUp, nil)
    var message = fuse_buf()
    serving: while fuse_session_exited(session) == 0 {
      let count = fuse_session_receive_buf(session, &message)
      switch count {
      case 1...: fuse_session_process_buf(session, &message)
      // The session has ended: the kernel has closed the connection, or `endThreads` has sent a
      // signal.
      case 0: break serving
      case -EINTR: continue
      // The kernel, or malloc, is short of memory for the moment.
      case -ENOMEM, -EAGAIN: usleep(10_000)
      default:
        logger.error(
          "\(mountpoint): /dev/fuse cannot be read: \(String(cString: strerror(Int32(-count)))); the mount ends"
        )
        fuse_session_exit(session)
      }
    }
    pthread_setspecific(context.bufferKey, nil)
    free(message.mem)
    buffer.deallocate()
    endedThreadCount.withLock { $0 += 1 }
    threadEnded.signal()
  }

  // MARK: Mounting

  /// The arguments that the session is made with; `fuse_opt_free_args` must free them.
  static func arguments(_ options: MountOptions) -> fuse_args {
    // A comma would end the option, a backslash escapes it: libfuse's own rule.
    let source = options.source.replacing("\\", with: "\\\\").replacing(",", with: "\\,")
    var mountOptions = [
      "ro", "nosuid", "nodev", "noatime", "default_permissions", "subtype=inventoryfs",
      "fsname=\(source)", "max_read=\(OperationContext.maxReadInBytes)",
    ]
    if options.allowOther { mountOptions.append("allow_other") }
    var arguments = fuse_args()
    fuse_opt_add_arg(&arguments, "inventoryfs")
    fuse_opt_add_arg(&arguments, "-o")
    fuse_opt_add_arg(&arguments, mountOptions.joined(separator: ","))
    return arguments
  }

  private static func checkDevice() throws(MountError) {
    let device = Glibc.open("/dev/fuse", O_RDWR | O_CLOEXEC)
    guard device < 0 else {
      defer { close(device) }
      var info = stat()
      // Device 229 of major 10 (Documentation/admin-guide/devices.txt of Linux).
      guard fstat(device, &info) == 0, info.st_mode & S_IFMT == S_IFCHR,
        info.st_rdev == 10 << 8 | 229
      else { throw .fuseDeviceUnusable(errno: ENXIO) }
      return
    }
    switch errno {
    case EACCES, EPERM: throw .fuseDeviceDenied
    case ENOENT: throw .noFuseDevice
    case ENXIO, ENODEV: throw .noFuseModule
    case let code: throw .fuseDeviceUnusable(errno: code)
    }
  }

  /// Sets the kernel's read-ahead to 1 MiB, with which a sequential reader is half again as fast as
  /// with the default of 128 KiB. Only root may set it, and a failure does no harm.
  private func raiseKernelReadAhead() {
    // The device is the mount's own, not that of another mount on the path by now.
    guard let mountedDevice,
      let file = fopen("/sys/class/bdi/\(mountedDevice)/read_ahead_kb", "we")
    else { return }
    fputs(String(OperationContext.maxReadInBytes >> 10), file)
    fclose(file)
  }
}
