public import ArgumentParser
import BlockCache
import FuseMount
import Glibc
import InventoryManifest
public import Logging
import PrintableText
public import ReadPlanning

/// All flags of `mount`, with their defaults: the types below receive values.
struct MountCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mount",
    abstract: "Mounts an inventory.",
    discussion: """
      The command returns once the mount works; a process in the background serves it. Reads are served by \
      parallel range requests through a disk cache of limited size.

      Credentials come from the environment, from a profile in ~/.aws/credentials and ~/.aws/config (keys, roles, \
      logins, credential_process), or from the role of the container or EC2 instance, as with other AWS tools.
      """)

  @Argument(
    help:
      "The inventory's manifest.json: s3://bucket/key, a path, or a file:// URL. For a manifest on disk, the chunks are files on disk too."
  )
  var source: String

  @Argument(help: "An empty directory to mount on.")
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
        "Address of an S3-compatible store: http://host:port or https://host. (default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's services or endpoint_url, AWS)"
    )
    var endpointUrl: String?

    @Option(
      help:
        "Region of the bucket. (default: AWS_REGION, AWS_DEFAULT_REGION, the profile's setting, us-east-1)"
    )
    var region: String?

    @Option(help: "Profile in ~/.aws/credentials and ~/.aws/config. (default: AWS_PROFILE)")
    var profile: String?

    @Flag(help: "Send unsigned requests, for public buckets.")
    var noSignRequest = false

    @Option(help: "The bucket that holds the chunks. (default: the manifest's destinationBucket)")
    var bucket: String?

    @Option(
      help: ArgumentHelp(
        "For copied chunks: keys that begin with OLD in the manifest begin with NEW in the bucket. (default: the manifest's keys, or, if the first chunk is not there, what is found near the manifest)",
        valueName: "old=new"))
    var keyPrefix: String?

    /// The AWS command line with the options that reach the same store.
    ///
    /// - Parameter endpointURL: the store's address, from the option or from elsewhere; nil for
    ///   AWS.
    func awsCommand(endpointURL: String?) -> String {
      let options = [
        ("--endpoint-url", endpointURL), ("--profile", profile), ("--region", region),
      ].compactMap { name, value in value.map { "\(name) \(shellWord($0))" } }
      return (["aws"] + options + (noSignRequest ? ["--no-sign-request"] : [])).joined(
        separator: " ")
    }
  }

  struct ResourceFlags: ParsableArguments {
    static let usualReadTimeout = TimeSpan(.seconds(60))
    static let usualMemoryLimit = ByteCount(bytes: 64 << 20)

    @Option(
      help: ArgumentHelp(
        "The cache directory, which survives remounts; one mount at a time can use it. (default: a folder for this mountpoint in $XDG_CACHE_HOME/inventoryfs or ~/.cache/inventoryfs)",
        valueName: "dir"))
    var cacheDir: String?

    @Option(
      help: ArgumentHelp(
        "Maximum size of the cache on disk, at least 16MiB. (default: 20GiB, or half of the free space if that is less)",
        valueName: "size"), transform: ByteCount.parse)
    var cacheSize: ByteCount?

    @Option(
      help: ArgumentHelp(
        "Space that the cache leaves free on its file system, by staying below its maximum size if necessary. (default: 1GiB, or a twentieth of the file system if that is less)",
        valueName: "size"), transform: ByteCount.parse)
    var cacheMinFree: ByteCount?

    @Option(
      help: ArgumentHelp(
        "When to compare chunks with the manifest's MD5: background (once a chunk is completely cached and no longer being read), strict (before a reader gets the chunk's last byte; for Parquet and ORC, before any byte), or off.",
        valueName: "mode"))
    var verify = VerificationMode.background

    @Option(
      help: ArgumentHelp(
        "Maximum number of concurrent requests to the store, over all chunks: 1 to 1024.",
        valueName: "count"))
    var maxConnections = 32

    @Option(
      help: ArgumentHelp(
        "Threads that receive data from the store: 1 to 64. (default: a quarter of the processors, 1 to 4)",
        valueName: "count"))
    var networkThreads: Int?

    @Option(
      help: ArgumentHelp(
        "Maximum time that an open or a read waits for the store, retries included: 60, 90s, 2m. (default: \(ResourceFlags.usualReadTimeout))",
        valueName: "duration"), transform: TimeSpan.parse)
    var readTimeout = ResourceFlags.usualReadTimeout

    @Option(
      help: ArgumentHelp(
        "Maximum memory of the process; docs/ARCHITECTURE.md has the formula. (default: \(ResourceFlags.usualMemoryLimit))",
        valueName: "size"), transform: ByteCount.parse)
    var memoryLimit = ResourceFlags.usualMemoryLimit
  }

  struct FileFlags: ParsableArguments {
    static let usualFileMode = FileMode(bits: 0o444)
    static let usualDirMode = FileMode(bits: 0o555)

    @Option(help: "Owner of the files, a user ID. (default: the user who mounts)")
    var uid: UInt32?

    @Option(help: "Group of the files, a group ID. (default: the group of the user who mounts)")
    var gid: UInt32?

    @Option(
      help:
        "Permissions of files, in octal; write bits are cleared. (default: \(FileFlags.usualFileMode))",
      transform: FileMode.parse)
    var fileMode = FileFlags.usualFileMode

    @Option(
      help:
        "Permissions of directories, in octal; write bits are cleared. (default: \(FileFlags.usualDirMode))",
      transform: FileMode.parse)
    var dirMode = FileFlags.usualDirMode

    @Flag(
      help:
        "Allow other users to access the mount. Users other than root need the line user_allow_other in /etc/fuse.conf."
    )
    var allowOther = false
  }

  struct ProcessFlags: ParsableArguments {
    @Flag(name: [.short, .long], help: "Stay in the foreground until unmounted or interrupted.")
    var foreground = false

    @Option(
      help: ArgumentHelp(
        "Minimum log level: trace, debug, info, notice, warning, error, critical.",
        valueName: "level"))
    var logLevel = Logger.Level.notice

    @Option(
      help: ArgumentHelp(
        "File that messages are appended to. (default: standard error in the foreground, otherwise the system log)",
        valueName: "file"))
    var logFile: String?

    @Option(name: .customLong(BackgroundProcess.readyOption), help: .hidden)
    var readyDescriptor: Int32?
  }

  func validate() throws {
    // An empty argument comes from a shell variable that is not set.
    guard !source.isEmpty else { throw ValidationError("<source> is empty") }
    guard !mountpoint.isEmpty else { throw ValidationError("<mountpoint> is empty") }
    guard resources.cacheDir != "" else { throw ValidationError("--cache-dir is empty") }
    guard process.logFile != "" else { throw ValidationError("--log-file is empty") }
    guard !mountpoint.lowercased().hasPrefix("s3://") else {
      throw ValidationError(
        "<mountpoint> is an s3:// URL; the source comes first, then the directory")
    }
    // `MountOptionList` has taken other lists apart by now.
    guard mountOptions.isEmpty else {
      throw ValidationError("-o must be an argument of its own: -o OPTIONS")
    }
    if let bucket = store.bucket, BucketName.parse(bucket) == nil {
      throw ValidationError("--bucket is '\(bucket)', but \(BucketName.expectation) was expected")
    }
    if let prefix = store.keyPrefix, KeyPrefix(parsing: prefix) == nil {
      throw ValidationError(
        "--key-prefix is '\(prefix)', but \(KeyPrefix.expectation) was expected")
    }
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
struct FileMode: OptionValue {
  static let expectation = "octal permissions of at most 777, such as 0440"

  let bits: UInt32

  init(bits: UInt32) { self.bits = bits }

  init?(argument: String) {
    guard let bits = UInt32(argument, radix: 8), bits <= 0o777 else { return nil }
    self.bits = bits
  }

  var description: String { "0" + String(bits, radix: 8) }
}

extension VerificationMode: ExpressibleByArgument {}
extension Logger.Level: @retroactive ExpressibleByArgument {}
