import Glibc
import InventoryFileSystem
import Locks
import Testing

@testable import FuseMount

/// What each request of the kernel's is answered with, by our operations and libfuse together.
@Suite(.timeLimit(.minutes(2))) struct KernelOperationsTests {
  // Inodes of InventoryFileSystem's tree.
  private static let (root, manifest, data, firstChunk): (UInt64, UInt64, UInt64, UInt64) =
    (1, 2, 4, 16)
  private static let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
  private static let errors: [(String, FileSystemError, Int32)] = [
    ("notFound", .notFound, ENOENT), ("accessDenied", .accessDenied, EACCES),
    ("stale", .stale, ESTALE), ("inputOutput", .inputOutput, EIO),
    ("interrupted", .interrupted, EINTR), ("nameTooLong", .nameTooLong, ENAMETOOLONG),
    ("notADirectory", .notADirectory, ENOTDIR), ("isADirectory", .isADirectory, EISDIR),
    ("readOnly", .readOnly, EROFS), ("noSuchAttribute", .noSuchAttribute, ENODATA),
    ("tooManyOpenFiles", .tooManyOpenFiles, EMFILE), ("tooLarge", .tooLarge, EFBIG),
    ("shuttingDown", .shuttingDown, ESHUTDOWN),
  ]
  private static let yearInSeconds: UInt64 = 365 * 86400

  /// Runs a test with a session over a folder of two chunks, `a` and an empty one, and one for each
  /// error.
  private func withKernel(
    backing: (any BackingDevice)? = nil, _ body: (KernelSide, ChunkFolder) throws -> Void
  ) throws {
    let folder = try ChunkFolder(
      [("a", Self.bytes), ("empty", [])], failures: Self.errors.map { ($0.0, $0.1) })
    let kernel = try KernelSide(
      folder.fileSystem, backingFiles: backing.map { BackingFiles(folder.fileSystem, $0) })
    defer { kernel.end() }
    _ = kernel.initialise()
    try body(kernel, folder)
  }

  /// The one reply to a request that is not parked.
  private func answer(
    _ kernel: KernelSide, _ opcode: KernelSide.Opcode, node: UInt64 = 1, _ body: Fields = Fields(),
    at location: SourceLocation = #_sourceLocation
  ) throws -> KernelSide.Reply {
    let replies = kernel.send(opcode, node: node, body)
    #expect(replies.count == 1, sourceLocation: location)
    return try #require(replies.first, sourceLocation: location)
  }

  private func lookUp(_ kernel: KernelSide, _ name: String, in parent: UInt64) throws
    -> KernelSide.Reply
  {
    try answer(kernel, .lookUp, node: parent, .name(name))
  }

  private func open(_ kernel: KernelSide, _ node: UInt64, flags: Int32 = O_RDONLY) throws
    -> KernelSide.Reply
  {
    try answer(kernel, .open, node: node, .words([UInt32(flags), 0]))
  }

  private func read(
    _ kernel: KernelSide, _ node: UInt64, handle: UInt64, offset: UInt64, size: UInt32
  ) throws -> KernelSide.Reply {
    var body = Fields(handle)
    body.append(offset)
    for word in [size, 0, 0, 0, 0, 0] { body.append(word) }
    return try answer(kernel, .read, node: node, body)
  }

  private func release(_ kernel: KernelSide, _ node: UInt64, handle: UInt64) throws {
    var body = Fields(handle)
    body.append(UInt64(0))
    body.append(UInt64(0))
    #expect(try answer(kernel, .release, node: node, body).errno == 0)
  }

  private func attribute(_ kernel: KernelSide, _ name: String, node: UInt64, size: UInt32) throws
    -> KernelSide.Reply
  {
    var body = Fields.words([size, 0])
    body.bytes += Fields.name(name).bytes
    return try answer(kernel, .getExtendedAttribute, node: node, body)
  }

  // MARK: The first request

  @Test("Reads of 1 MiB are agreed on, and pages stay although sizes and times are seen again")
  func initialise() throws {
    let folder = try ChunkFolder([])
    let kernel = try KernelSide(folder.fileSystem)
    defer { kernel.end() }
    let reply = try #require(kernel.initialise().first)
    #expect(reply.errno == 0)
    #expect(reply.body.word(at: 0) == 7, "major")
    #expect(
      reply.body.word(at: 8) == 1 << 20, "read-ahead, of which the kernel takes what it offered")
    let flags = reply.body.word(at: 12)
    #expect(flags & 1 << 12 == 0, "FUSE_AUTO_INVAL_DATA")
    #expect(flags & 1 << 13 != 0, "FUSE_DO_READDIRPLUS")
    #expect(flags & 1 << 4 == 0, "FUSE_EXPORT_SUPPORT: the kernel would look up . and ..")
    #expect(reply.body.word(at: 16) == 24 | 18 << 16, "max_background, congestion_threshold")
    #expect(reply.body.word(at: 20) == 1 << 20, "max_write")
    #expect(reply.body.word(at: 28) & 0xffff == 256, "max_pages")
  }

  @Test("Passthrough is accepted in the reply that libfuse gives to the first request")
  func passthroughInRealReply() throws {
    let folder = try ChunkFolder([])
    let kernel = try KernelSide(folder.fileSystem)
    defer { kernel.end() }
    let reply = try #require(kernel.initialise().first)
    var bytes = Fields.words([UInt32(16 + reply.body.bytes.count), 0, 2, 0]).bytes
    bytes += reply.body.bytes
    #expect(InitExchange.accept(2, in: &bytes))
    let accepted = Fields(bytes: bytes)
    #expect(accepted.word(at: 16 + 12) == reply.body.word(at: 12) | 1 << 30)
    #expect(accepted.word(at: 16 + 32) == reply.body.word(at: 32) | 1 << 5)
    #expect(accepted.word(at: 16 + 36) == 1)
    #expect(bytes.count == 16 + reply.body.bytes.count)
  }

  @Test("Nothing is answered before the first request, nor what this file system has no answer for")
  func unanswered() throws {
    let folder = try ChunkFolder([])
    let kernel = try KernelSide(folder.fileSystem)
    defer { kernel.end() }
    #expect(kernel.send(.getAttributes, Fields.words([0, 0, 0, 0])).first?.errno == EIO)
    _ = kernel.initialise()
    // With default_permissions the kernel checks by itself.
    #expect(kernel.send(.access, .words([4, 0])).first?.errno == ENOSYS)
    #expect(kernel.send(.openDirectory, .words([0, 0])).first?.errno == ENOSYS)
  }

  // MARK: Names and attributes

  @Test(
    "Attributes are those of the tree, for a year",
    arguments: [
      (root, S_IFDIR | 0o555, 0, 3), (data, S_IFDIR | 0o555, 0, 2),
      (manifest, S_IFREG | 0o444, 2, 1), (firstChunk, S_IFREG | 0o444, 10_000, 1),
      (firstChunk + 1, S_IFREG | 0o444, 0, 1),
    ])
  func attributes(node: UInt64, mode: UInt32, size: UInt64, links: UInt32) throws {
    try withKernel { (kernel, _) throws in
      let reply = try answer(kernel, .getAttributes, node: node, .words([0, 0, 0, 0]))
      #expect(reply.errno == 0 && reply.body.bytes.count == 104)
      #expect(reply.body.long(at: 0) == Self.yearInSeconds)
      check(reply.body.dropFirst(16), node: node, mode: mode, size: size, links: links)
    }
  }

  /// A `fuse_attr`.
  private func check(
    _ attributes: Fields, node: UInt64, mode: UInt32, size: UInt64, links: UInt32,
    at location: SourceLocation = #_sourceLocation
  ) {
    #expect(attributes.long(at: 0) == node, sourceLocation: location)
    #expect(attributes.long(at: 8) == size, sourceLocation: location)
    #expect(attributes.long(at: 16) == (size + 511) / 512, "blocks", sourceLocation: location)
    for offset in [24, 32, 40] {
      #expect(attributes.long(at: offset) == 1_700_000_000, "seconds", sourceLocation: location)
    }
    for offset in [48, 52, 56] {
      #expect(attributes.word(at: offset) == 123_000_000, "nanoseconds", sourceLocation: location)
    }
    let words = stride(from: 60, to: 88, by: 4).map { attributes.word(at: $0) }
    #expect(words == [mode, links, 7, 8, 0, 1 << 20, 0], sourceLocation: location)
  }

  @Test("A time before 1970 is told in whole seconds, as stat can hold it")
  func earlyTime() throws {
    let folder = try ChunkFolder([], creationTimeInMilliseconds: -1500)
    let kernel = try KernelSide(folder.fileSystem)
    defer { kernel.end() }
    _ = kernel.initialise()
    let body = try answer(kernel, .getAttributes, .words([0, 0, 0, 0])).body
    #expect(Int64(bitPattern: body.long(at: 16 + 32)) == -1)
    #expect(body.word(at: 16 + 52) == 0)
  }

  @Test("Nodes that do not exist have neither attributes nor content")
  func noNode() throws {
    try withKernel { (kernel, _) throws in
      for node: UInt64 in [0, 3, 5, 15, 16 + 15, 1 << 63, .max] {
        #expect(
          try answer(kernel, .getAttributes, node: node, .words([0, 0, 0, 0])).errno == ENOENT)
        #expect(try open(kernel, node).errno == ENOENT)
        #expect(try lookUp(kernel, "a", in: node).errno == ENOTDIR)
        #expect(try attribute(kernel, "user.s3.key", node: node, size: 99).errno == ENODATA)
        #expect(try readDirectory(kernel, node, offset: 0, size: 4096).errno == ENOTDIR)
      }
    }
  }

  @Test("A name leads to its node, and both are remembered for a year")
  func names() throws {
    try withKernel { (kernel, _) throws in
      for (name, parent, node, mode, size, links) in [
        ("manifest.json", Self.root, Self.manifest, S_IFREG | 0o444, 2, 1),
        ("data", Self.root, Self.data, S_IFDIR | 0o555, 0, 2),
        ("a", Self.data, Self.firstChunk, S_IFREG | 0o444, 10_000, 1),
        ("notFound", Self.data, Self.firstChunk + 2, S_IFREG | 0o444, 0, 1),
      ] as [(String, UInt64, UInt64, UInt32, UInt64, UInt32)] {
        let reply = try lookUp(kernel, name, in: parent)
        #expect(reply.errno == 0 && reply.body.bytes.count == 128, "\(name)")
        #expect(
          [0, 8, 16, 24].map { reply.body.long(at: $0) }
            == [node, 0, Self.yearInSeconds, Self.yearInSeconds])
        check(reply.body.dropFirst(40), node: node, mode: mode, size: size, links: links)
      }
    }
  }

  @Test(
    "A name that is not there is remembered not to be",
    arguments: [
      "missing", ".", "..", "A", "a ", "manifest.checksum", "data", "",
      String(repeating: "n", count: 255),
    ])
  func missingName(name: String) throws {
    try withKernel { (kernel, _) throws in
      let reply = try lookUp(kernel, name, in: Self.data)
      #expect(reply.errno == 0)
      #expect(reply.body.long(at: 0) == 0, "the node")
      #expect(reply.body.long(at: 16) == Self.yearInSeconds)
    }
  }

  @Test("A name that is not UTF-8 is none, however it begins")
  func foreignName() throws {
    try withKernel { (kernel, _) throws in
      for bytes: [UInt8] in [[0x61, 0xff, 0], [0xc3, 0], [0xed, 0xa0, 0x80, 0]] {
        let reply = try answer(kernel, .lookUp, node: Self.data, Fields(bytes: bytes))
        #expect(reply.errno == 0 && reply.body.long(at: 0) == 0)
      }
    }
  }

  @Test(
    "A name of more than 255 bytes is too long, whatever its characters",
    arguments: [String(repeating: "n", count: 256), String(repeating: "字", count: 86)])
  func longName(name: String) throws {
    try withKernel { (kernel, _) throws in
      #expect(try lookUp(kernel, name, in: Self.data).errno == ENAMETOOLONG)
      #expect(try lookUp(kernel, name, in: Self.root).errno == ENAMETOOLONG)
      #expect(try lookUp(kernel, String(name.dropLast()), in: Self.data).errno == 0)
    }
  }

  @Test("There is nothing below a file")
  func belowFile() throws {
    try withKernel { (kernel, _) throws in
      for file in [Self.manifest, Self.firstChunk] {
        #expect(try lookUp(kernel, "a", in: file).errno == ENOTDIR)
        #expect(try readDirectory(kernel, file, offset: 0, size: 4096).errno == ENOTDIR)
      }
    }
  }

  // MARK: Opening and reading

  @Test("What cannot be opened fails with the errno of its reason", arguments: errors)
  func errnos(name: String, error: FileSystemError, errno: Int32) throws {
    #expect(error.errno == errno)
    try withKernel { (kernel, _) throws in
      let node = try lookUp(kernel, name, in: Self.data).body.long(at: 0)
      let reply = try open(kernel, node)
      #expect(reply.errno == errno && reply.body.bytes.isEmpty)
    }
  }

  @Test(
    "Who opens to write is told that nothing can be written",
    arguments: [O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_TRUNC, O_ACCMODE])
  func writing(flags: Int32) throws {
    try withKernel { (kernel, _) throws in
      for node in [Self.manifest, Self.firstChunk, Self.root] {
        #expect(try open(kernel, node, flags: flags).errno == EROFS)
      }
    }
  }

  @Test("Directories are not opened as files")
  func directories() throws {
    try withKernel { (kernel, _) throws in
      #expect(try open(kernel, Self.root).errno == EISDIR)
      #expect(try open(kernel, Self.data).errno == EISDIR)
    }
  }

  @Test("An open file keeps the kernel's pages until it has become another, and is not flushed")
  func openFlags() throws {
    let (keepCache, noFlush): (UInt32, UInt32) = (1 << 1, 1 << 5)
    try withKernel { (kernel, folder) throws in
      for node in [Self.manifest, Self.firstChunk, Self.firstChunk] {
        let reply = try open(kernel, node)
        #expect(reply.errno == 0 && reply.body.bytes.count == 16)
        #expect(reply.body.word(at: 8) == keepCache | noFlush)
        try release(kernel, node, handle: reply.body.long(at: 0))
      }
      let path = folder.path + "/data/a"
      try #require(rename(path, path + "-before") == 0)
      try ChunkFolder([("a", Self.bytes)]).move("a", to: path)
      let reply = try open(kernel, Self.firstChunk)
      #expect(reply.body.word(at: 8) == noFlush)
      try release(kernel, Self.firstChunk, handle: reply.body.long(at: 0))
    }
  }

  @Test(
    "A read is what lies in the file of what was asked for",
    arguments: [
      (0, 4096), (0, 10_000), (0, 10_001), (9_999, 1), (9_999, 4096), (10_000, 4096),
      (10_001, 4096), (1 << 62, 4096), (4096, 0), (0, 1 << 20), (1, 8 << 20),
    ] as [(UInt64, UInt32)])
  func reading(offset: UInt64, size: UInt32) throws {
    try withKernel { (kernel, _) throws in
      let handle = try open(kernel, Self.firstChunk).body.long(at: 0)
      let reply = try read(kernel, Self.firstChunk, handle: handle, offset: offset, size: size)
      #expect(reply.errno == 0)
      let first = min(Int(offset), Self.bytes.count)
      #expect(reply.body.bytes == Array(Self.bytes[first...].prefix(Int(size))))
      try release(kernel, Self.firstChunk, handle: handle)
    }
  }

  @Test("The manifest and an empty chunk are read to their ends")
  func smallFiles() throws {
    try withKernel { (kernel, _) throws in
      for (node, bytes) in [(Self.manifest, Array("{}".utf8)), (Self.firstChunk + 1, [])]
        as [(UInt64, [UInt8])]
      {
        let handle = try open(kernel, node).body.long(at: 0)
        let reply = try read(kernel, node, handle: handle, offset: 0, size: 4096)
        #expect(reply == KernelSide.Reply(errno: 0, body: Fields(bytes: bytes)))
        try release(kernel, node, handle: handle)
      }
    }
  }

  @Test("A read fails when the file has been cut off, and so does one without an open file")
  func failedRead() throws {
    try withKernel { (kernel, folder) throws in
      let handle = try open(kernel, Self.firstChunk).body.long(at: 0)
      try #require(truncate(folder.path + "/data/a", 100) == 0)
      #expect(
        try read(kernel, Self.firstChunk, handle: handle, offset: 50, size: 100).errno == EIO)
      #expect(try read(kernel, Self.firstChunk, handle: handle, offset: 0, size: 100).errno == 0)
      try release(kernel, Self.firstChunk, handle: handle)
      #expect(try read(kernel, Self.firstChunk, handle: 0, offset: 0, size: 100).errno == EIO)
      try release(kernel, Self.firstChunk, handle: 0)
    }
  }

  @Test("A file in passthrough is answered with its backing id, registered once for all its opens")
  func passthrough() throws {
    let device = CountingDevice()
    try withKernel(backing: device) { (kernel, _) throws in
      var handles: [UInt64] = []
      for _ in 0..<3 {
        let reply = try open(kernel, Self.firstChunk)
        #expect(reply.body.word(at: 8) == 1 << 5 | 1 << 7, "FOPEN_NOFLUSH, FOPEN_PASSTHROUGH")
        #expect(reply.body.word(at: 12) == 1, "the backing id")
        handles.append(reply.body.long(at: 0))
      }
      #expect(Set(handles).count == 3)
      #expect(device.counts == CountingDevice.Counts(opened: 1, closed: 0))
      for handle in handles { try release(kernel, Self.firstChunk, handle: handle) }
      #expect(device.counts == CountingDevice.Counts(opened: 1, closed: 1))
    }
  }

  @Test("An open whose opener has gone is undone, because no release will come")
  func openerGone() throws {
    let device = CountingDevice()
    let files = OpenDescriptors()
    try withKernel(backing: device) { (kernel, folder) throws in
      for isPassthrough in [true, false] {
        device.isOn.withLock { $0 = isPassthrough }
        kernel.refuseReplies(with: ENOENT)
        #expect(kernel.send(.open, node: Self.firstChunk, .words([0, 0])).isEmpty)
        kernel.refuseReplies(with: nil)
        #expect(device.counts == CountingDevice.Counts(opened: 1, closed: 1))
        #expect(files.paths(in: folder.path).isEmpty, "the chunk's file is closed")
      }
    }
  }

  // MARK: Directories

  private func readDirectory(
    _ kernel: KernelSide, _ node: UInt64, offset: UInt64, size: UInt32
  ) throws -> KernelSide.Reply {
    try answer(
      kernel, .readDirectory, node: node, readBody(offset: offset, size: size))
  }

  private func readBody(offset: UInt64, size: UInt32) -> Fields {
    var body = Fields(0)
    body.append(offset)
    for word in [size, 0, 0, 0, 0, 0] { body.append(word) }
    return body
  }

  private struct Entry: Equatable {
    let name: String
    let node: UInt64
    let next: UInt64
    /// Of readdirplus: what the kernel is to count a look-up for; 0 for none.
    let lookedUp: UInt64?
    /// In the reply.
    let sizeInBytes: Int
  }

  private func entries(_ body: Fields, withAttributes: Bool) -> [Entry] {
    var entries: [Entry] = []
    var rest = body
    let before = withAttributes ? 128 : 0
    while rest.bytes.count >= before + 24 {
      let record = rest.dropFirst(before)
      let length = Int(record.word(at: 16))
      let size = (before + 24 + length + 7) / 8 * 8
      entries.append(
        Entry(
          name: String(decoding: record.dropFirst(24).bytes.prefix(length), as: UTF8.self),
          node: record.long(at: 0), next: record.long(at: 8),
          lookedUp: withAttributes ? rest.long(at: 0) : nil, sizeInBytes: size))
      rest = rest.dropFirst(size)
    }
    #expect(rest.bytes.isEmpty, "a part of an entry")
    return entries
  }

  @Test(
    "A directory is listed whole and in order, whatever part of it fits a reply",
    arguments: [false, true])
  func listing(withAttributes: Bool) throws {
    // Names of every alignment, and the longest.
    let names = [
      "a", "bc", "def", "ghij", "klmno", "pqrstuvw", "字", String(repeating: "l", count: 255),
    ]
    let folder = try ChunkFolder(names.map { ($0, []) })
    let kernel = try KernelSide(folder.fileSystem)
    defer { kernel.end() }
    _ = kernel.initialise()
    let opcode: KernelSide.Opcode = withAttributes ? .readDirectoryPlus : .readDirectory
    func reply(_ offset: UInt64, _ size: Int) throws -> Fields {
      let body = readBody(offset: offset, size: UInt32(size))
      return try answer(kernel, opcode, node: Self.data, body).body
    }

    let whole = try entries(reply(0, 1 << 16), withAttributes: withAttributes)
    #expect(whole.map(\.name) == [".", ".."] + names)
    #expect(whole.map(\.next) == Array(1...UInt64(names.count) + 2))
    #expect(
      whole.map(\.node) == [Self.data, Self.root] + (0..<names.count).map { 16 + UInt64($0) })
    if withAttributes {
      #expect(whole.map(\.lookedUp) == [0, 0] + (0..<names.count).map { 16 + UInt64($0) })
    }

    let sizes = whole.map(\.sizeInBytes)
    for size in try #require(sizes.max())...sizes.reduce(0, +) + 1 {
      var listed: [Entry] = []
      while true {
        let body = try reply(listed.last?.next ?? 0, size)
        try #require(body.bytes.count <= size)
        let part = entries(body, withAttributes: withAttributes)
        listed += part
        if part.isEmpty { break }
        if listed.count < whole.count {
          let next = whole[listed.count].sizeInBytes
          try #require(
            body.bytes.count + next > size, "the next entry would have fitted in \(size)")
        }
      }
      try #require(listed == whole, "in replies of \(size) bytes")
    }
    #expect(try reply(0, sizes[0]).bytes.count == sizes[0], "an entry that just fits")
    #expect(try reply(0, sizes[0] - 1).bytes.isEmpty, "an entry that just does not")
    #expect(try reply(0, 0).bytes.isEmpty)
  }

  @Test("An offset beyond the last entry, or before the first, is no error")
  func oddOffsets() throws {
    try withKernel { (kernel, _) throws in
      for offset: UInt64 in [17, 18, 1 << 62] {
        let reply = try readDirectory(kernel, Self.data, offset: offset, size: 4096)
        #expect(reply.errno == 0 && reply.body.bytes.isEmpty)
      }
      let all = try readDirectory(kernel, Self.root, offset: 0, size: 4096)
      #expect(try readDirectory(kernel, Self.root, offset: .max, size: 4096) == all)
      #expect(
        entries(all.body, withAttributes: false).map(\.name)
          == [".", "..", "manifest.json", "data"])
    }
  }

  // MARK: Statistics and extended attributes

  @Test("The file system has no blocks and no inodes, as one whose use is no percentage")
  func statistics() throws {
    try withKernel { (kernel, _) throws in
      let reply = try answer(kernel, .statistics)
      #expect(reply.errno == 0 && reply.body.bytes.count == 80)
      #expect(stride(from: 0, to: 40, by: 8).map { reply.body.long(at: $0) } == [0, 0, 0, 0, 0])
      #expect(stride(from: 40, to: 52, by: 4).map { reply.body.word(at: $0) } == [4096, 255, 4096])
    }
  }

  @Test("An attribute is given whole, or its size, or ERANGE where the buffer is too small")
  func extendedAttribute() throws {
    try withKernel { (kernel, _) throws in
      let value = Fields(bytes: Array("data/a".utf8))
      func reply(_ size: UInt32) throws -> KernelSide.Reply {
        try attribute(kernel, "user.s3.key", node: Self.firstChunk, size: size)
      }
      #expect(try reply(0).body == Fields.words([6, 0]), "a fuse_getxattr_out")
      #expect(try reply(1) == KernelSide.Reply(errno: ERANGE, body: Fields()))
      #expect(try reply(5) == KernelSide.Reply(errno: ERANGE, body: Fields()))
      #expect(try reply(6) == KernelSide.Reply(errno: 0, body: value))
      #expect(try reply(65536) == KernelSide.Reply(errno: 0, body: value))
    }
  }

  @Test("There are only the attributes that are listed")
  func otherAttributes() throws {
    try withKernel { (kernel, _) throws in
      for name in ["", "user.other", "security.capability", "user.s3.etag", "user.inventoryfs.pid"]
      {
        #expect(try attribute(kernel, name, node: Self.firstChunk, size: 0).errno == ENODATA)
      }
      #expect(try attribute(kernel, "user.s3.key", node: Self.data, size: 0).errno == ENODATA)
      let process = try attribute(kernel, "user.inventoryfs.pid", node: Self.root, size: 64)
      #expect(process.body.bytes == Array("\(getpid())".utf8))
    }
  }

  @Test("The list of attributes is given whole, or its size, or ERANGE; each of them can be had")
  func attributeList() throws {
    try withKernel { (kernel, _) throws in
      func reply(_ node: UInt64, _ size: Int) throws -> KernelSide.Reply {
        try answer(kernel, .listExtendedAttributes, node: node, .words([UInt32(size), 0]))
      }
      for node in [Self.root, Self.firstChunk] {
        let names = folderAttributeNames(kernel, node)
        let bytes: [UInt8] = names.flatMap { Array($0.utf8) + [0] }
        #expect(try reply(node, 0).body == Fields.words([UInt32(bytes.count), 0]))
        #expect(try reply(node, bytes.count - 1).errno == ERANGE)
        #expect(try reply(node, bytes.count).body.bytes == bytes)
        for name in names {
          #expect(try attribute(kernel, name, node: node, size: 4096).errno == 0, "\(name)")
        }
      }
      for node in [Self.manifest, Self.data, 99] {
        #expect(try reply(node, 4096) == KernelSide.Reply(errno: 0, body: Fields()))
        #expect(try reply(node, 0).body == Fields.words([0, 0]))
      }
    }
  }

  private func folderAttributeNames(_ kernel: KernelSide, _ node: UInt64) -> [String] {
    let names = kernel.context.fileSystem.attributeNames(of: NodeID(inode: node))
    #expect(names.count >= 2)
    return names
  }
}

/// Takes files as a kernel with passthrough does, and counts.
final class CountingDevice: BackingDevice {
  struct Counts: Equatable {
    var opened = 0
    var closed = 0
  }

  let isOn = Lock(true)
  /// Whether the kernel takes the next file.
  let takesFiles = Lock(true)
  /// Called before a file is registered.
  let willOpen = Lock<@Sendable () -> Void>({})
  private let state = Lock((counts: Counts(), live: Set<UInt32>()))

  var counts: Counts { state.withLock { $0.counts } }

  /// Whether this number was given out and not taken back.
  func isLive(_ id: UInt32) -> Bool { state.withLock { $0.live.contains(id) } }

  var isPassthroughOn: Bool { isOn.withLock { $0 } }

  func openBacking(_ file: Int32) -> UInt32? {
    #expect(fcntl(file, F_GETFD) >= 0, "an open descriptor")
    willOpen.withLock { $0 }()
    guard takesFiles.withLock({ $0 }) else { return nil }
    return state.withLock { state in
      state.counts.opened += 1
      let id = UInt32(state.counts.opened)
      state.live.insert(id)
      return id
    }
  }

  func closeBacking(_ id: UInt32) {
    let wasLive = state.withLock { state in
      state.counts.closed += 1
      return state.live.remove(id) != nil
    }
    #expect(wasLive, "\(id) was closed twice, or never opened")
  }
}

/// What this process has open.
struct OpenDescriptors {
  func paths(in folder: String) -> [String] {
    (0..<1024).compactMap { descriptor in
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = buffer.withUnsafeMutableBytes { buffer in
        buffer.baseAddress.map { readlink("/proc/self/fd/\(descriptor)", $0, buffer.count) } ?? -1
      }
      guard count > 0 else { return nil }
      let path = String(decoding: buffer[..<count], as: UTF8.self)
      return path.hasPrefix(folder) ? path : nil
    }
  }
}

extension ChunkFolder {
  /// Gives a chunk's file away.
  fileprivate func move(_ name: String, to path: String) throws {
    try #require(rename("\(self.path)/data/\(name)", path) == 0)
  }
}
