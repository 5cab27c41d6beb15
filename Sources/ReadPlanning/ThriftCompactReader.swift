/// Walks bytes in Thrift's compact protocol, as far as a Parquet footer needs it: fields, integers,
/// lists, and passing over everything else.
///
/// The bytes come from an object that anybody may have written. Every access is checked against
/// `end`, every element consumes at least one byte, and nesting is limited, so a walk takes time
/// linear in the bytes given and allocates nothing.
///
/// Source: the Thrift repository, doc/specs/thrift-compact-protocol.md.
struct ThriftCompactReader {
  /// The bytes are not what the protocol, or the structure asked for, allows.
  struct Damaged: Error {}

  enum WireType: UInt8 {
    case boolTrue = 1
    case boolFalse, byte, i16, i32, i64, double, binary, list, set, map, structure, uuid
  }

  struct Field {
    let id: Int
    let type: WireType
  }

  /// Parquet's own structures nest to 7; what is deeper is not one.
  private static let deepestNesting = 24

  private let bytes: [UInt8]
  private let end: Int
  private var position: Int

  /// - Parameter range: the part of `bytes` to read; what lies outside the array is cut off.
  init(_ bytes: [UInt8], in range: Range<Int>) {
    let range = range.clamped(to: bytes.indices)
    self.bytes = bytes
    position = range.lowerBound
    end = range.upperBound
  }

  /// The next field of a structure, nil at its end.
  ///
  /// - Parameter previousId: the id of the field before it in the same structure, 0 for the first.
  mutating func nextField(after previousId: Int) throws(Damaged) -> Field? {
    let header = try readByte()
    if header == 0 { return nil }
    guard let type = WireType(rawValue: header & 0x0F) else { throw Damaged() }
    let delta = Int(header >> 4)
    let id = delta == 0 ? try readInteger() : previousId + delta
    guard id >= 0, id <= Int(Int16.max) else { throw Damaged() }
    return Field(id: id, type: type)
  }

  mutating func readInteger(of field: Field) throws(Damaged) -> Int {
    guard field.type == .i64 || field.type == .i32 else { throw Damaged() }
    return try readInteger()
  }

  /// How many structures follow.
  mutating func readStructureCount(of field: Field) throws(Damaged) -> Int {
    guard field.type == .list else { throw Damaged() }
    let (count, type) = try readListHeader()
    guard count == 0 || type == .structure else { throw Damaged() }
    return count
  }

  /// Passes over the value of a field.
  mutating func skip(_ field: Field) throws(Damaged) {
    // A boolean field has its value in the header.
    if field.type == .boolTrue || field.type == .boolFalse { return }
    try skipValue(field.type, depth: 0)
  }

  private mutating func skipValue(_ type: WireType, depth: Int) throws(Damaged) {
    guard depth < Self.deepestNesting else { throw Damaged() }
    switch type {
    case .boolTrue, .boolFalse, .byte: try advance(1)
    case .i16, .i32, .i64: _ = try readVarint()
    case .double: try advance(8)
    case .uuid: try advance(16)
    case .binary: try advance(try readCount())
    case .list, .set:
      let (count, element) = try readListHeader()
      for _ in 0..<count { try skipValue(element, depth: depth + 1) }
    case .map:
      let count = try readCount()
      guard count > 0 else { return }
      let types = try readByte()
      guard let key = WireType(rawValue: types >> 4), let value = WireType(rawValue: types & 0x0F)
      else { throw Damaged() }
      for _ in 0..<count {
        try skipValue(key, depth: depth + 1)
        try skipValue(value, depth: depth + 1)
      }
    case .structure:
      var id = 0
      while let field = try nextField(after: id) {
        id = field.id
        if field.type != .boolTrue && field.type != .boolFalse {
          try skipValue(field.type, depth: depth + 1)
        }
      }
    }
  }

  private mutating func readListHeader() throws(Damaged) -> (count: Int, element: WireType) {
    let header = try readByte()
    let short = Int(header >> 4)
    let count = short == 15 ? try readCount() : short
    // An empty list may leave its element type 0.
    if count == 0 { return (0, .byte) }
    guard let element = WireType(rawValue: header & 0x0F), count <= end - position else {
      throw Damaged()
    }
    return (count, element)
  }

  /// A length or count, never more than the bytes that are left.
  private mutating func readCount() throws(Damaged) -> Int {
    let count = try readVarint()
    guard count <= UInt64(end - position) else { throw Damaged() }
    return Int(count)
  }

  private mutating func readInteger() throws(Damaged) -> Int {
    let zigzag = try readVarint()
    return Int(bitPattern: UInt(zigzag >> 1)) ^ -Int(zigzag & 1)
  }

  private mutating func readVarint() throws(Damaged) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      let byte = try readByte()
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw Damaged()
  }

  private mutating func readByte() throws(Damaged) -> UInt8 {
    guard position < end else { throw Damaged() }
    defer { position += 1 }
    return bytes[position]
  }

  private mutating func advance(_ count: Int) throws(Damaged) {
    guard count <= end - position else { throw Damaged() }
    position += count
  }
}
