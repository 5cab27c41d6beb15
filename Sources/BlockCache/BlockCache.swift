public import Blocks
import Digests
import Glibc
import Locks
public import Logging
import SystemPackage

/// The cache on disk: opens and creates entries, finds those of earlier runs, punches and removes.
///
/// It makes no decisions: the planner decides what is evicted, and when (`CacheLedger`). The cache
/// guarantees only that the files of an open entry are never removed.
public final class BlockCache: Sendable {
  public let path: String
  /// The folder in it that is the cache's own.
  public var folder: String { Self.folder(in: path) }
  private let minFreeInBytes: Int
  private let logger: Logger
  private let hook: CacheStepHook?
  /// The directory; nil after another program deleted it and it could not be created again. No
  /// system call is made under this lock, because threads that need no disk take it too.
  private let directory: Lock<CacheDirectory?>
  /// The directory that the user names, as it was when the cache was opened.
  private let parent: FolderIdentity
  /// Held while the directory is created again.
  private let creation = Lock(())
  /// One lock per entry, by its name, which is held while its files are opened, created, punched or
  /// removed, so that no other entry waits for that. It is taken before `directory` and `state`.
  private let entries = KeyedLock<String>()
  private let state = Lock(State())

  private struct State {
    var nextEntry = 1
    var ids: [String: EntryID] = [:]
    var names: [EntryID: String] = [:]
    var open: [EntryID: (entry: CacheEntry, count: Int)] = [:]
    /// Entries that no other process has open. A reader of an earlier mount may still have an entry
    /// open through the kernel, and would see the holes that are punched in it.
    var ours: Set<EntryID> = []

    mutating func id(of name: String) -> EntryID {
      if let id = ids[name] { return id }
      let id = EntryID(number: nextEntry)
      nextEntry += 1
      ids[name] = id
      names[id] = name
      return id
    }

    mutating func opened(_ entry: CacheEntry) {
      open[entry.id] = (entry, 1)
      ours.insert(entry.id)
    }

    mutating func forget(_ id: EntryID) {
      if let name = names.removeValue(forKey: id) { ids[name] = nil }
      ours.remove(id)
    }
  }

  /// The bytes that an earlier run left of one chunk.
  public struct Found: Sendable {
    public let entry: EntryID
    public let overheadInBytes: Int
    public let segments: [(index: Int, allocatedInBytes: Int)]
  }

  /// Takes the directory for this process, creating it (mode 0700) if need be.
  ///
  /// - Parameter minFreeInBytes: the space to leave free on the directory's file system; see
  ///   `roomInBytes()`.
  public convenience init(
    path: String, minFreeInBytes: Int = 0, logger: Logger
  ) throws(BlockCacheError) {
    try self.init(path: path, minFreeInBytes: minFreeInBytes, logger: logger, hook: nil)
  }

  package init(
    path: String, minFreeInBytes: Int = 0, logger: Logger, hook: CacheStepHook?
  ) throws(BlockCacheError) {
    self.path = path
    self.minFreeInBytes = minFreeInBytes
    self.logger = logger
    self.hook = hook
    let opened = try CacheDirectory(in: path, hook: hook)
    parent = opened.parent
    directory = Lock(opened)
  }

  /// The size of the smallest cache that works: it holds a part being written, one being read, and
  /// some room between.
  public static let smallestSizeInBytes = 16 << 20

  /// The space for blocks and indexes in a cache of a given size: the rest is for the directory's
  /// own files, and for the indexes of chunks that are opened before an eviction makes room for
  /// them.
  public static func boundForBlocks(cacheSizeInBytes: Int) -> Int {
    cacheSizeInBytes - max(1 << 20, cacheSizeInBytes / 64)
  }

  /// The space that a chunk's entry takes besides its blocks.
  public static func overheadInBytes(chunkSizeInBytes: Int) -> Int {
    CacheEntry.overheadInBytes(BlockGrid(sizeInBytes: chunkSizeInBytes))
  }

  /// The cache's own folder in the directory that the user names.
  public static func folder(in directory: String) -> String {
    "\(directory)/\(CacheDirectory.folderName)"
  }

  /// The bytes free on the file system of `path`, which need not exist yet.
  public static func freeBytes(at path: String) -> Int? { CacheDirectory.freeBytes(at: path) }

  /// The space that the cache leaves free by default on the file system of `path`: a twentieth of
  /// it, and at most 1 GiB.
  public static func usualMinFreeBytes(at path: String) -> Int {
    min(1 << 30, (CacheDirectory.fileSystemSize(at: path) ?? 0) / 20)
  }

  /// How many more bytes the cache may take on its file system; negative when fewer bytes are free
  /// than should be left free. Nil where the file system does not tell, or is not there.
  public func roomInBytes() -> Int? { lastDirectory?.freeBytes.map { $0 - minFreeInBytes } }

  // MARK: The directory

  /// Tests by writing whether the cache can be written. Our folder is created again if it was
  /// deleted.
  public func probe() throws(BlockCacheError) {
    let directory = try currentDirectory()
    try directory.writeProbe()
  }

  /// The directory, created again if our folder was deleted or moved.
  ///
  /// - Throws: `BlockCacheError.unusableDirectory` while the directory that the user names is not
  ///   the one that the cache was opened in: it is not created again, and no cache is begun in
  ///   another that is at its path now.
  private func currentDirectory() throws(BlockCacheError) -> CacheDirectory {
    if let directory = directoryInPlace() { return directory }
    return try creation.withLock { _ throws(BlockCacheError) in
      // Another thread may have created it meanwhile.
      if let directory = directoryInPlace() { return directory }
      // Its lock is released first: where the lock's file still exists, the new directory would
      // wait for us.
      let wasThere = dropDirectory()
      let made = try CacheDirectory(in: path, expecting: parent, hook: hook)
      directory.withLock { $0 = made }
      if wasThere {
        logger.warning("cache folder \(made.path) was deleted while mounted; it is created again")
      }
      return made
    }
  }

  private func directoryInPlace() -> CacheDirectory? {
    guard let directory = lastDirectory, directory.isInPlace else { return nil }
    return directory
  }

  private func dropDirectory() -> Bool {
    let dropped = directory.withLock { exchange(&$0, with: nil) }
    return dropped != nil
  }

  /// The directory as it was when last checked.
  private var lastDirectory: CacheDirectory? { directory.withLock { $0 } }

  // MARK: Entries

  /// Opens the entry of a chunk, or makes an empty one. Each call is paired with one of
  /// `close(_:)`.
  public func open(_ identity: CacheIdentity) throws(BlockCacheError) -> CacheEntry {
    let digest = identity.digest
    let name = Self.name(digest)
    return try entries.withLock(of: name) { () throws(BlockCacheError) in
      let (id, known, isOurs) = state.withLock { state in
        let id = state.id(of: name)
        let known = state.open[id]
        if let known { state.open[id] = (known.entry, known.count + 1) }
        return (id, known?.entry, state.ours.contains(id))
      }
      if let known { return known }
      let directory = try currentDirectory()
      if let files = try EntryFiles.open(name, in: directory), let header = files.readHeader(),
        header.identityDigest == digest, header.sizeInBytes == identity.sizeInBytes,
        let measured = files.measureData(), measured.sizeInBytes == identity.sizeInBytes,
        let present = Self.presentBlocks(in: files, header), isOurs || !hasForeignReader(files)
      {
        let grid = BlockGrid(sizeInBytes: identity.sizeInBytes)
        // The scan, which would do this, skips open entries.
        if !isOurs { trim(files, grid, present, allocatedInBytes: measured.allocatedInBytes) }
        let entry = CacheEntry(id: id, name: name, files: files, header: header, present: present)
        state.withLock { $0.opened(entry) }
        return entry
      }
      // The entry gets new files and a new id, so that its blocks are not taken for those of the
      // previous entry.
      remove(name, in: directory)
      state.withLock { $0.forget(id) }
      let header = IndexFormat.Header(
        sizeInBytes: identity.sizeInBytes, identityDigest: digest, eTag: nil)
      let files: EntryFiles
      do throws(BlockCacheError) {
        files = try EntryFiles.create(name, in: directory, header: header)
      } catch {
        remove(name, in: directory)
        throw error
      }
      let blockCount = BlockGrid(sizeInBytes: identity.sizeInBytes).blockCount
      let entry = CacheEntry(
        id: state.withLock { $0.id(of: name) }, name: name, files: files, header: header,
        present: BlockSet(blockCount: blockCount))
      state.withLock { $0.opened(entry) }
      return entry
    }
  }

  /// Makes an entry without files, for when they cannot be opened. Each caller gets its own.
  public func openInMemory(_ identity: CacheIdentity) -> CacheEntry {
    let id = state.withLock { state in
      defer { state.nextEntry += 1 }
      return EntryID(number: state.nextEntry)
    }
    return CacheEntry(id: id, sizeInBytes: identity.sizeInBytes)
  }

  /// The entry of a chunk; nil where the cache knows none.
  public func find(_ identity: CacheIdentity) -> EntryID? {
    let name = Self.name(identity.digest)
    return state.withLock { $0.ids[name] }
  }

  /// The ETag of the version that the cache holds bytes of; nil where it has none. It reads the
  /// entry's index, unless the entry is open.
  public func eTag(of identity: CacheIdentity) -> String? {
    if let open = find(identity).flatMap(openEntry) { return open.eTag }
    let digest = identity.digest
    guard let header = (try? openFiles(of: identity))??.readHeader(),
      header.identityDigest == digest
    else { return nil }
    return header.eTag
  }

  func openEntry(_ id: EntryID) -> CacheEntry? { state.withLock { $0.open[id]?.entry } }

  /// The files of an entry, which need not be open; nil where none exist.
  func openFiles(of identity: CacheIdentity) throws(BlockCacheError) -> EntryFiles? {
    guard let directory = lastDirectory else { return nil }
    return try EntryFiles.open(Self.name(identity.digest), in: directory)
  }

  /// Ends one use of an entry. Its files are closed with the last reference to it.
  public func close(_ entry: CacheEntry) {
    let isLast = state.withLock { state in
      guard let known = state.open[entry.id] else { return false }
      state.open[entry.id] = known.count > 1 ? (entry, known.count - 1) : nil
      return known.count == 1
    }
    if isLast { entry.touch() }
  }

  /// Removes an entry's files now, even if it is open, because its object has changed: present
  /// users keep reading the removed files, and a later `open` starts empty.
  public func discard(_ entry: CacheEntry) {
    entries.withLock(of: entry.name) {
      guard state.withLock({ $0.names[entry.id] != nil }) else { return }
      remove(entry.name, in: lastDirectory)
      state.withLock { $0.forget(entry.id) }
    }
  }

  /// Removes an entry's files unless it has been opened meanwhile.
  ///
  /// - Returns: whether they are gone.
  public func removeIfIdle(_ id: EntryID) -> Bool {
    guard let name = state.withLock({ $0.names[id] }) else { return true }
    return entries.withLock(of: name) {
      let (isKnown, isOpen) = state.withLock { ($0.names[id] != nil, $0.open[id] != nil) }
      guard isKnown else { return true }
      // Files that are out of reach count as long as they may come back.
      guard !isOpen, let directory = lastDirectory else { return false }
      remove(name, in: directory)
      state.withLock { $0.forget(id) }
      return true
    }
  }

  /// Punches a segment's hole.
  public func evict(_ segment: Segment) throws(BlockCacheError) {
    let id = segment.entry
    let known = state.withLock { $0.names[id] ?? $0.open[id]?.entry.name }
    guard let name = known else { return }
    // Meanwhile no thread can open the entry and take the blocks for present, and no entry can take
    // its place.
    try entries.withLock(of: name) { () throws(BlockCacheError) in
      let (open, isKnown) = state.withLock { ($0.open[id]?.entry, $0.names[id] != nil) }
      if let open { return try open.remove(blocks: open.grid.blocks(ofSegment: segment.index)) }
      guard isKnown else { return }
      // The bytes are still there when the directory comes back.
      guard let directory = lastDirectory else {
        throw .system(operation: "open", path: path, .noSuchFileOrDirectory)
      }
      // The index may be damaged; the data file is as long as the chunk.
      guard let files = try EntryFiles.open(name, in: directory),
        let measured = files.measureData()
      else { return }
      let grid = BlockGrid(sizeInBytes: measured.sizeInBytes)
      try files.remove(grid.blocks(ofSegment: segment.index), grid)
    }
  }

  // MARK: What earlier runs left

  /// Reads the indexes of all entries, most recently used first, and hands each to `adopt`. On the
  /// way it reclaims leftovers of a crash: files without their other half, invalid indexes, space
  /// that no index names.
  ///
  /// - Throws: `BlockCacheError` when the entries cannot be listed, so that it is not known what
  ///   the cache holds.
  public func scan(_ adopt: (Found) -> Void) throws(BlockCacheError) {
    var names: [(name: String, lastUse: timespec)] = []
    var hasData: Set<String> = []
    let directory = try currentDirectory()
    directory.removeOtherVersions()
    for file in try directory.listChunkFolder() {
      switch CacheFileName(file) {
      case .index(let entry):
        var info = stat()
        guard fstatat(directory.chunks.raw, file, &info, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
        names.append((entry, info.st_mtim))
      case .data(let entry): hasData.insert(entry)
      // The probe of a run that crashed is overwritten and removed by the next one.
      case .probe, nil: break
      }
    }
    names.sort { ($0.lastUse.tv_sec, $0.lastUse.tv_nsec) > ($1.lastUse.tv_sec, $1.lastUse.tv_nsec) }
    var reclaimed = 0
    for name in names.map(\.name) {
      hasData.remove(name)
      switch inspect(name, in: directory) {
      case .found(let found): adopt(found)
      case .leftAlone: break
      case .removed: reclaimed += 1
      }
    }
    for name in hasData where removeOrphan(name, in: directory) { reclaimed += 1 }
    if reclaimed > 0 {
      logger.info("cache: removed \(reclaimed) leftovers of an earlier run")
    }
  }

  private enum Inspection {
    case found(Found)
    /// The entry stays: it is open already, or cannot be read now.
    case leftAlone
    /// The entry was unusable and has been removed.
    case removed
  }

  private func inspect(_ name: String, in directory: CacheDirectory) -> Inspection {
    entries.withLock(of: name) {
      let (id, isOpen, isOurs) = state.withLock { state in
        let id = state.id(of: name)
        return (id, state.open[id] != nil, state.ours.contains(id))
      }
      // An open entry was adopted when it was opened.
      guard !isOpen else { return .leftAlone }
      do throws(BlockCacheError) {
        if let files = try EntryFiles.open(name, in: directory),
          isOurs || !hasForeignReader(files), let found = measure(files, name, id)
        {
          _ = state.withLock { $0.ours.insert(id) }
          return .found(found)
        }
      } catch {
        // The error says nothing about the entry, which stays; it is not counted until it is
        // opened.
        logger.warning("\(error)")
        return .leftAlone
      }
      remove(name, in: directory)
      state.withLock { $0.forget(id) }
      return .removed
    }
  }

  /// The blocks that an entry holds, after space that its index does not name has been given back.
  /// Nil when the entry is unusable.
  private func measure(_ files: EntryFiles, _ name: String, _ id: EntryID) -> Found? {
    guard let header = files.readHeader(), Self.name(header.identityDigest) == name,
      let measured = files.measureData(), measured.sizeInBytes == header.sizeInBytes,
      let present = Self.presentBlocks(in: files, header), !present.isEmpty
    else { return nil }
    let grid = BlockGrid(sizeInBytes: header.sizeInBytes)
    trim(files, grid, present, allocatedInBytes: measured.allocatedInBytes)
    return Found(
      entry: id, overheadInBytes: CacheEntry.overheadInBytes(grid),
      segments: grid.segments(holding: present))
  }

  /// The blocks that the index names. Nil where their version has not reached the disk with them:
  /// the next response's ETag would be taken for it, although the object may have changed.
  private static func presentBlocks(
    in files: EntryFiles, _ header: IndexFormat.Header
  ) -> BlockSet? {
    let present = files.readPresent(BlockGrid(sizeInBytes: header.sizeInBytes))
    return present.isEmpty || header.eTag != nil ? present : nil
  }

  /// Punches the space that is allocated but named by no index entry.
  private func trim(
    _ files: EntryFiles, _ grid: BlockGrid, _ present: BlockSet, allocatedInBytes: Int
  ) {
    let named = present.presentRuns(in: 0..<grid.blockCount)
      .reduce(0) { $0 + grid.allocatedBytes(of: $1) }
    guard allocatedInBytes > named else { return }
    var next = 0
    while let absent = present.firstAbsent(in: next..<grid.blockCount) {
      let end = present.firstPresent(in: absent..<grid.blockCount) ?? grid.blockCount
      do {
        try files.punch(absent..<end, grid)
      } catch {
        logger.warning("\(error)")
      }
      next = end
    }
  }

  /// Whether a reader of an earlier mount has the file open through the kernel. A child process
  /// that any part of this process is just spawning has all its files too until it executes; that
  /// passes.
  private func hasForeignReader(_ files: borrowing EntryFiles) -> Bool {
    for _ in 0..<20 {
      if files.isDataOpenElsewhere() != true { return false }
      usleep(5000)
    }
    return true
  }

  private func removeOrphan(_ name: String, in directory: CacheDirectory) -> Bool {
    entries.withLock(of: name) {
      guard state.withLock({ $0.ids[name] == nil }) else { return false }
      remove(name, in: directory)
      return true
    }
  }

  // MARK: Files

  private static func name(_ digest: [UInt8]) -> String {
    Hexadecimal.text(digest.prefix(16))
  }

  private func remove(_ name: String, in directory: CacheDirectory?) {
    guard let directory else { return }
    // The index is removed first, because bytes without an index belong to no entry.
    if hook?(.removeIndex) == nil { unlinkat(directory.chunks.raw, "\(name).index", 0) }
    if hook?(.removeData) == nil { unlinkat(directory.chunks.raw, "\(name).data", 0) }
  }
}
