import AWSCredentials
import BlockCache
import CLinux
import Dispatch
import FuseMount
import Glibc
import InventoryFileSystem
import InventoryManifest
import Logging
import ObjectStore
import Posix
import PrintableText
import ReadPlanning
import SystemPackage

/// The process that serves one mount, from its flags to its end.
final class MountProcess {
  private let flags: MountCommand
  private let output = LogOutput()
  private let logger: Logger
  private let termination = Termination()
  private let inheritedDescriptors: [Int32]

  init(_ flags: MountCommand) {
    self.flags = flags
    inheritedDescriptors =
      flags.process.readyDescriptor == nil ? [] : BackgroundProcess.inheritedDescriptors()
    let output = output
    let level = flags.process.logLevel
    logger = Logger(label: "inventoryfs") { _ in OutputLogHandler(output: output, logLevel: level) }
  }

  /// Mounts, serves until unmounted, and cleans up.
  ///
  /// - Parameter onReady: called once the mount works; returns false if the mount must end, because
  ///   the process that asked for it has ended.
  func run(onReady: () -> Bool) throws(Failure) {
    // An error is printed after the lines that led to it.
    defer { _ = output.flush(withinMilliseconds: Self.longestWaitForLog) }
    // Each malloc arena keeps the memory that its threads once needed, and nearly every thread
    // would have one: they took 1 to 3 of 20 MiB of anonymous memory in a soak. The file system's
    // threads are few and seldom call malloc at the same time.
    inventoryfs_limit_malloc_arenas(2)
    signal(SIGPIPE, SIG_IGN)
    termination.watch()
    raiseDescriptorLimit()
    forbidCoreDumps()
    guard DescriptorShortage.softLimit >= DescriptorPlan.smallestLimit else {
      throw Failure(
        "the limit of open files is \(DescriptorShortage.softLimit), and at least \(DescriptorPlan.smallestLimit) are needed; raise the hard limit ('ulimit -Hn', LimitNOFILE= of a systemd unit)"
      )
    }
    // The log file is created only where the mountpoint is in order: it may be inside.
    let prepared = try failing { try Mountpoint.prepare(flags.mountpoint) }
    let mountpoint = prepared.path
    let logFile = try openLogFile(mountpoint: mountpoint)
    if let logFile {
      output.redirect(
        to: flags.process.foreground ? .file(logFile) : .standardErrorAndFile(logFile))
    }
    let memory = try planMemory()
    let fileSystem = try makeFileSystem(mountpoint: mountpoint, memory)
    termination.startMounting()
    let session: MountSession
    do {
      // The stale mount is removed only now, so that a failure above leaves the mountpoint
      // unchanged.
      session = try Mountpoint.claiming(mountpoint) { () throws(MountError) in
        if let source = try Mountpoint.clear(prepared) {
          logger.notice(
            "\(mountpoint): removed the stale mount of \(source), whose process has ended"
          )
        }
        return try MountSession(
          fileSystem,
          MountOptions(
            mountpoint: mountpoint, source: fileSystem.inventory.source,
            allowOther: flags.files.allowOther,
            maxBackground: max(16, min(64, flags.resources.maxConnections))),
          logger: logger, giveUp: { _exit(EXIT_FAILURE) })
      }
      try session.serve()
    } catch {
      fileSystem.shutDown()
      throw Failure(error)
    }
    DispatchQueue.global().async { fileSystem.prepareCache() }
    let answers = Self.answers(mountpoint)
    // Warnings are on the terminal before the command that mounts returns.
    _ = output.flush(withinMilliseconds: Self.longestWaitForLog)
    let isWanted = answers && onReady()
    // Signals are handled before the first log line, because the log may hang.
    termination.mounted(session)
    if isWanted {
      leaveTerminal(logFile)
      logger.info("mounted \(fileSystem.inventory.source) on \(mountpoint)")
    }
    if !isWanted { session.unmount() }
    session.waitUntilUnmounted()
    logLast("unmounted \(mountpoint)")
    if !answers {
      throw Failure(
        "\(mountpoint) was mounted but did not respond, and is unmounted again; see the log, and mount again"
      )
    }
  }

  // MARK: The parts

  private func makeFileSystem(
    mountpoint: String, _ memory: MemoryPlan
  ) throws(Failure) -> InventoryFileSystem {
    let loader = InventoryLoader(
      bucketOverride: flags.store.bucket.flatMap(BucketName.parse),
      keyPrefix: flags.store.keyPrefix.flatMap(KeyPrefix.init(parsing:)),
      readTimeout: flags.resources.readTimeout.duration,
      logger: logger)
    let ownership = NodeOwnership(
      userID: flags.files.uid ?? geteuid(), groupID: flags.files.gid ?? getegid(),
      fileMode: flags.files.fileMode.bits, directoryMode: flags.files.dirMode.bits)
    switch try failing({ try InventorySource(flags.source) }) {
    case .file(let path):
      try UserPath(path, option: "<source>").requireAnswer()
      warnOfIdleFlags()
      let inventory = try failing { try loader.load(path) }
      settleMemory(inventory, memory)
      guard case .folder(let folder) = inventory.place else {
        throw Failure("\(path): expected the inventory of a folder")
      }
      return InventoryFileSystem(inventory, folder: folder, ownership: ownership, logger: logger)
    case .store(let location):
      warnOfFewDescriptors()
      let store = try makeStore(memory)
      do throws(Failure) {
        let loaded = try load(location, from: store, loader, memory, mountpoint)
        let inventory = loaded.inventory
        guard case .bucket(let bucket) = inventory.place else {
          throw Failure("\(location): expected the inventory of a bucket")
        }
        settleMemory(inventory, memory)
        return InventoryFileSystem(
          inventory, bucket: bucket, ownership: ownership, store: store, cache: loaded.cache,
          cacheSizeInBytes: loaded.cacheSizeInBytes,
          keptManifestInBytes: loaded.keptManifestInBytes, maxConnections: memory.maxConnections,
          readTimeout: flags.resources.readTimeout.duration,
          verificationMode: flags.resources.verify,
          lingeringChunkCount: descriptors.lingeringChunkCount, logger: logger)
      } catch {
        store.shutDown()
        throw error
      }
    }
  }

  /// Loads the inventory from the store, or, while the store is away, from the manifest that the
  /// cache keeps.
  private func load(
    _ location: S3Location, from store: ObjectStore, _ loader: InventoryLoader,
    _ memory: MemoryPlan, _ mountpoint: String
  ) throws(Failure) -> Loaded {
    let path = try cachePath(mountpoint: mountpoint)
    let loaded: Inventory
    do throws(InventoryLoadError) {
      loaded = try loader.load(location, from: store, maxRequests: memory.maxConnections)
    } catch {
      // The cache is not created for nothing.
      let keptPath = KeptManifest.path(in: BlockCache.folder(in: path))
      guard error.isStoreAway, access(keptPath, R_OK) == 0 else { throw Failure(error) }
      let (cache, size) = try openCache(path)
      guard
        let kept = KeptManifest.read(in: cache.folder, of: location, store: store.identity)
      else { throw Failure(error) }
      let version = kept.eTag.isEmpty ? "" : ", ETag \(printable(kept.eTag, limit: 64))"
      logger.warning(
        "\(error) The inventory is mounted from the manifest in the cache, which was fetched \(kept.age) ago\(version); only what is cached can be read until the store works again."
      )
      let inventory = try failing { try loader.load(kept, of: location) }
      return Loaded(
        inventory: inventory, cache: cache, cacheSizeInBytes: size,
        keptManifestInBytes: kept.sizeOnDiskInBytes)
    }
    let (cache, size) = try openCache(path)
    let kept = KeptManifest(loaded, at: location, store: store.identity)
    return Loaded(
      inventory: loaded, cache: cache, cacheSizeInBytes: size,
      keptManifestInBytes: keep(kept, cache, cacheSizeInBytes: size))
  }

  /// An inventory of a store, with its cache.
  private struct Loaded {
    let inventory: Inventory
    let cache: BlockCache
    /// What the cache may take on disk, with the manifest that it keeps.
    let cacheSizeInBytes: Int
    /// What that manifest takes.
    let keptManifestInBytes: Int
  }

  /// Keeps the manifest in the cache for a time when the store is away.
  ///
  /// - Returns: the bytes of the cache that it takes.
  private func keep(_ kept: KeptManifest?, _ cache: BlockCache, cacheSizeInBytes: Int) -> Int {
    guard let kept, kept.sizeOnDiskInBytes <= cacheSizeInBytes / 16,
      cacheSizeInBytes - kept.sizeOnDiskInBytes >= BlockCache.smallestSizeInBytes,
      cache.roomInBytes() ?? .max > kept.sizeOnDiskInBytes
    else {
      KeptManifest.remove(in: cache.folder)
      return 0
    }
    guard let code = kept.write(in: cache.folder) else { return kept.sizeOnDiskInBytes }
    KeptManifest.remove(in: cache.folder)
    logger.info(
      "\(cache.folder): the manifest cannot be kept for a time when the store is away: \(Errno(rawValue: code))"
    )
    return 0
  }

  /// A manifest on disk and its chunks are read in place.
  private func warnOfIdleFlags() {
    let given = [
      ("--endpoint-url", flags.store.endpointUrl != nil), ("--region", flags.store.region != nil),
      ("--profile", flags.store.profile != nil), ("--no-sign-request", flags.store.noSignRequest),
      ("--bucket", flags.store.bucket != nil), ("--key-prefix", flags.store.keyPrefix != nil),
    ].filter(\.1).map(\.0)
    guard !given.isEmpty else { return }
    logger.warning(
      "\(given.joined(separator: ", ")): no effect, because the chunks of a manifest on disk are read from files beside it; to read chunks from the store, mount the manifest's s3:// URL"
    )
  }

  private static var usualNetworkThreadCount: Int {
    max(1, min(4, sysconf(Int32(_SC_NPROCESSORS_ONLN)) / 4))
  }

  private var networkThreadCount: Int {
    flags.resources.networkThreads ?? Self.usualNetworkThreadCount
  }

  private var descriptors: DescriptorPlan {
    DescriptorPlan(
      limit: DescriptorShortage.softLimit, maxConnections: flags.resources.maxConnections,
      networkThreadCount: networkThreadCount)
  }

  private func warnOfFewDescriptors() {
    let (plan, limit) = (descriptors, DescriptorShortage.softLimit)
    guard limit < plan.wantedCount else { return }
    logger.warning(
      "the limit of open files is \(limit), and \(plan.wantedCount) are wanted: \(plan.maxConnections == 1 ? "there is only 1 connection" : "there are at most \(plan.maxConnections) connections"), and when many chunks are open, some are read without caching; raise the hard limit ('ulimit -Hn', LimitNOFILE= of a systemd unit) and mount again"
    )
  }

  private func planMemory() throws(Failure) -> MemoryPlan {
    let threadCount = MountSession.threadCount + MountSession.replyThreadCount
    let limit = flags.resources.memoryLimit
    let connections = descriptors.maxConnections
    guard
      let plan = MemoryPlan(
        limitInBytes: limit.bytes, maxConnections: connections,
        threadCount: threadCount,
        networkThreadCount: networkThreadCount)
    else {
      let smallest = ByteCount(bytes: MemoryPlan.smallestLimitInBytes(threadCount: threadCount))
      throw Failure(
        "--memory-limit \(limit) is too small for one connection; set --memory-limit to at least \(smallest)"
      )
    }
    if plan.maxConnections < connections {
      logger.warning(
        "--memory-limit \(limit) allows \(plan.maxConnections) connections instead of \(connections)"
      )
    }
    return plan
  }

  /// Gives back what loading the manifest took, and warns if what it keeps exceeds the limit.
  private func settleMemory(_ inventory: Inventory, _ memory: MemoryPlan) {
    inventoryfs_release_freed_memory()
    let limit = flags.resources.memoryLimit
    let needed = memory.peakInBytes + inventory.memoryInBytes
    guard needed > limit.bytes else { return }
    let mebibyte = 1 << 20
    let enough = ByteCount(bytes: (needed + mebibyte - 1) / mebibyte * mebibyte)
    logger.warning(
      "\(inventory.source): its \(inventory.chunks.count) chunks take \(ByteCount(bytes: inventory.memoryInBytes / mebibyte * mebibyte)) of memory, with which the process may exceed --memory-limit \(limit); set --memory-limit to at least \(enough), or fewer --max-connections"
    )
  }

  private func makeStore(_ memory: MemoryPlan) throws(Failure) -> ObjectStore {
    let readTimeout = flags.resources.readTimeout.duration
    let flags = flags.store
    return try failing {
      let environment = Self.environment()
      let sharedFiles = SharedFiles(environment: environment)
      let profile = try sharedFiles.profile(named: flags.profile)
      let region = Region.name(explicit: flags.region, environment: environment, profile: profile)
      let url = try S3Endpoint.configuredURL(
        explicit: flags.endpointUrl, environment: environment, profile: profile, in: sharedFiles)
      let endpoint = try url.map { try S3Endpoint(url: $0) } ?? S3Endpoint(region: region)
      let credentials: any CredentialsProvider =
        flags.noSignRequest
        ? AnonymousCredentials()
        : CredentialsChain.standard(
          profileNamed: flags.profile,
          CredentialSources(
            environment: environment, sharedFiles: sharedFiles, region: flags.region, trace: trace))
      var configuration = ObjectStoreConfiguration(
        endpoint: endpoint, region: region, maxConnections: memory.maxConnections,
        networkThreadCount: memory.networkThreadCount,
        receiveBufferSizeInBytes: memory.receiveBufferSizeInBytes, readTimeout: readTimeout)
      configuration.trace = trace
      configuration.awsCommand = flags.awsCommand(endpointURL: url)
      guard let store = ObjectStore(configuration, credentials: credentials) else {
        throw Failure(
          "libcurl cannot be set up, because the system has no memory or threads left (see 'ulimit -u')"
        )
      }
      return store
    }
  }

  private func cachePath(mountpoint: String) throws(Failure) -> String {
    let path =
      if let given = flags.resources.cacheDir { try Self.absolute(given) } else {
        try DefaultCacheFolder.path(
          forMountpoint: mountpoint, environment: Self.environment())
      }
    try UserPath(path, option: "--cache-dir").requireAnswer()
    // Each access to such a cache would be a request to the mount itself.
    guard !UserPath(path, option: "--cache-dir").isInside(mountpoint) else {
      throw Failure(
        "cache directory \(path) is inside the mountpoint \(mountpoint); set --cache-dir to another"
      )
    }
    return path
  }

  private func openCache(_ path: String) throws(Failure) -> (BlockCache, sizeInBytes: Int) {
    // The default size is computed before the directory is made, which takes some space.
    let size = flags.resources.cacheSize?.bytes ?? Self.defaultCacheSize(path)
    let minFree = flags.resources.cacheMinFree?.bytes ?? BlockCache.usualMinFreeBytes(at: path)
    let cache = try lockCache(path, minFreeInBytes: minFree)
    // The size is checked after that, so that a disk that cannot be written is not called full.
    guard size >= BlockCache.smallestSizeInBytes else {
      throw Failure(Self.tooSmall(path, sizeInBytes: size))
    }
    return (cache, size)
  }

  private func lockCache(_ path: String, minFreeInBytes: Int) throws(Failure) -> BlockCache {
    // The process of a mount that has just been removed may still be closing its cache.
    for attempt in 0... {
      do throws(BlockCacheError) {
        return try BlockCache(path: path, minFreeInBytes: minFreeInBytes, logger: logger)
      } catch {
        guard case .inUse = error, attempt < 20 else { throw Failure(error) }
        usleep(100_000)
      }
    }
    throw Failure("cache directory \(path) is in use; set --cache-dir to another")
  }

  private static func tooSmall(_ path: String, sizeInBytes: Int) -> String {
    let smallest = BlockCache.smallestSizeInBytes
    return "cache directory \(path): \(ByteCount(bytes: sizeInBytes * 2)) are free on its disk; "
      + "by default a cache takes half of that, and it needs at least \(ByteCount(bytes: smallest)); "
      + "make room, set --cache-dir to another directory, or set --cache-size"
  }

  private static func defaultCacheSize(_ path: String) -> Int {
    min(20 << 30, (BlockCache.freeBytes(at: path) ?? 0) / 2)
  }

  // MARK: The process

  /// How long the process waits at most, in milliseconds, for a log that hangs.
  private static let longestWaitForLog = 5000

  /// Writes the last log line, and ends the process with an error status if the log hangs.
  private func logLast(_ message: String) {
    logger.info("\(message)")
    if !output.flush(withinMilliseconds: Self.longestWaitForLog) { _exit(EXIT_FAILURE) }
  }

  /// Takes the lines of the trace of requests.
  private var trace: @Sendable (_ line: () -> String) -> Void {
    { [logger] line in logger.trace("\(line())") }
  }

  private func openLogFile(mountpoint: String) throws(Failure) -> Int32? {
    guard let path = flags.process.logFile else { return nil }
    let place = UserPath(path, option: "--log-file")
    try place.requireAnswer()
    guard !place.isInside(mountpoint) else {
      throw Failure(
        "log file \(path) is inside the mountpoint \(mountpoint); set --log-file to another")
    }
    // Without O_NONBLOCK a pipe would be waited for until it has a reader.
    let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o600)
    guard file >= 0 else {
      let reason = errno == ENXIO ? "it is a pipe that nobody reads" : "\(Errno(rawValue: errno))"
      throw Failure("log file \(path) cannot be opened: \(reason); set --log-file to another")
    }
    _ = fcntl(file, F_SETFL, O_APPEND)
    return file
  }

  private func leaveTerminal(_ logFile: Int32?) {
    guard flags.process.readyDescriptor != nil else { return }
    output.redirect(to: logFile.map { .file($0) } ?? .systemLog)
    BackgroundProcess.detach(closing: inheritedDescriptors)
  }

  /// Raises the limit of open files: each open chunk takes two descriptors, and the soft limit is
  /// often 1024.
  private func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  /// Prevents core dumps, because the process holds keys, which must not end up in a file. With a
  /// limit of 0 the kernel would still hand the dump to a program if `core_pattern` names one; with
  /// a limit of 1 it writes no dump either way (`do_coredump` in Linux's fs/coredump.c).
  /// PR_SET_DUMPABLE would do as well, but gives the process's files in /proc to root.
  private func forbidCoreDumps() {
    var limit = rlimit(rlim_cur: 1, rlim_max: 1)
    setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
  }

  /// Whether the mount responds: the kernel passes every statfs on to it.
  private static func answers(_ mountpoint: String) -> Bool {
    var info = statvfs()
    return statvfs(mountpoint, &info) == 0
  }

  private static func absolute(_ path: String) throws(Failure) -> String {
    if path.hasPrefix("/") { return path }
    guard let folder = getcwd(nil, 0) else {
      throw Failure(
        "the current directory does not exist any more; give \(path) as an absolute path")
    }
    defer { free(folder) }
    return FilePath(String(cString: folder)).pushing(FilePath(path)).lexicallyNormalized().string
  }

  private static func environment() -> [String: String] {
    var variables: [String: String] = [:]
    var place = environ
    while let entry = place.pointee {
      let text = String(cString: entry)
      if let equals = text.firstIndex(of: "=") {
        variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
      }
      place += 1
    }
    // Services and mounts at boot are started without HOME.
    if variables["HOME", default: ""].isEmpty { variables["HOME"] = homeInPasswordDatabase() }
    return variables
  }

  private static func homeInPasswordDatabase() -> String? {
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    let strings = UnsafeMutableBufferPointer<CChar>.allocate(capacity: 16 << 10)
    // The entry points into this buffer, so its text is copied before the buffer is freed.
    defer { strings.deallocate() }
    guard let start = strings.baseAddress,
      getpwuid_r(getuid(), &entry, start, strings.count, &found) == 0, found != nil
    else { return nil }
    return entry.pw_dir.map { String(cString: $0) }
  }
}
