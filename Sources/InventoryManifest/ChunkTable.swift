/// The chunk files of a manifest, in its order, in 32 bytes each beside the manifest's text.
///
/// Keys are not copied: the table keeps the manifest's bytes and knows where in them each key is.
/// `Chunk`s are made when they are asked for.
public struct ChunkTable: RandomAccessCollection, Sendable, Equatable, ExpressibleByArrayLiteral {
  public typealias Element = InventoryManifest.Chunk

  /// One chunk. A manifest has less than 2^28 bytes, which leaves room for flags.
  private struct Record {
    /// Where the key begins in `text`, or, with `isOutside`, in `unescaped`.
    var start: UInt32
    var length: UInt32
    /// -1 if it is not known.
    var size: Int64
    var md5: MD5Digest

    static let isOutside: UInt32 = 1 << 31
    static let hasMD5: UInt32 = 1 << 31
  }

  /// The manifest's bytes.
  private let text: [UInt8]
  /// The keys that have escapes in the manifest, and those that come from no manifest.
  private var unescaped: [UInt8] = []
  private var records: [Record] = []

  /// An empty table for the entries of this text, to which `append` adds them.
  init(text: [UInt8]) { self.text = text }

  /// Makes a table of chunks that come from no text; their keys are copied.
  public init(_ chunks: some Collection<InventoryManifest.Chunk>) {
    self.init(text: [])
    records.reserveCapacity(chunks.count)
    for chunk in chunks { append(chunk) }
  }

  public init(arrayLiteral chunks: InventoryManifest.Chunk...) { self.init(chunks) }

  /// The memory that a table takes for each chunk, in bytes, beside the keys.
  public static let bytesPerChunk = MemoryLayout<Record>.stride

  public var startIndex: Int { 0 }
  public var endIndex: Int { records.count }

  public subscript(index: Int) -> InventoryManifest.Chunk {
    InventoryManifest.Chunk(key: key(index), sizeInBytes: sizeInBytes(index), md5: md5(index))
  }

  /// The key of the chunk at `index`.
  public func key(_ index: Int) -> String {
    withKey(index) { String(decoding: $0, as: UTF8.self) }
  }

  /// The size of the chunk at `index`; nil if the manifest does not give it.
  public func sizeInBytes(_ index: Int) -> UInt64? {
    UInt64(exactly: records[index].size)
  }

  /// Sets the size of a chunk for which the manifest gives none.
  public mutating func setSize(_ index: Int, inBytes size: UInt64) {
    records[index].size = Int64(clamping: size)
  }

  /// The MD5 of the chunk at `index`; nil if the manifest has none that is usable.
  public func md5(_ index: Int) -> MD5Digest? {
    records[index].length & Record.hasMD5 == 0 ? nil : records[index].md5
  }

  /// Calls `body` with the UTF-8 bytes of the key at `index`.
  private func withKey<Result>(_ index: Int, _ body: (ArraySlice<UInt8>) -> Result) -> Result {
    let record = records[index]
    let start = Int(record.start & ~Record.isOutside)
    let end = start + Int(record.length & ~Record.hasMD5)
    return record.start & Record.isOutside == 0
      ? body(text[start..<end]) : body(unescaped[start..<end])
  }

  /// Adds a chunk whose key is the bytes of the text in `key`, which are UTF-8.
  mutating func append(key: Range<Int>, sizeInBytes: UInt64?, md5: MD5Digest?) {
    add(UInt32(key.lowerBound), UInt32(key.count), sizeInBytes, md5)
  }

  /// Adds a chunk, whose key is copied.
  mutating func append(_ chunk: InventoryManifest.Chunk) {
    let start = unescaped.count
    unescaped += chunk.key.utf8
    add(
      UInt32(start) | Record.isOutside, UInt32(unescaped.count - start), chunk.sizeInBytes,
      chunk.md5)
  }

  private mutating func add(
    _ start: UInt32, _ length: UInt32, _ sizeInBytes: UInt64?, _ md5: MD5Digest?
  ) {
    records.append(
      Record(
        start: start, length: md5 == nil ? length : length | Record.hasMD5,
        size: sizeInBytes.map { Int64(clamping: $0) } ?? -1, md5: md5 ?? .zero))
  }

  /// Gives the room back that appending left unused.
  mutating func shrink() {
    guard records.capacity > records.count + records.count / 16 else { return }
    let filled = records
    records = []
    records.reserveCapacity(filled.count)
    records += filled
  }

  public static func == (left: ChunkTable, right: ChunkTable) -> Bool {
    left.elementsEqual(right)
  }
}
