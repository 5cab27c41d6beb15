import Blocks
import CLinux
import Glibc
import SystemPackage

/// The folder of one mount's cache, within the directory that the user names, which may hold other
/// files too.
///
///     DIR/inventoryfs-cache/
///         CACHEDIR.TAG        tells backup programs to skip it (https://bford.info/cachedir/), and
///                             that this program made the folder
///         lock                locked by the mount that has it, and names its pid
///         chunks-v3-crc32c/   named by the format's version and the checksum of blocks
///                             (`BlockChecksum`)
///             <digest>.data   the chunk's bytes at their own offsets, sparse
///             <digest>.index  which blocks those are (`IndexFormat`)
///
/// Nothing outside of that folder is touched, and in it only files with exactly these names are
/// written or removed (`CacheFileName`): other programs' files stay. A folder of that name without
/// the tag, but with files, belongs to another program and is refused.
///
/// All files are opened relative to a descriptor of the folder and without following symbolic
/// links, so that a link planted there leads nowhere. The lock is `flock`: it ends with the
/// process, however that ends.
final class CacheDirectory: Sendable {
  static let chunkFolderName =
    "chunks-v\(IndexFormat.version)-\(BlockChecksum.Algorithm.preferred.rawValue)"

  /// The name of our own folder in the directory that the user names.
  static let folderName = "inventoryfs-cache"
  private static let tagName = "CACHEDIR.TAG"
  private static let lockName = "lock"

  /// The path of a file of the chunk folder, for messages.
  func chunkPath(_ name: String) -> String { "\(path)/\(Self.chunkFolderName)/\(name)" }

  /// The path of our own folder.
  let path: String
  let chunks: OwnedDescriptor
  let hook: CacheStepHook?
  private let root: OwnedDescriptor
  private let lock: OwnedDescriptor

  /// Creates the folder and the directory above it where they are missing (mode 0700), and locks
  /// it.
  ///
  /// - Parameter directory: the cache directory that the user names; nothing else in it is touched.
  init(in directory: String, hook: CacheStepHook? = nil) throws(BlockCacheError) {
    try Self.makeDirectories(directory)
    try Self.checkLink(directory)
    let parent = try Self.openFolder(directory, in: AT_FDCWD, flags: 0, path: directory)
    let path = "\(directory)/\(Self.folderName)"
    if mkdirat(parent.raw, Self.folderName, 0o700) != 0, errno != EEXIST {
      throw Self.unwritable(path, Errno(rawValue: errno))
    }
    let root = try Self.openFolder(
      Self.folderName, in: parent.raw, flags: O_NOFOLLOW, path: path)
    try Self.checkOwner(of: root, path: path)
    try Self.writeTag(root, path: path)
    let lock = try Self.acquireLock(root, path: path)
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

  /// Removes our files in the chunk folders of other versions of the format, and of other
  /// checksums: no mount can read them, and none counts them. A folder with other files in it
  /// stays, with those files.
  func removeOtherVersions() {
    for folder in Self.list(root.raw)
    where CacheFileName.isChunkFolder(folder) && folder != Self.chunkFolderName {
      let descriptor = openat(root.raw, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
      guard descriptor >= 0 else { continue }
      for file in Self.list(descriptor) where CacheFileName(file) != nil {
        unlinkat(descriptor, file, 0)
      }
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

  /// Tests whether the cache can be written: writes a block to a file of its own, and removes that.
  func writeProbe() throws(BlockCacheError) {
    let file = CacheFileName.probeName
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

  /// The bytes free to an unprivileged user on the file system that holds `path`, or that will hold
  /// it once it exists.
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
      fstat(lock.raw, &file) == 0, stat("\(path)/\(Self.lockName)", &named) == 0
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
      // Some file systems return EROFS or EACCES for a folder that exists.
      var info = stat()
      if stat(made.string, &info) == 0 { continue }
      throw .unusableDirectory(
        path: path, found: "cannot create \(made.string): \(code)",
        remedy: "create it, or set --cache-dir to another")
    }
  }

  private static func openFolder(
    _ name: String, in folder: Int32, flags: Int32, path: String
  ) throws(BlockCacheError) -> OwnedDescriptor {
    do throws(BlockCacheError) {
      return try OwnedDescriptor(
        opening: name, in: folder, flags: O_RDONLY | O_DIRECTORY | flags, path: path)
    } catch {
      guard case .system(_, _, let code) = error else { throw error }
      // With O_DIRECTORY and O_NOFOLLOW a link is "not a directory" too.
      throw .unusableDirectory(
        path: path,
        found: code == .notDirectory ? "is not a directory" : "cannot be opened (\(code))",
        remedy: "set --cache-dir to another")
    }
  }

  private static func checkLink(_ path: String) throws(BlockCacheError) {
    var link = stat()
    if lstat(path, &link) == 0, link.st_mode & S_IFMT == S_IFLNK, link.st_uid != geteuid(),
      link.st_uid != 0
    {
      throw .unusableDirectory(
        path: path, found: "is a symlink that belongs to user \(link.st_uid)",
        remedy: "its owner could redirect the cache: set --cache-dir to another")
    }
  }

  private static func checkOwner(
    of root: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) {
    var info = stat()
    guard fstat(root.raw, &info) == 0 else {
      throw .system(operation: "inspect", path: path, Errno(rawValue: errno))
    }
    guard info.st_uid == geteuid() else {
      throw .unusableDirectory(
        path: path, found: "belongs to user \(info.st_uid), not to user \(geteuid())",
        remedy: "set --cache-dir to another")
    }
    if info.st_mode & 0o022 != 0 {
      throw .unusableDirectory(
        path: path,
        found: "can be written by others (mode \(String(info.st_mode & 0o7777, radix: 8)))",
        remedy: "run 'chmod 700' on it, or set --cache-dir to another")
    }
    // Other users must not read fetched bytes. A file system without modes stays unchanged.
    if info.st_mode & 0o077 != 0 { fchmod(root.raw, 0o700) }
  }

  private static func acquireLock(
    _ root: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) -> OwnedDescriptor {
    let file = openat(root.raw, lockName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { throw unwritable(path, Errno(rawValue: errno)) }
    let lock = OwnedDescriptor(raw: file)
    // A child process that is just being spawned has this process's locks until it executes.
    var attempts = 1
    while flock(lock.raw, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK, attempts < 20 {
      usleep(5000)
      attempts += 1
    }
    guard flock(lock.raw, LOCK_EX | LOCK_NB) == 0 else {
      guard errno == EWOULDBLOCK else {
        throw .system(operation: "lock", path: "\(path)/\(lockName)", Errno(rawValue: errno))
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

  private static let tag = Array(
    """
    Signature: 8a477f597d28d172789f06886806bc55
    # Chunks cached by inventoryfs; safe to delete while it is not mounted.

    """.utf8)

  /// Marks a new folder as ours.
  ///
  /// - Throws: `BlockCacheError.unusableDirectory` where the folder has files but not our tag.
  private static func writeTag(
    _ root: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) {
    if hasTag(root) { return }
    // A crash may have come between the folder and its tag, or have left a tag without its text.
    guard list(root.raw).allSatisfy({ $0 == tagName }), hasNoOtherTag(root) else {
      // Another mount may just have made the folder: its tag comes before everything else.
      if hasTag(root) { return }
      throw .unusableDirectory(
        path: path,
        found: "has files, but no \(tagName) of inventoryfs, so inventoryfs did not create it",
        remedy: "set --cache-dir to another")
    }
    let file = openat(
      root.raw, tagName, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
    guard file >= 0 else { throw unwritable(path, Errno(rawValue: errno)) }
    let descriptor = OwnedDescriptor(raw: file)
    let count = write(descriptor.raw, tag, tag.count)
    if count != tag.count {
      let code = count < 0 ? Errno(rawValue: errno) : .noSpace
      unlinkat(root.raw, tagName, 0)
      throw unwritable(path, code)
    }
  }

  private static func hasTag(_ root: borrowing OwnedDescriptor) -> Bool {
    readTag(root) == tag
  }

  /// Whether the tag is missing, or is empty because its text has not reached the disk.
  private static func hasNoOtherTag(_ root: borrowing OwnedDescriptor) -> Bool {
    readTag(root).map { tag.starts(with: $0) } ?? true
  }

  private static func readTag(_ root: borrowing OwnedDescriptor) -> [UInt8]? {
    let file = openat(root.raw, tagName, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard file >= 0 else { return nil }
    let descriptor = OwnedDescriptor(raw: file)
    var bytes = [UInt8](repeating: 0, count: tag.count + 1)
    let count = pread(descriptor.raw, &bytes, bytes.count, 0)
    return Array(bytes.prefix(max(0, count)))
  }

  /// Checks that holes can be punched: eviction gives space back by them, and without them the
  /// bound could not be kept.
  private static func checkHoles(
    _ chunks: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) {
    let name = CacheFileName.probeName
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
        remedy: "set --cache-dir to a directory on ext4, XFS, btrfs or tmpfs")
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
      path: path, found: found, remedy: "\(mend)set --cache-dir to another")
  }
}
