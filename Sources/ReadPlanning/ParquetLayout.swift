/// Where the columns of a Parquet chunk lie.
///
/// A Parquet reader jumps: it reads the footer, then of each row group the columns that its query
/// names. To the plain read-ahead these jumps look like chance. The footer tells where each column
/// begins and ends, so that a read inside a column can be answered with all of it
/// (`ColumnReadAhead`). Only these places are decoded, 16 bytes for each column of each row group;
/// names, statistics and types are passed over.
///
///     PAR1 | column, column, … (row group 0) | column, … (row group 1) | … | footer
///     | its length, 4 bytes | PAR1
///
/// The footer comes from an object that anybody may have written: whatever is odd makes the chunk
/// "not Parquet", which costs speed and nothing else.
///
/// Source: the parquet-format repository, README.md and src/main/thrift/parquet.thrift.
public struct ParquetLayout: Sendable, Equatable {
  public enum Decoding: Sendable, Equatable {
    case layout(ParquetLayout)
    /// The footer is longer than the tail given: come back with this many of the file's last bytes.
    case needsMoreBytes(tailSizeInBytes: Int)
    /// The file is not Parquet, or its footer is encrypted, damaged, or over the limits.
    case notParquet
  }

  /// The largest footer that is decoded. That of a chunk with 1,000 row groups of 20 columns is
  /// about 3 MB.
  public static let largestFooterInBytes = 4 << 20
  /// The most columns × row groups: a layout takes 512 KiB at most (640 KiB if its columns are out
  /// of order).
  public static let mostColumnChunks = 32 << 10
  /// The length of the trailer, which holds the footer's length and the magic number.
  public static let trailerInBytes = 8

  private static let magic = Array("PAR1".utf8)

  /// The number of columns in each row group; a column's index is its place there, the same in all
  /// row groups.
  public private(set) var columnCount = 0
  public private(set) var rowGroupCount = 0
  /// The offset of the footer, one past the last byte that a column can have.
  public let footerOffset: Int

  /// Row group by row group. Empty for a column that has no readable bytes in this file (encrypted,
  /// or elsewhere).
  private var chunkBytes: [Range<Int>] = []
  /// The indices of `chunkBytes` by offset; nil where they are in order already, as every known
  /// writer leaves them.
  private var order: [UInt32]?

  /// Decodes the footer.
  ///
  /// - Parameters:
  ///   - tail: the last bytes of the file, at least 8. 64 KiB hold most footers.
  ///   - fileSizeInBytes: the whole file's length.
  public static func decode(tail: [UInt8], fileSizeInBytes: Int) -> Decoding {
    guard fileSizeInBytes >= magic.count + trailerInBytes, tail.count <= fileSizeInBytes else {
      return .notParquet
    }
    guard tail.count >= trailerInBytes else {
      return .needsMoreBytes(tailSizeInBytes: trailerInBytes)
    }
    guard tail.suffix(magic.count).elementsEqual(magic) else { return .notParquet }
    let lengthBytes = tail.suffix(trailerInBytes).prefix(4)
    let length = lengthBytes.reversed().reduce(0) { $0 << 8 | Int($1) }
    guard length > 0, length <= largestFooterInBytes,
      length <= fileSizeInBytes - trailerInBytes - magic.count
    else { return .notParquet }
    guard tail.count >= length + trailerInBytes else {
      return .needsMoreBytes(tailSizeInBytes: length + trailerInBytes)
    }
    let end = tail.count - trailerInBytes
    var reader = ThriftCompactReader(tail, in: end - length..<end)
    do throws(ThriftCompactReader.Damaged) {
      return .layout(
        try ParquetLayout(
          reading: &reader, footerOffset: fileSizeInBytes - trailerInBytes - length))
    } catch {
      return .notParquet
    }
  }

  /// What it takes of memory.
  var footprintInBytes: Int {
    chunkBytes.count * MemoryLayout<Range<Int>>.stride
      + (order?.count ?? 0) * MemoryLayout<UInt32>.stride
  }

  /// The bytes of a column in a row group, from its dictionary page on where it has one.
  public func bytes(ofColumn column: Int, inRowGroup rowGroup: Int) -> Range<Int> {
    guard 0..<columnCount ~= column, 0..<rowGroupCount ~= rowGroup else { return 0..<0 }
    return chunkBytes[rowGroup * columnCount + column]
  }

  /// The column that a byte belongs to; nil for the footer, page indexes and other bytes between
  /// columns.
  public func columnChunk(at byteOffset: Int) -> (rowGroup: Int, column: Int)? {
    chunk(holding: byteOffset).map { ($0 / columnCount, $0 % columnCount) }
  }

  // MARK: Column chunks by number, and by their place in the file

  /// A column chunk's number is rowGroup × columnCount + column.
  var chunkCount: Int { chunkBytes.count }

  func bytes(ofChunk chunk: Int) -> Range<Int> { chunkBytes[chunk] }

  func chunk(holding byteOffset: Int) -> Int? {
    let position = firstPosition(endingAfter: byteOffset)
    guard position < positionCount else { return nil }
    let chunk = chunk(at: position)
    return chunkBytes[chunk].contains(byteOffset) ? chunk : nil
  }

  /// The numbers of the column chunks that have bytes in `range`, by offset.
  func chunks(overlapping range: Range<Int>) -> [Int] {
    var found: [Int] = []
    var position = firstPosition(endingAfter: range.lowerBound)
    while position < positionCount {
      let chunk = chunk(at: position)
      guard chunkBytes[chunk].lowerBound < range.upperBound else { break }
      if chunkBytes[chunk].overlaps(range) { found.append(chunk) }
      position += 1
    }
    return found
  }

  private var positionCount: Int { order?.count ?? chunkBytes.count }

  private func chunk(at position: Int) -> Int { order.map { Int($0[position]) } ?? position }

  private func firstPosition(endingAfter byteOffset: Int) -> Int {
    var low = 0
    var high = positionCount
    while low < high {
      let middle = low + (high - low) / 2
      if chunkBytes[chunk(at: middle)].upperBound > byteOffset {
        high = middle
      } else {
        low = middle + 1
      }
    }
    return low
  }

  // MARK: Reading the footer

  private init(
    reading reader: inout ThriftCompactReader, footerOffset: Int
  ) throws(ThriftCompactReader.Damaged) {
    self.footerOffset = footerOffset
    var hasRowGroups = false
    var id = 0
    while let field = try reader.nextField(after: id) {
      id = field.id
      if id == FileMetaDataField.rowGroups, !hasRowGroups {
        hasRowGroups = true
        for _ in 0..<(try reader.readStructureCount(of: field)) { try readRowGroup(&reader) }
      } else {
        try reader.skip(field)
      }
    }
    guard hasRowGroups else { throw ThriftCompactReader.Damaged() }
    try sortByOffset()
  }

  private mutating func readRowGroup(
    _ reader: inout ThriftCompactReader
  ) throws(ThriftCompactReader.Damaged) {
    let start = chunkBytes.count
    var id = 0
    while let field = try reader.nextField(after: id) {
      id = field.id
      if id == RowGroupField.columns {
        let count = try reader.readStructureCount(of: field)
        guard count <= Self.mostColumnChunks - chunkBytes.count else {
          throw ThriftCompactReader.Damaged()
        }
        for _ in 0..<count { chunkBytes.append(try readColumnChunk(&reader)) }
      } else {
        try reader.skip(field)
      }
    }
    let count = chunkBytes.count - start
    // Every row group has the schema's columns, in its order.
    guard count > 0, rowGroupCount == 0 || count == columnCount else {
      throw ThriftCompactReader.Damaged()
    }
    columnCount = count
    rowGroupCount += 1
  }

  private func readColumnChunk(
    _ reader: inout ThriftCompactReader
  ) throws(ThriftCompactReader.Damaged) -> Range<Int> {
    var bytes: Range<Int>?
    var isElsewhere = false
    var id = 0
    while let field = try reader.nextField(after: id) {
      id = field.id
      if id == ColumnChunkField.metaData, field.type == .structure {
        bytes = try readColumnMetaData(&reader)
      } else {
        if id == ColumnChunkField.filePath { isElsewhere = true }
        try reader.skip(field)
      }
    }
    // An empty range right after the column before keeps the list in order.
    let previousEnd = chunkBytes.last?.upperBound ?? 0
    return isElsewhere ? previousEnd..<previousEnd : bytes ?? previousEnd..<previousEnd
  }

  private func readColumnMetaData(
    _ reader: inout ThriftCompactReader
  ) throws(ThriftCompactReader.Damaged) -> Range<Int> {
    var dataPageOffset: Int?
    var dictionaryPageOffset: Int?
    var size: Int?
    var id = 0
    while let field = try reader.nextField(after: id) {
      id = field.id
      switch id {
      case ColumnMetaDataField.totalCompressedSize: size = try reader.readInteger(of: field)
      case ColumnMetaDataField.dataPageOffset: dataPageOffset = try reader.readInteger(of: field)
      case ColumnMetaDataField.dictionaryPageOffset:
        dictionaryPageOffset = try reader.readInteger(of: field)
      default: try reader.skip(field)
      }
    }
    guard let dataPageOffset, let size, size >= 0 else { throw ThriftCompactReader.Damaged() }
    // Some writers leave 0, or the data page's own offset, where there is no dictionary.
    var start = dataPageOffset
    if let dictionaryPageOffset, dictionaryPageOffset >= Self.magic.count,
      dictionaryPageOffset < start
    {
      start = dictionaryPageOffset
    }
    guard start >= 0, start <= footerOffset, size <= footerOffset - start,
      size == 0 || start >= Self.magic.count
    else { throw ThriftCompactReader.Damaged() }
    return start..<start + size
  }

  /// Columns may lie in any order, but never over one another: then a byte belongs to one column at
  /// most.
  private mutating func sortByOffset() throws(ThriftCompactReader.Damaged) {
    let ascends = zip(chunkBytes, chunkBytes.dropFirst()).allSatisfy {
      $0.upperBound <= $1.lowerBound
    }
    if ascends { return }
    let sorted = chunkBytes.indices.filter { !chunkBytes[$0].isEmpty }
      .sorted { chunkBytes[$0].lowerBound < chunkBytes[$1].lowerBound }
    let isDisjoint = zip(sorted, sorted.dropFirst()).allSatisfy {
      chunkBytes[$0].upperBound <= chunkBytes[$1].lowerBound
    }
    guard isDisjoint else { throw ThriftCompactReader.Damaged() }
    order = sorted.map(UInt32.init)
  }

  // The field ids of parquet.thrift.
  private enum FileMetaDataField { static let rowGroups = 4 }
  private enum RowGroupField { static let columns = 1 }
  private enum ColumnChunkField {
    static let filePath = 1
    static let metaData = 3
  }
  private enum ColumnMetaDataField {
    static let totalCompressedSize = 7
    static let dataPageOffset = 9
    static let dictionaryPageOffset = 11
  }
}
