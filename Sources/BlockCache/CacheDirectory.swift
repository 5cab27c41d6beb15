import Blocks
import CLinux
import Glibc
import SystemPackage

/// The directory that one mount has to itself.
///
///     DIR/CACHEDIR.TAG    tells backup programs to pass it by (https://bford.info/cachedir/)
///     DIR/lock            locked by the mount that has it, and names its pid
///     DIR/chunks-v3-crc32c/   named by the format's version and the checksum of blocks
///         <digest>.data       the chunk's bytes at their own offsets, sparse
///         <digest>.index      which blocks those are (IndexFormat)
///
/// Everything in it is opened relative to a descriptor of the directory and without following
/// symbolic links, so that a link planted there leads nowhere. The lock is `flock`: it ends with
/// the process, however that ends.
final class CacheDirectory: Sendable {
  static let chunkFolderName =
    "chunks-v\(IndexFormat.version)-\(BlockChecksum.Algorithm.preferred.rawValue)"

  /// Where a file of the chunk folder is, for messages.
  func chunkPath(_ name: String) -> String { "\(path)/\(Self.chunkFolderName)/\(name)" }

  let path: String
  let chunks: OwnedDescriptor
  let hook: CacheStepHook?
  private let root: OwnedDescriptor
  private let lock: OwnedDescriptor

  /// Creates what is missing (mode 0700) and locks it.
  init(path: String, hook: CacheStepHook? = nil) throws(BlockCacheError) {
    try Self.makeDirectories(path)
    let root = try Self.openRoot(path)
    try Self.checkOwner(of: root, path: path)
    let lock = try Self.acquireLock(root, path: path)
    try Self.writeTag(root, path: path)
    if mkdirat(root.raw, Self.chunkFolderName, 0o700) != 0, errno != EEXIST {
      throw Self.unwritable(path, Errno(rawValue: errno))
    }
    let chunkPath = "\(path)/\(Self.chunkFolderName)"
    let chunks = try OwnedDescriptor(
      opening: Self.chunkFolderName, in: root.raw, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
      path: chunkPath)
    try Self.checkHoles(chunks, path: path)
    self.path = path
    self.hook = hook
    self.lock = lock
    self.chunks = chunks
    self.root = root
  }

  // MARK: Files

  /// The names in the chunk folder.
  func listChunkFolder() -> [String] { Self.list(chunks.raw) }

  /// Removes the chunk folders of other versions of the format, and of other checksums: nobody can
  /// read them, and nobody counts them.
  func removeOtherVersions() {
    for folder in Self.list(root.raw)
    where folder.hasPrefix("chunks-v") && folder != Self.chunkFolderName {
      let descriptor = openat(root.raw, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
      guard descriptor >= 0 else { continue }
      for file in Self.list(descriptor) { unlinkat(descriptor, file, 0) }
      close(descriptor)
      unlinkat(root.raw, folder, AT_REMOVEDIR)
    }
  }

  private static func list(_ folder: Int32) -> [String] {
    // fdopendir takes the descriptor over, so it gets one of its own.
    let descriptor = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0, let stream = fdopendir(descriptor) else {
      if descriptor >= 0 { close(descriptor) }
      return []
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let item = readdir(stream) {
      let name = String(cString: inventoryfs_entry_name(item))
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  /// Writes a block to a file of its own, and removes that.
  func writeProbe() throws(BlockCacheError) {
    let file = "probe"
    func failure(_ code: Int32) -> BlockCacheError {
      .system(operation: "write", path: chunkPath(file), Errno(rawValue: code))
    }
    if let code = hook?(.writeProbe) { throw failure(code.rawValue) }
    let flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW
    let raw = openat(chunks.raw, file, flags, 0o600)
    guard raw >= 0 else { throw failure(errno) }
    let probe = OwnedDescriptor(raw: raw)
    defer { unlinkat(chunks.raw, file, 0) }
    let block = [UInt8](repeating: 1, count: BlockGrid.blockSizeInBytes)
    let count = pwrite(probe.raw, block, block.count, 0)
    guard count == block.count else { throw failure(count < 0 ? errno : ENOSPC) }
  }

  /// Bytes free to an unprivileged user on the file system that holds `path`, or that will hold it
  /// once it exists.
  static func freeBytes(at path: String) -> Int? {
    statistics(at: path).map { Int(clamping: UInt64($0.f_bavail) * UInt64($0.f_frsize)) }
  }

  private static func statistics(at path: String) -> statvfs? {
    var candidate = FilePath(path)
    while true {
      var info = statvfs()
      if statvfs(candidate.string, &info) == 0 { return info }
      guard errno == ENOENT, candidate.removeLastComponent() else { return nil }
      if candidate.isEmpty { candidate = "." }
    }
  }

  /// The size of the file system that holds `path`.
  static func fileSystemSize(at path: String) -> Int? {
    statistics(at: path).map { Int(clamping: UInt64($0.f_blocks) * UInt64($0.f_frsize)) }
  }

  /// Whether this is still the directory at `path`, and has its chunk folder and lock.
  var isInPlace: Bool {
    var (folder, named, file) = (stat(), stat(), stat())
    guard fstat(chunks.raw, &folder) == 0,
      stat("\(path)/\(Self.chunkFolderName)", &named) == 0,
      (folder.st_dev, folder.st_ino) == (named.st_dev, named.st_ino),
      fstat(lock.raw, &file) == 0, stat("\(path)/lock", &named) == 0
    else { return false }
    return (file.st_dev, file.st_ino) == (named.st_dev, named.st_ino)
  }

  private static func makeDirectories(_ path: String) throws(BlockCacheError) {
    var made = FilePath(path).root.map { FilePath(root: $0) } ?? FilePath()
    for component in FilePath(path).components {
      made.append(component)
      if mkdir(made.string, 0o700) == 0 { continue }
      let code = Errno(rawValue: errno)
      if code == .fileExists { continue }
      // Some file systems answer EROFS or EACCES for a folder that is there.
      var info = stat()
      if stat(made.string, &info) == 0 { continue }
      throw .unusableDirectory(
        path: path, found: "cannot create \(made.string): \(code)",
        remedy: "create it, or choose another with --cache-dir")
    }
  }

  private static func openRoot(_ path: String) throws(BlockCacheError) -> OwnedDescriptor {
    do throws(BlockCacheError) {
      return try OwnedDescriptor(
        opening: path, in: AT_FDCWD, flags: O_RDONLY | O_DIRECTORY, path: path)
    } catch {
      guard case .system(_, _, let code) = error else { throw error }
      throw .unusableDirectory(
        path: path,
        found: code == .notDirectory ? "is not a directory" : "cannot be opened (\(code))",
        remedy: "choose another with --cache-dir")
    }
  }

  private static func checkOwner(
    of root: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) {
    var info = stat()
    guard fstat(root.raw, &info) == 0 else {
      throw .system(operation: "inspect", path: path, Errno(rawValue: errno))
    }
    var link = stat()
    if lstat(path, &link) == 0, link.st_mode & S_IFMT == S_IFLNK, link.st_uid != geteuid(),
      link.st_uid != 0
    {
      throw .unusableDirectory(
        path: path, found: "is a symlink that belongs to user \(link.st_uid)",
        remedy: "whoever owns it could redirect the cache: choose another with --cache-dir")
    }
    guard info.st_uid == geteuid() else {
      throw .unusableDirectory(
        path: path, found: "belongs to user \(info.st_uid), not to user \(geteuid())",
        remedy: "choose another with --cache-dir")
    }
    if info.st_mode & 0o022 != 0 {
      throw .unusableDirectory(
        path: path,
        found: "can be written by others (mode \(String(info.st_mode & 0o7777, radix: 8)))",
        remedy: "run 'chmod 700' on it, or choose another with --cache-dir")
    }
  }

  private static func acquireLock(
    _ root: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) -> OwnedDescriptor {
    let file = openat(root.raw, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { throw unwritable(path, Errno(rawValue: errno)) }
    let lock = OwnedDescriptor(raw: file)
    // A process that is just being spawned has this one's locks until it executes.
    var attempts = 1
    while flock(lock.raw, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK, attempts < 20 {
      usleep(5000)
      attempts += 1
    }
    guard flock(lock.raw, LOCK_EX | LOCK_NB) == 0 else {
      guard errno == EWOULDBLOCK else {
        throw .system(operation: "lock", path: "\(path)/lock", Errno(rawValue: errno))
      }
      throw .inUse(path: path, holder: readHolder(lock))
    }
    let pid = Array("\(getpid())\n".utf8)
    guard ftruncate(lock.raw, 0) == 0, pwrite(lock.raw, pid, pid.count, 0) == pid.count else {
      throw unwritable(path, Errno(rawValue: errno))
    }
    return lock
  }

  private static func readHolder(_ lock: borrowing OwnedDescriptor) -> Int32? {
    var bytes = [UInt8](repeating: 0, count: 32)
    let count = pread(lock.raw, &bytes, bytes.count, 0)
    guard count > 0 else { return nil }
    let digits = bytes[..<count].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    return Int32(String(decoding: digits, as: UTF8.self))
  }

  private static func writeTag(
    _ root: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) {
    let file = openat(
      root.raw, "CACHEDIR.TAG", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else {
      if errno == EEXIST { return }
      throw unwritable(path, Errno(rawValue: errno))
    }
    let tag = OwnedDescriptor(raw: file)
    let text = Array(
      "Signature: 8a477f597d28d172789f06886806bc55\n# Chunks cached by inventoryfs; safe to delete while it is not mounted.\n"
        .utf8)
    if write(tag.raw, text, text.count) != text.count {
      let code = Errno(rawValue: errno)
      unlinkat(root.raw, "CACHEDIR.TAG", 0)
      throw unwritable(path, code)
    }
  }

  /// Eviction gives space back by punching holes: without them the bound could not be kept.
  private static func checkHoles(
    _ chunks: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) {
    let name = "probe"
    let file = openat(chunks.raw, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { throw unwritable(path, Errno(rawValue: errno)) }
    let probe = OwnedDescriptor(raw: file)
    defer { unlinkat(chunks.raw, name, 0) }
    let page = [UInt8](repeating: 1, count: 4096)
    guard pwrite(probe.raw, page, page.count, 0) == page.count else {
      throw unwritable(path, Errno(rawValue: errno))
    }
    let code = inventoryfs_punch_hole(probe.raw, 0, 4096)
    if code != 0 {
      throw .unusableDirectory(
        path: path, found: "its file system cannot punch holes (\(Errno(rawValue: code)))",
        remedy: "choose a --cache-dir on ext4, XFS, btrfs or tmpfs")
    }
  }

  private static func unwritable(_ path: String, _ code: Errno) -> BlockCacheError {
    let (found, mend) =
      switch code {
      case .noSpace: ("its disk is full", "make room, or ")
      case .readOnlyFileSystem: ("its file system is read-only", "")
      default: ("cannot be written (\(code))", "make it writable, or ")
      }
    return .unusableDirectory(
      path: path, found: found, remedy: "\(mend)choose another with --cache-dir")
  }
}
