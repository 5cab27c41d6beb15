import Foundation
import Testing

@testable import BlockCache

@Suite struct CacheDirectoryTests {
  private func message(_ folder: CacheFolder) -> String {
    do {
      _ = try folder.openCacheAtOnce()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test("A second cache in the directory is refused, with the pid of the first, until that is gone")
  func lock() throws {
    let folder = try CacheFolder()
    do {
      let cache = try folder.openCache()
      let text = message(folder)
      #expect(text.contains("in use by process \(getpid())"))
      #expect(text.contains("--cache-dir"))
      #expect(text.contains(folder.path))
      _ = cache.path
    }
    _ = try folder.openCache()
  }

  @Test("A lock file that names nobody still locks")
  func emptyLock() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    truncate("\(folder.ownFolder)/lock", 0)
    #expect(message(folder).contains("in use by another process"))
    _ = cache.path
  }

  @Test("Everything is the user's alone")
  func modes() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(.chunk(sizeInBytes: 100))
    #expect(folder.mode(of: folder.path) == 0o700)
    #expect(folder.mode(of: folder.ownFolder) == 0o700)
    #expect(folder.mode(of: folder.chunkFolder) == 0o700)
    for file in ["\(folder.ownFolder)/lock", "\(folder.ownFolder)/CACHEDIR.TAG"] {
      #expect(folder.mode(of: file) == 0o600, "\(file)")
    }
    for suffix in [".data", ".index"] {
      #expect(folder.mode(of: try folder.file(endingIn: suffix)) == 0o600)
    }
    cache.close(entry)
  }

  @Test("Backup programs are told to pass it by")
  func tag() throws {
    let folder = try CacheFolder()
    _ = try folder.openCache()
    let text = String(
      decoding: try folder.bytes(of: "\(folder.ownFolder)/CACHEDIR.TAG"), as: UTF8.self)
    #expect(text.hasPrefix("Signature: 8a477f597d28d172789f06886806bc55\n"))
  }

  @Test("A cache that others can write is refused", arguments: [0o720, 0o702, 0o777])
  func writableByOthers(mode: mode_t) throws {
    let folder = try CacheFolder()
    folder.makeOwnFolder(mode: mode)
    let text = message(folder)
    #expect(text.contains("written by others (mode \(String(mode, radix: 8)))"))
    #expect(text.contains("chmod 700"))
  }

  /// The paths below a folder with what they are: bytes, or the kind of what is no file.
  private func everything(in path: String) throws -> [String: [UInt8]] {
    var found: [String: [UInt8]] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
      var info = stat()
      lstat("\(path)/\(name)", &info)
      let isFile = info.st_mode & S_IFMT == S_IFREG
      found[name] =
        isFile
        ? [UInt8](try Data(contentsOf: URL(filePath: "\(path)/\(name)")))
        : Array("\(info.st_mode)".utf8)
    }
    return found
  }

  /// Files and folders of somebody else, of kinds and names that a careless program would take for
  /// its own.
  private func putForeignFiles(in path: String) throws {
    for folder in [
      "chunks-vendor", "chunks-v1", "chunks-v2-crc32c.bak", "chunks-v99-crc32c", "data", "tmp",
    ] {
      mkdir("\(path)/\(folder)", 0o755)
      try Data("mine".utf8).write(to: URL(filePath: "\(path)/\(folder)/f"))
      let almost = String(repeating: "0f", count: 15)
      try Data("mine".utf8).write(to: URL(filePath: "\(path)/\(folder)/\(almost).data"))
    }
    for file in ["notes.txt", "probe.txt", ".hidden", "x.data", "y.index", "pid"] {
      try Data("mine".utf8).write(to: URL(filePath: "\(path)/\(file)"))
    }
    symlink("/etc/passwd", "\(path)/link")
    symlink("nowhere", "\(path)/dead")
    mkfifo("\(path)/pipe", 0o600)
  }

  @Test("What lies beside the cache and in its folders is not touched, whatever its name")
  func foreignFiles() throws {
    let folder = try CacheFolder()
    mkdir(folder.path, 0o755)
    try putForeignFiles(in: folder.path)
    for file in ["lock", "CACHEDIR.TAG", "probe"] {
      try folder.write(Array("mine".utf8), to: "\(folder.path)/\(file)")
    }
    do { _ = try folder.openCache() }
    try putForeignFiles(in: folder.ownFolder)
    try putForeignFiles(in: folder.chunkFolder)
    let before = try everything(in: folder.path)
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(.chunk(sizeInBytes: 100))
      try entry.store(0..<1, of: content(100))
      cache.close(entry)
      try cache.scan { _ in }
      try cache.evict(.init(entry: entry.id, index: 0))
      cache.discard(entry)
    }
    do {
      let cache = try folder.openCache()
      try cache.scan { _ in }
    }
    #expect(try everything(in: folder.path) == before)
    #expect(folder.mode(of: folder.path) == 0o755)
  }

  @Test("Our files of another version of the format go, and what lies beside them stays")
  func otherVersions() throws {
    let folder = try CacheFolder()
    do { _ = try folder.openCache() }
    let old = "\(folder.ownFolder)/chunks-v2-crc32"
    mkdir(old, 0o700)
    let name = String(repeating: "0f", count: 16)
    for file in ["\(name).data", "\(name).index", "probe", "notes.txt"] {
      try folder.write([1], to: "\(old)/\(file)")
    }
    let cache = try folder.openCache()
    try cache.scan { _ in }
    #expect(try FileManager.default.contentsOfDirectory(atPath: old) == ["notes.txt"])
  }

  @Test(
    "A folder of the cache's name that somebody else made is refused, and stays as it is",
    arguments: ["notes.txt", "lock", "CACHEDIR.TAG"])
  func foreignFolder(file: String) throws {
    let folder = try CacheFolder()
    folder.makeOwnFolder()
    try folder.write(Array("mine".utf8), to: "\(folder.ownFolder)/\(file)")
    #expect(
      message(folder).contains("\(folder.ownFolder): has files, but no CACHEDIR.TAG of inventoryfs")
    )
    #expect(try everything(in: folder.ownFolder) == [file: Array("mine".utf8)])
  }

  @Test("A folder that a crash left without its tag's text is taken", arguments: [nil, 0, 20])
  func crashBeforeTag(length: Int?) throws {
    let folder = try CacheFolder()
    do { _ = try folder.openCache() }
    let tag = try folder.bytes(of: "\(folder.ownFolder)/CACHEDIR.TAG")
    try FileManager.default.removeItem(atPath: folder.ownFolder)
    folder.makeOwnFolder()
    if let length {
      try folder.write(Array(tag[..<length]), to: "\(folder.ownFolder)/CACHEDIR.TAG")
    }
    _ = try folder.openCache()
    #expect(try folder.bytes(of: "\(folder.ownFolder)/CACHEDIR.TAG") == tag)
  }

  @Test("A pipe in place of the tag is refused, and keeps nobody")
  func pipeAsTag() throws {
    let folder = try CacheFolder()
    folder.makeOwnFolder()
    mkfifo("\(folder.ownFolder)/CACHEDIR.TAG", 0o600)
    #expect(message(folder).contains(folder.ownFolder))
    #expect(message(folder) != "no error")
  }

  @Test("A cache that others can read is closed to them")
  func readableByOthers() throws {
    let folder = try CacheFolder()
    folder.makeOwnFolder(mode: 0o755)
    _ = try folder.openCache()
    #expect(folder.mode(of: folder.ownFolder) == 0o700)
  }

  @Test("A file is no directory")
  func file() throws {
    let folder = try CacheFolder()
    try folder.write([], to: folder.path)
    #expect(message(folder).contains(folder.path))
    #expect(message(folder) != "no error")
  }

  @Test("A directory or a link of another user is refused", .enabled(if: geteuid() == 0))
  func otherOwner() throws {
    let folder = try CacheFolder()
    folder.makeOwnFolder()
    chown(folder.ownFolder, 12345, 12345)
    #expect(message(folder).contains("belongs to user 12345, not to user 0"))
    let target = try CacheFolder()
    mkdir(target.path, 0o700)
    let linked = try CacheFolder()
    symlink(target.path, linked.path)
    _ = try linked.openCache()
    lchown(linked.path, 12345, 12345)
    #expect(message(linked).contains("symlink that belongs to user 12345"))
  }

  @Test(
    "Links inside the directory are not followed",
    arguments: ["lock", CacheDirectory.chunkFolderName])
  func plantedLinks(name: String) throws {
    let folder = try CacheFolder()
    let target = try CacheFolder()
    do { _ = try folder.openCache() }
    try? FileManager.default.removeItem(atPath: "\(folder.ownFolder)/\(name)")
    mkdir(target.path, 0o700)
    symlink(name == "lock" ? "\(target.path)/victim" : target.path, "\(folder.ownFolder)/\(name)")
    #expect(message(folder) != "no error")
    #expect(access("\(target.path)/victim", F_OK) != 0)
    #expect(access("\(target.path)/probe", F_OK) != 0)
  }

  @Test("A link in place of an entry's file is not followed")
  func plantedEntryLink() throws {
    let folder = try CacheFolder()
    let victim = try CacheFolder()
    try victim.write([7, 7, 7], to: victim.path)
    do {
      let cache = try folder.openCache()
      let entry = try cache.open(.chunk(sizeInBytes: 100))
      try entry.store(0..<1, of: content(100))
      cache.close(entry)
    }
    let data = try folder.file(endingIn: ".data")
    unlink(data)
    symlink(victim.path, data)
    let cache = try folder.openCache()
    let entry = try cache.open(.chunk(sizeInBytes: 100))
    #expect(entry.presentBlocks.isEmpty)
    try entry.store(0..<1, of: content(100))
    #expect(try victim.bytes(of: victim.path) == [7, 7, 7])
  }

  @Test("A directory that cannot be written says so", .enabled(if: geteuid() != 0))
  func unwritable() throws {
    let folder = try CacheFolder()
    mkdir(folder.path, 0o500)
    #expect(message(folder).contains("cannot be written"))
  }

  @Test("A file in its place is said to be one, and what to do")
  func notADirectory() throws {
    let folder = try CacheFolder()
    close(open(folder.path, O_WRONLY | O_CREAT, 0o600))
    #expect(
      message(folder).contains(
        "\(folder.path): is not a directory; set --cache-dir to another"))
  }

  @Test(
    "A directory that cannot be made says why", arguments: ["/proc/none/cache", "/dev/null/cache"])
  func cannotBeMade(path: String) {
    #expect {
      _ = try BlockCache(path: path, logger: silent)
    } throws: {
      "\($0)".contains(path) && "\($0)".contains("--cache-dir")
    }
  }

  @Test("Free space is told for a directory that does not exist yet")
  func freeBytes() throws {
    let folder = try CacheFolder()
    let free = try #require(BlockCache.freeBytes(at: folder.path + "/a/b"))
    #expect(free > 0)
  }
}
