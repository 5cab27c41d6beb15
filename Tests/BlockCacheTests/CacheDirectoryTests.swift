import Glibc
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
    truncate("\(folder.path)/lock", 0)
    #expect(message(folder).contains("in use by another process"))
    _ = cache.path
  }

  @Test("Everything is the user's alone")
  func modes() throws {
    let folder = try CacheFolder()
    let cache = try folder.openCache()
    let entry = try cache.open(.chunk(sizeInBytes: 100))
    #expect(folder.mode(of: folder.path) == 0o700)
    #expect(folder.mode(of: folder.chunkFolder) == 0o700)
    for file in ["\(folder.path)/lock", "\(folder.path)/CACHEDIR.TAG"] {
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
    let text = String(decoding: try folder.bytes(of: "\(folder.path)/CACHEDIR.TAG"), as: UTF8.self)
    #expect(text.hasPrefix("Signature: 8a477f597d28d172789f06886806bc55\n"))
  }

  @Test("A directory that others can write is refused", arguments: [0o720, 0o702, 0o777])
  func writableByOthers(mode: mode_t) throws {
    let folder = try CacheFolder()
    mkdir(folder.path, 0o700)
    chmod(folder.path, mode)
    let text = message(folder)
    #expect(text.contains("written by others (mode \(String(mode, radix: 8)))"))
    #expect(text.contains("chmod 700"))
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
    mkdir(folder.path, 0o700)
    chown(folder.path, 12345, 12345)
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
    mkdir(folder.path, 0o700)
    mkdir(target.path, 0o700)
    symlink(name == "lock" ? "\(target.path)/victim" : target.path, "\(folder.path)/\(name)")
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
        "\(folder.path): is not a directory; choose another with --cache-dir"))
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
