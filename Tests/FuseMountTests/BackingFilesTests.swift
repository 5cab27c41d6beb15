import Dispatch
import Glibc
import InventoryFileSystem
import Locks
import Posix
import TestSupport
import Testing

@testable import FuseMount

@Suite(.timeLimit(.minutes(2))) struct BackingFilesTests {
  private let folder: ChunkFolder
  private let device = CountingDevice()
  private let backing: BackingFiles

  init() throws {
    folder = try ChunkFolder([("a", [1]), ("b", [2])])
    backing = BackingFiles(folder.fileSystem, device)
  }

  private func open(_ inode: UInt64 = 16) throws -> OpenFile {
    let outcome = try folder.fileSystem.open(NodeID(inode: inode)) {
      fatalError("a file on disk is opened at once")
    }
    guard case .opened(let file) = outcome else { throw FileSystemError.interrupted }
    return file
  }

  @Test("A file is registered from its first open to its last release")
  func counting() throws {
    let files = try (0..<3).map { _ in try open() }
    for file in files { #expect(backing.opened(file) == 1) }
    for file in files.dropLast() { backing.closed(file) }
    #expect(device.counts == CountingDevice.Counts(opened: 1, closed: 0))
    backing.closed(files[2])
    #expect(device.counts == CountingDevice.Counts(opened: 1, closed: 1))
    #expect(backing.opened(files[0]) == 2, "anew")
    backing.closed(files[0])
    #expect(device.counts == CountingDevice.Counts(opened: 2, closed: 2))
  }

  @Test("Files are registered one by one")
  func twoFiles() throws {
    let (a, b) = (try open(16), try open(17))
    #expect(backing.opened(a) == 1)
    #expect(backing.opened(b) == 2)
    backing.closed(a)
    #expect(device.counts == CountingDevice.Counts(opened: 2, closed: 1))
    backing.closed(b)
    #expect(device.counts == CountingDevice.Counts(opened: 2, closed: 2))
  }

  @Test("How a file was opened first holds until its last release")
  func modes() throws {
    let (first, second) = (try open(), try open())
    device.isOn.withLock { $0 = false }
    #expect(backing.opened(first) == nil)
    device.isOn.withLock { $0 = true }
    #expect(backing.opened(second) == nil, "the kernel would fail it")
    backing.closed(first)
    #expect(backing.opened(first) == nil)
    backing.closed(first)
    backing.closed(second)
    #expect(backing.opened(first) == 1)
    device.isOn.withLock { $0 = false }
    #expect(backing.opened(second) == 1)
    backing.closed(first)
    backing.closed(second)
    #expect(device.counts == CountingDevice.Counts(opened: 1, closed: 1))
  }

  @Test("A file that the kernel does not take is in cached mode until its last release")
  func refused() throws {
    let (first, second) = (try open(), try open())
    device.takesFiles.withLock { $0 = false }
    #expect(backing.opened(first) == nil)
    device.takesFiles.withLock { $0 = true }
    #expect(backing.opened(second) == nil)
    backing.closed(first)
    backing.closed(second)
    #expect(device.counts == CountingDevice.Counts())
    #expect(backing.opened(first) == 1)
    backing.closed(first)
  }

  @Test("What has no file on disk is not registered, and a release without an open does nothing")
  func noFile() throws {
    let manifest = try open(2)
    #expect(backing.opened(manifest) == nil)
    backing.closed(manifest)
    backing.closed(manifest)
    backing.closed(try open())
    #expect(device.counts == CountingDevice.Counts())
  }

  @Test("A file whose registration takes long keeps nobody from opening another")
  func slowRegistration() throws {
    let (a, second, b) = (try open(16), try open(16), try open(17))
    let (isKept, mayGoOn) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    device.willOpen.withLock { willOpen in
      willOpen = {
        isKept.signal()
        _ = mayGoOn.wait(timeout: .now() + 60)
      }
    }
    let ids = Lock<[UInt32?]>([])
    let slow = PosixThread(named: "slow") { [backing] in
      let id = backing.opened(a)
      ids.withLock { $0.append(id) }
    }
    #expect(isKept.wait(timeout: .now() + 60) == .success)
    device.willOpen.withLock { $0 = {} }
    let follower = PosixThread(named: "follower") { [backing] in
      let id = backing.opened(second)
      ids.withLock { $0.append(id) }
    }
    #expect(backing.opened(b) == 1)
    #expect(ids.withLock { $0.isEmpty }, "the first is not through")
    mayGoOn.signal()
    slow?.join()
    follower?.join()
    #expect(ids.withLock { $0 } == [2, 2], "the second open of a file follows the first")
    for file in [a, second, b] { backing.closed(file) }
    #expect(device.counts == CountingDevice.Counts(opened: 2, closed: 2))
  }

  @Test("Whichever threads open and release a file, what they are given is registered meanwhile")
  func threads() throws {
    let files = try (0..<4).map { _ in try open() }
    let threads = files.enumerated().compactMap { index, file in
      PosixThread(named: "opener") { [backing, device] in
        var generator = SeededGenerator(seed: UInt64(index))
        for _ in 0..<2000 {
          let count = Int.random(in: 1...3, using: &generator)
          let ids = (0..<count).map { _ in backing.opened(file) }
          #expect(Set(ids).count == 1 && ids.allSatisfy { $0.map(device.isLive) == true })
          for _ in 0..<count { backing.closed(file) }
        }
      }
    }
    try #require(threads.count == 4)
    for thread in threads { thread.join() }
    #expect(device.counts.opened == device.counts.closed && device.counts.opened > 0)
  }
}
