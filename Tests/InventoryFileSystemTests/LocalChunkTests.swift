import FoundationEssentials
import Glibc
import InventoryFileSystem
import TestSupport
import Testing

/// Manifests on disk, whose chunks are files beside them.
@Suite(.timeLimit(.minutes(2))) struct LocalChunkTests {
  /// A folder with the manifest of these chunks, and what `fill` puts beside it.
  private final class Folder {
    let path: String
    let recorder = LogRecorder()

    init(in parent: String = "/tmp", files: String, _ fill: (String) throws -> Void) throws {
      var template = Array("\(parent)/local-chunk-tests-XXXXXX".utf8CString)
      path = String(cString: try #require(mkdtemp(&template)))
      try #require(mkdir(path + "/root", 0o755) == 0 && mkdir(path + "/root/data", 0o755) == 0)
      try write(#"{"fileFormat":"CSV","files":[\#(files)]}"#, to: "root/manifest.json")
      try write("outside", to: "outside")
      try fill(path + "/root")
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ text: String, to name: String) throws {
      try Data(text.utf8).write(to: URL(filePath: path + "/" + name))
    }

    func load() throws -> Inventory {
      try InventoryLoader(bucketOverride: nil, logger: recorder.logger)
        .load(path + "/root/manifest.json")
    }

    func mount() throws -> InventoryFileSystem {
      let inventory = try load()
      guard case .folder(let folder) = inventory.place else { throw FileSystemError.inputOutput }
      return InventoryFileSystem(
        inventory, folder: folder, ownership: NodeOwnership(userID: 7, groupID: 8),
        logger: recorder.logger)
    }
  }

  private func open(_ name: String, _ fileSystem: InventoryFileSystem) throws -> OpenFile {
    let data = try fileSystem.lookUp("data", in: .root).node
    let node = try fileSystem.lookUp(name, in: data).node
    guard case .opened(let file) = try fileSystem.open(node, parked: { TestOpen() }) else {
      throw FileSystemError.interrupted
    }
    return file
  }

  private func read(_ file: OpenFile, _ fileSystem: InventoryFileSystem) async throws -> String {
    let read = TestRead(fileSystem, file, byteOffset: 0, count: 100)
    read.start()
    return String(decoding: try await read.value(), as: UTF8.self)
  }

  @Test("The kernel is to forget its pages of a file that has become another")
  func replaced() async throws {
    let folder = try Folder(files: #"{"key":"data/a","size":3}"#) { root in
      try Data("one".utf8).write(to: URL(filePath: root + "/data/a"))
    }
    let fileSystem = try folder.mount()
    for _ in 0..<2 { #expect(try open("a", fileSystem).mayKeepPages) }
    try folder.write("two", to: "root/data/b")
    try #require(rename(folder.path + "/root/data/b", folder.path + "/root/data/a") == 0)
    for _ in 0..<2 {
      let file = try open("a", fileSystem)
      #expect(!file.mayKeepPages)
      #expect(try await read(file, fileSystem) == "two")
    }
  }

  @Test(
    "The kernel keeps its pages of the right file that took the place of one that could not be opened"
  )
  func mended() throws {
    let folder = try Folder(files: #"{"key":"data/a","size":3}"#) { root in
      try Data("too long".utf8).write(to: URL(filePath: root + "/data/a"))
    }
    let fileSystem = try folder.mount()
    #expect(throws: FileSystemError.inputOutput) { try open("a", fileSystem) }
    try folder.write("one", to: "root/data/b")
    try #require(rename(folder.path + "/root/data/b", folder.path + "/root/data/a") == 0)
    for _ in 0..<2 { #expect(try open("a", fileSystem).mayKeepPages) }
  }

  @Test("Chunks are found under the nearest folder that has the first, whatever size is told")
  func plain() async throws {
    let folder = try Folder(files: #"{"key":"data/a","size":3},{"key":"data/b"}"#) { root in
      try #require(symlink("a", root + "/data/b") == 0)
    }
    try folder.write("abc", to: "root/data/a")
    let fileSystem = try folder.mount()
    for name in ["a", "b"] {
      #expect(try await read(try open(name, fileSystem), fileSystem) == "abc")
    }
  }

  @Test("A link that leads out of the folder is not followed", arguments: ["", #","size":7"#])
  func escape(size: String) throws {
    let folder = try Folder(
      files: #"{"key":"data/a"},{"key":"data/b"\#(size)},{"key":"link/outside"\#(size)}"#
    ) { root in
      try #require(symlink("../../outside", root + "/data/b") == 0)
      try #require(symlink(root + "/..", root + "/link") == 0)
    }
    try folder.write("abc", to: "root/data/a")
    let fileSystem = try folder.mount()
    for name in ["b", "outside"] {
      #expect(throws: FileSystemError.notFound) { try open(name, fileSystem) }
    }
    #expect(folder.recorder.messages.filter { $0.hasPrefix("error: ") }.count >= 2)
  }

  @Test("The root directory is not where chunks are, nor what a link leads to")
  func root() throws {
    for key in ["etc/passwd", "data/a"] {
      let folder = try Folder(files: #"{"key":"\#(key)","size":1}"#) { root in
        try #require(symlink("/etc/passwd", root + "/data/a") == 0)
      }
      #expect(throws: InventoryLoadError.self) { try folder.load() }
    }
  }

  @Test("Only regular files are chunks: nothing waits for a pipe's writer")
  func special() throws {
    let folder = try Folder(files: #"{"key":"data/pipe","size":0},{"key":"data/p2"}"#) { root in
      for name in ["pipe", "p2"] { try #require(mkfifo(root + "/data/" + name, 0o644) == 0) }
    }
    let fileSystem = try folder.mount()
    #expect(throws: FileSystemError.inputOutput) { try open("pipe", fileSystem) }
    #expect(throws: FileSystemError.notFound) { try open("p2", fileSystem) }
  }

  @Test("Messages hold no control characters, whatever the keys do")
  func messages() throws {
    let folder = try Folder(
      files: #"{"key":"data/a"},{"key":"data/\u001b[2Jb","size":0},{"key":"data/\u001b[2Jc"}"#
    ) { _ in }
    try folder.write("abc", to: "root/data/a")
    let fileSystem = try folder.mount()
    let data = try fileSystem.lookUp("data", in: .root).node
    #expect(throws: FileSystemError.notFound) {
      let node = try fileSystem.item(at: 1, of: data).attributes.node
      _ = try fileSystem.open(node, parked: { TestOpen() })
    }
    let errors = folder.recorder.messages.filter { $0.hasPrefix("error: ") }
    #expect(errors.count == 2 && errors.allSatisfy { $0.contains(#"data/\u{1b}[2J"#) })
    let other = try Folder(files: #"{"key":"\u001b[2J"}"#) { _ in }
    let error = #expect(throws: InventoryLoadError.self) { try other.load() }
    #expect(error?.description.contains(#"first chunk, \u{1b}[2J,"#) == true)
  }

  @Test("A checksum that cannot be one is called a checksum, with the bytes that are allowed")
  func hugeChecksum() throws {
    let folder = try Folder(files: "") { _ in }
    try folder.write(String(repeating: " ", count: 4097), to: "root/manifest.checksum")
    let error = #expect(throws: InventoryLoadError.self) { try folder.load() }
    let text = error?.description ?? ""
    #expect(text.contains("manifest.checksum: larger than 4096 bytes; expected the MD5"), "\(text)")
  }

  @Test("A file larger than any object has no size")
  func huge() throws {
    // Not every file system can hold one; tmpfs can.
    let folder = try Folder(in: "/dev/shm", files: #"{"key":"data/a"}"#) { _ in }
    try folder.write("abc", to: "root/data/a")
    try #require(truncate(folder.path + "/root/data/a", (50 << 40) + 1) == 0)
    #expect(try folder.load().chunks.first?.failure == .notFound)
  }

  @Test("A file that was cut off after it was opened fails to be read, and the log says so")
  func truncated() async throws {
    let folder = try Folder(files: #"{"key":"data/a","size":3}"#) { _ in }
    try folder.write("abc", to: "root/data/a")
    let fileSystem = try folder.mount()
    let file = try open("a", fileSystem)
    #expect(try await read(file, fileSystem) == "abc")
    try #require(truncate(folder.path + "/root/data/a", 2) == 0)
    await #expect(throws: FileSystemError.inputOutput) { try await read(file, fileSystem) }
    #expect(folder.recorder.messages.contains { $0.contains("data/a: the file ends at byte 2") })
  }
}
