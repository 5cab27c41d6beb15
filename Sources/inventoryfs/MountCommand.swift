public import ArgumentParser
import BlockCache
import FuseMount
import Glibc
public import Logging
public import ReadPlanning

/// All flags of `mount`, with their defaults: the types below receive values.
struct MountCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mount",
    abstract: "Mounts an inventory.",
    discussion: """
      Returns once the mount answers, and goes on in the background. Chunks are fetched when they are read, in \
      parallel, into a cache on disk that never exceeds its size.

      Credentials come from the environment, from a profile in ~/.aws/credentials and ~/.aws/config (keys, roles, \
      logins, credential_process), or from the role of the container or EC2 instance, as with other AWS tools.
      """)

  @Argument(
    help:
      "A manifest.json: s3://bucket/key, a path, or a file:// URL. On disk, chunks are files beside it."
  )
  var source: String

  @Argument(help: "An empty directory.")
  var mountpoint: String

  @OptionGroup(title: "Store")
  var store: StoreFlags

  @OptionGroup(title: "Cache and resources")
  var resources: ResourceFlags

  @OptionGroup(title: "Files")
  var files: FileFlags

  @OptionGroup(title: "Process")
  var process: ProcessFlags

  @Option(
    name: .customShort("o"),
    help: ArgumentHelp(
      "The options above without their dashes, separated by commas, as in /etc/fstab (type fuse.inventoryfs).",
      valueName: "options"))
  var mountOptions: [String] = []

  struct StoreFlags: ParsableArguments {
    @Option(
      help:
        "The store's address, for stores other than AWS: http://host:port or https://host. (default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's)"
    )
    var endpointUrl: String?

    @Option(help: "The bucket's region. (default: AWS_REGION, the profile's, us-east-1)")
    var region: String?

    @Option(help: "The profile in ~/.aws/credentials and ~/.aws/config. (default: AWS_PROFILE)")
    var profile: String?

    @Flag(help: "Send requests unsigned, for public buckets.")
    var noSignRequest = false

    @Option(help: "Where the chunks are, instead of the manifest's destinationBucket.")
    var bucket: String?
  }

  struct ResourceFlags: ParsableArguments {
    @Option(
      help: ArgumentHelp(
        "Where fetched bytes are kept, also for the next mount. One mount at a time has it. (default: a folder for this mountpoint in $XDG_CACHE_HOME/inventoryfs)",
        valueName: "dir"))
    var cacheDir: String?

    @Option(
      help: ArgumentHelp(
        "What the cache may take on disk at any moment. (default: 20GiB, or half of what is free if that is less)",
        valueName: "size"))
    var cacheSize: ByteCount?

    @Option(
      help: ArgumentHelp(
        "What is left free on the cache's file system: the cache stays smaller than its size where it has to. (default: 1GiB, or a twentieth of the file system if that is less)",
        valueName: "size"))
    var cacheMinFree: ByteCount?

    @Option(
      help: ArgumentHelp(
        "When chunks are compared with the manifest's MD5: background (once they are in the cache and nobody reads them), strict (before their last byte is given out: for Parquet and ORC that is before anything is), off.",
        valueName: "mode"))
    var verify = VerificationMode.background

    @Option(help: ArgumentHelp("The most requests at once, over all chunks.", valueName: "count"))
    var maxConnections = 32

    @Option(
      help: ArgumentHelp(
        "Threads that receive from the store. (default: one for every four processors, at most 4)",
        valueName: "count"))
    var networkThreads: Int?

    @Option(
      help: ArgumentHelp(
        "The longest that an open or a read waits for the store, failed attempts included: 60, 90s, 2m.",
        valueName: "duration"))
    var readTimeout = TimeSpan(.seconds(60))

    @Option(
      help: ArgumentHelp(
        "What the process may take of memory; see docs/ARCHITECTURE.md for how it adds up.",
        valueName: "size"))
    var memoryLimit = ByteCount(bytes: 64 << 20)
  }

  struct FileFlags: ParsableArguments {
    @Option(help: "The files' owner. (default: the user who mounts)")
    var uid: UInt32?

    @Option(help: "The files' group. (default: the user's who mounts)")
    var gid: UInt32?

    @Option(help: "Permissions of files, octal; never writable.")
    var fileMode = FileMode(bits: 0o444)

    @Option(help: "Permissions of directories, octal; never writable.")
    var dirMode = FileMode(bits: 0o555)

    @Flag(
      help: "Let other users in. (users other than root need user_allow_other in /etc/fuse.conf)")
    var allowOther = false
  }

  struct ProcessFlags: ParsableArguments {
    @Flag(name: [.short, .long], help: "Stay in the foreground, until unmounted or interrupted.")
    var foreground = false

    @Option(
      help: ArgumentHelp(
        "The least serious messages that are logged: trace, debug, info, notice, warning, error.",
        valueName: "level"))
    var logLevel = Logger.Level.notice

    @Option(
      help: ArgumentHelp(
        "Where messages go. (default: standard error in the foreground, the system's log otherwise)",
        valueName: "file"))
    var logFile: String?

    @Option(name: .customLong(BackgroundProcess.readyOption), help: .hidden)
    var readyDescriptor: Int32?
  }

  func validate() throws {
    // Of a shell's variable that is not set.
    guard !source.isEmpty else { throw ValidationError("<source> is empty") }
    guard !mountpoint.isEmpty else { throw ValidationError("<mountpoint> is empty") }
    // The others have been taken apart by now (`MountOptionList`).
    guard mountOptions.isEmpty else { throw ValidationError("write -o by itself: -o OPTIONS") }
    guard (1...1024).contains(resources.maxConnections) else {
      throw ValidationError("--max-connections must be between 1 and 1024")
    }
    if let count = resources.networkThreads, !(1...64).contains(count) {
      throw ValidationError("--network-threads must be between 1 and 64")
    }
    if let size = resources.cacheSize, size.bytes < BlockCache.smallestSizeInBytes {
      throw ValidationError(
        "--cache-size must be at least \(ByteCount(bytes: BlockCache.smallestSizeInBytes))")
    }
  }

  func run() throws {
    if process.foreground || process.readyDescriptor != nil {
      try runMount()
    } else {
      try BackgroundProcess.start()
    }
  }

  private func runMount() throws {
    let daemon = MountProcess(self)
    guard let descriptor = process.readyDescriptor else {
      try daemon.run(onReady: { true })
      return
    }
    // The parent prints what went wrong, so that there is one message.
    signal(SIGPIPE, SIG_IGN)
    var isReported = false
    do throws(Failure) {
      try daemon.run(onReady: {
        isReported = true
        return BackgroundProcess.reportReady(to: descriptor)
      })
    } catch {
      if !isReported { BackgroundProcess.report(error, to: descriptor) }
      Glibc.exit(1)
    }
  }
}

/// Permission bits, written in octal.
struct FileMode: ExpressibleByArgument {
  let bits: UInt32

  init(bits: UInt32) { self.bits = bits }

  init?(argument: String) {
    guard let bits = UInt32(argument, radix: 8), bits <= 0o777 else { return nil }
    self.bits = bits
  }

  var defaultValueDescription: String { "0" + String(bits, radix: 8) }
}

extension VerificationMode: ExpressibleByArgument {}
extension Logger.Level: @retroactive ExpressibleByArgument {}
