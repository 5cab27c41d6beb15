/// Writes footers by hand in Thrift's compact protocol: just enough to build valid and invalid
/// ones.
struct ThriftWriter {
  private(set) var bytes: [UInt8] = []

  static func footer(_ rowGroups: [[ThriftWriter]]) -> ThriftWriter {
    var writer = ThriftWriter()
    writer.integer(1, after: 0, type: 5)  // version
    writer.list(4, after: 1, rowGroups.map(rowGroup))
    writer.stop()
    return writer
  }

  static func rowGroup(_ columns: [ThriftWriter]) -> ThriftWriter {
    var writer = ThriftWriter()
    writer.list(1, after: 0, columns)
    writer.stop()
    return writer
  }

  /// A ColumnChunk; nil offsets and sizes leave the field out.
  static func column(
    data: Int?, size: Int?, dictionary: Int? = nil, isElsewhere: Bool = false
  ) -> ThriftWriter {
    var metaData = ThriftWriter()
    var last = 0
    for (id, value) in [(7, size), (9, data), (11, dictionary)] {
      guard let value else { continue }
      metaData.integer(value, after: last, id: id)
      last = id
    }
    metaData.stop()
    var writer = ThriftWriter()
    if isElsewhere {
      writer.bytes += [0x18, 1, 0x61]
      writer.bytes += [0x2C]
    } else {
      writer.bytes += [0x3C]
    }
    writer.bytes += metaData.bytes
    writer.stop()
    return writer
  }

  /// The file's last bytes with these as its footer.
  static func tail(_ footer: [UInt8], magic: String = "PAR1", length: Int? = nil) -> [UInt8] {
    let length = length ?? footer.count
    let lengthBytes = (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }
    return footer + lengthBytes + Array(magic.utf8)
  }

  mutating func integer(_ value: Int, after last: Int, id: Int, type: UInt8 = 6) {
    bytes.append(UInt8(id - last) << 4 | type)
    varint(UInt64(bitPattern: Int64((value << 1) ^ (value >> 63))))
  }

  private mutating func integer(_ id: Int, after last: Int, type: UInt8) {
    integer(1, after: last, id: id, type: type)
  }

  mutating func list(_ id: Int, after last: Int, _ structures: [ThriftWriter]) {
    bytes.append(UInt8(id - last) << 4 | 9)
    bytes.append(0xFC)
    varint(UInt64(structures.count))
    for structure in structures { bytes += structure.bytes }
  }

  mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  mutating func raw(_ raw: [UInt8]) { bytes += raw }

  mutating func stop() { bytes.append(0) }
}
