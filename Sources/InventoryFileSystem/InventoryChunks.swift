import InventoryManifest

/// The chunks of an inventory with their names, in the manifest's order.
///
/// A chunk takes some 40 bytes here, beside the manifest's text; `Inventory.Chunk`s are made when
/// they are asked for.
public struct InventoryChunks: RandomAccessCollection, Sendable {
  private var table: ChunkTable
  private let names: ChunkNames
  /// The names of chunks that come from no manifest; nil if the names are made of the keys.
  private let givenNames: [String]?
  private var failures: [Int32: FileSystemError] = [:]
  private var eTags: [Int32: String] = [:]

  init(_ table: ChunkTable) {
    self.table = table
    names = ChunkNames(count: table.count) { table.key($0) }
    givenNames = nil
  }

  /// Takes chunks that come from no manifest. Their names must be distinct and without slashes.
  public init(_ chunks: [Inventory.Chunk]) {
    table = ChunkTable(
      chunks.map {
        InventoryManifest.Chunk(
          key: $0.key, sizeInBytes: UInt64(clamping: $0.sizeInBytes), md5: $0.md5)
      })
    let given = chunks.map(\.name)
    names = ChunkNames(count: given.count) { given[$0] }
    givenNames = given
    for (index, chunk) in chunks.enumerated() {
      failures[Int32(index)] = chunk.failure
      eTags[Int32(index)] = chunk.eTag
    }
  }

  /// The memory that a chunk takes in this table and in the planner's, in bytes, beside the
  /// manifest's text: its record, up to 12 bytes for finding it by name, its size and its places in
  /// two orders.
  static let bytesPerChunk = ChunkTable.bytesPerChunk + 12 + 8 + 8

  public var startIndex: Int { 0 }
  public var endIndex: Int { table.count }

  public subscript(index: Int) -> Inventory.Chunk {
    let key = table.key(index)
    return Inventory.Chunk(
      key: key, name: names.name(index, key: givenNames?[index] ?? key),
      sizeInBytes: sizeInBytes(index), md5: table.md5(index), eTag: eTags[Int32(index)],
      failure: failures[Int32(index)])
  }

  /// The size of the chunk at `index`; 0 if it is not known.
  func sizeInBytes(_ index: Int) -> Int { Int(clamping: table.sizeInBytes(index) ?? 0) }

  /// The index of the chunk that has a name; nil if none has.
  func index(ofName name: String) -> Int? { names.index(ofName: name) { nameKey($0) } }

  /// Whether another chunk may have the same key.
  func mayRepeat(_ index: Int) -> Bool { givenNames != nil || names.isTagged(index) }

  /// The indices in the order of the names' bytes, as a shell in the C locale lists them.
  func orderByName() -> [Int32] {
    var common: [UInt8]?
    for index in indices {
      let name = name(index).utf8
      guard let shared = common else {
        common = Array(name)
        continue
      }
      common = Array(zip(shared, name).prefix { $0 == $1 }.map(\.0))
    }
    // Nearly all names are told apart by 8 bytes behind what all have in common.
    let start = common?.count ?? 0
    var order = indices.map { index in
      var head: UInt64 = 0
      var count = 0
      for byte in name(index).utf8.dropFirst(start).prefix(8) {
        head = head << 8 | UInt64(byte)
        count += 1
      }
      return (head: count == 8 ? head : head << UInt64(8 * (8 - count)), index: Int32(index))
    }
    order.sort { left, right in
      guard left.head == right.head else { return left.head < right.head }
      return name(Int(left.index)).utf8.lexicographicallyPrecedes(name(Int(right.index)).utf8)
    }
    return order.map(\.index)
  }

  /// Sets what the store or the disk said of a chunk whose size the manifest does not give.
  mutating func set(_ index: Int, _ size: ChunkSizes.Size) {
    if let size = size.sizeInBytes { table.setSize(index, inBytes: size) }
    failures[Int32(index)] = size.failure
    eTags[Int32(index)] = size.eTag
  }

  private func name(_ index: Int) -> String { names.name(index, key: nameKey(index)) }

  private func nameKey(_ index: Int) -> String { givenNames?[index] ?? table.key(index) }
}
