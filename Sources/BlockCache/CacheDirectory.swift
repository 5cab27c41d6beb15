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
///         chunks-v4-crc32c/   named by the format's version and the checksum of blocks
///                             (`BlockChecksum`)
///             <digest>.data   the chunk's bytes at their own offsets, sparse
///             <digest>.index  which blocks those are (`IndexFormat`)
///
/// Nothing outside of that folder is touched, and in it only files with exactly these names are
/// written or removed (`CacheFileName`): other programs' files stay. A folder of that name without
/// the tag, but with files, belongs to another program and is refused. Of files with our names only
/// regular ones without a second name (hard link) are written into.
///
/// A folder that was deleted is made again, but only in the very directory that the cache began in
/// (`FolderIdentity`): the path may meanwhile name a directory of another file system, because the
/// cache's own was unmounted.
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
  /// The directory that the user names.
  let parent: FolderIdentity
  let chunks: OwnedDescriptor
  let hook: CacheStepHook?
  private let root: OwnedDescriptor
  private let lock: OwnedDescriptor

  /// Creates the folder where it is missing (mode 0700), and locks it.
  ///
  /// - Parameters:
  ///   - directory: the cache directory that the user names; nothing else in it is touched.
  ///   - known: the directory that has to be at that path. Nil for any, which is then made with the
  ///     directories above it where they are missing.
  init(
    in directory: String, expecting known: FolderIdentity? = nil, hook: CacheStepHook? = nil
  ) throws(BlockCacheError) {
    if known == nil { try Self.makeDirectories(directory) }
    try Self.checkLink(directory)
    let parent = try Self.openParent(directory, expecting: known)
    guard let identity = FolderIdentity(parent) else {
      throw .system(operation: "inspect", path: directory, Errno(rawValue: errno))
    }
    let path = "\(directory)/\(Self.folderName)"
    if mkdirat(parent.raw, Self.folderName, 0o700) != 0, errno != EEXIST {
      throw Self.unwritable(path, Errno(rawValue: errno))
    }
    let root = try Self.openFolder(
      Self.folderName, in: parent.raw, flags: O_NOFOLLOW, path: path)
    try Self.checkOwner(of: root, path: path)
    try CacheTag.write(in: root, path: path)
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
    self.parent = identity
    self.hook = hook
    self.lock = lock
    self.chunks = chunks
    self.root = root
  }

  // MARK: Files

  /// The names in the chunk folder.
  func listChunkFolder() throws(BlockCacheError) -> [String] {
    let path = "\(path)/\(Self.chunkFolderName)"
    if let code = hook?(.listEntries) {
      throw .system(operation: "list", path: path, code)
    }
    return try chunks.listNames(path: path)
  }

  /// Removes our files in the chunk folders of other versions of the format, and of other
  /// checksums: no mount can read them, and none counts them. A folder with other files in it
  /// stays, with those files, and so does one that cannot be listed now.
  func removeOtherVersions() {
    for folder in (try? root.listNames(path: path)) ?? []
    where CacheFileName.isChunkFolder(folder) && folder != Self.chunkFolderName {
      try? removeVersion(folder)
    }
  }

  private func removeVersion(_ folder: String) throws(BlockCacheError) {
    let path = "\(path)/\(folder)"
    let opened = try OwnedDescriptor(
      opening: folder, in: root.raw, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW, path: path)
    for file in try opened.listNames(path: path) where CacheFileName(file) != nil {
      unlinkat(opened.raw, file, 0)
    }
    unlinkat(root.raw, folder, AT_REMOVEDIR)
  }

  /// Tests whether the cache can be written: writes a block to a file of its own, and removes that.
  func writeProbe() throws(BlockCacheError) {
    let path = chunkPath(CacheFileName.probeName)
    do throws(Errno) {
      if let code = hook?(.writeProbe) { throw code }
      let probe = try Self.makeProbe(chunks)
      defer { unlinkat(chunks.raw, CacheFileName.probeName, 0) }
      try probe.write([UInt8](repeating: 1, count: BlockGrid.blockSizeInBytes))
    } catch {
      throw .system(operation: "write", path: path, error)
    }
  }

  /// Makes the file for a trial write. What a crash left of an earlier one is removed, and not
  /// written into.
  private static func makeProbe(
    _ chunks: borrowing OwnedDescriptor
  ) throws(Errno) -> OwnedDescriptor {
    let flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC
    var raw = openat(chunks.raw, CacheFileName.probeName, flags, 0o600)
    if raw < 0, errno == EEXIST {
      var info = stat()
      guard fstatat(chunks.raw, CacheFileName.probeName, &info, AT_SYMLINK_NOFOLLOW) == 0,
        info.isRegularFile
      else { throw .fileExists }
      unlinkat(chunks.raw, CacheFileName.probeName, 0)
      raw = openat(chunks.raw, CacheFileName.probeName, flags, 0o600)
    }
    guard raw >= 0 else { throw Errno(rawValue: errno) }
    return OwnedDescriptor(raw: raw)
  }

  /// The bytes free to an unprivileged user on the folder's file system, whatever its path names by
  /// now.
  var freeBytes: Int? {
    var info = statvfs()
    return fstatvfs(chunks.raw, &info) == 0 ? Self.freeBytes(info) : nil
  }

  private static func freeBytes(_ info: statvfs) -> Int {
    Int(clamping: UInt64(info.f_bavail) * UInt64(info.f_frsize))
  }

  /// The bytes free to an unprivileged user on the file system that holds `path`, or that will hold
  /// it once it exists.
  static func freeBytes(at path: String) -> Int? {
    statistics(at: path).map { freeBytes($0) }
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
    _ = hook?(.findFolder)
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

  private static func openParent(
    _ directory: String, expecting known: FolderIdentity?
  ) throws(BlockCacheError) -> OwnedDescriptor {
    guard let known else {
      return try openFolder(directory, in: AT_FDCWD, flags: 0, path: directory)
    }
    let remedy =
      "mount its file system there again, or mount the inventory again for a new cache"
    let raw = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard raw >= 0 else {
      let code = Errno(rawValue: errno)
      throw .unusableDirectory(
        path: directory,
        found: code == .noSuchFileOrDirectory
          ? "does not exist any more" : "cannot be opened any more (\(code))",
        remedy: remedy)
    }
    let parent = OwnedDescriptor(raw: raw)
    guard FolderIdentity(parent) == known else {
      throw .unusableDirectory(
        path: directory,
        found: "is another directory now than when this inventory was mounted, so its file system "
          + "may have been unmounted",
        remedy: remedy)
    }
    return parent
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
    let lock = try openLock(root, path: path)
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
      throw .inUse(path: path, holder: lock.isPlainFile ? readHolder(lock) : nil)
    }
    // A file with a second name, such as a backup's, serves as a lock without the pid in it.
    guard lock.isPlainFile else { return lock }
    do throws(Errno) {
      guard ftruncate(lock.raw, 0) == 0 else { throw Errno(rawValue: errno) }
      try lock.write(Array("\(getpid())\n".utf8))
    } catch {
      throw unwritable(path, error)
    }
    return lock
  }

  /// Opens the lock's file, and makes it where it is missing. What is not a file of ours is not
  /// even opened, because that wakes a process that waits at a pipe.
  private static func openLock(
    _ root: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) -> OwnedDescriptor {
    var info = stat()
    if fstatat(root.raw, lockName, &info, AT_SYMLINK_NOFOLLOW) == 0, !info.isRegularFile {
      throw foreign(lockName, path)
    }
    let flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
    let file = openat(root.raw, lockName, flags, 0o600)
    guard file >= 0 else { throw unwritable(path, Errno(rawValue: errno)) }
    let lock = OwnedDescriptor(raw: file)
    guard fstat(lock.raw, &info) == 0, info.isRegularFile else { throw foreign(lockName, path) }
    return lock
  }

  private static func foreign(_ name: String, _ path: String) -> BlockCacheError {
    .unusableDirectory(
      path: path,
      found: "its \(name) is no regular file, so inventoryfs did not create it",
      remedy: "remove \(path)/\(name), or set --cache-dir to another")
  }

  private static func readHolder(_ lock: borrowing OwnedDescriptor) -> Int32? {
    var bytes = [UInt8](repeating: 0, count: 32)
    let count = pread(lock.raw, &bytes, bytes.count, 0)
    guard count > 0 else { return nil }
    let digits = bytes[..<count].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    return Int32(String(decoding: digits, as: UTF8.self))
  }

  /// Checks that holes can be punched: eviction gives space back by them, and without them the
  /// bound could not be kept.
  private static func checkHoles(
    _ chunks: borrowing OwnedDescriptor, path: String
  ) throws(BlockCacheError) {
    let probe: OwnedDescriptor
    do throws(Errno) {
      probe = try makeProbe(chunks)
    } catch {
      let isForeign = error == .fileExists
      throw isForeign
        ? foreign("\(chunkFolderName)/\(CacheFileName.probeName)", path) : unwritable(path, error)
    }
    defer { unlinkat(chunks.raw, CacheFileName.probeName, 0) }
    do throws(Errno) {
      try probe.write([UInt8](repeating: 1, count: 4096))
    } catch {
      throw unwritable(path, error)
    }
    let code = inventoryfs_punch_hole(probe.raw, 0, 4096)
    if code != 0 {
      throw .unusableDirectory(
        path: path, found: "its file system cannot punch holes (\(Errno(rawValue: code)))",
        remedy: "set --cache-dir to a directory on ext4, XFS, btrfs or tmpfs")
    }
  }

  static func unwritable(_ path: String, _ code: Errno) -> BlockCacheError {
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
