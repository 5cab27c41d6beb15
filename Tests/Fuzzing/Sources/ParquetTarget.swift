import ReadPlanning

/// The last bytes of a chunk. Half of the inputs get a trailer that fits, which chance would hardly
/// find.
@Sendable func fuzzParquetFooter(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  var tail = Array(bytes.dropFirst())
  if first & 1 == 0 {
    let length = UInt32(tail.count)
    tail += (0..<4).map { UInt8(truncatingIfNeeded: length >> ($0 * 8)) } + Array("PAR1".utf8)
  }
  let fileSizeInBytes = tail.count + 4 << Int(first >> 3)
  switch ParquetLayout.decode(tail: tail, fileSizeInBytes: fileSizeInBytes) {
  case .notParquet: break
  case .needsMoreBytes(let count):
    check(count > tail.count && count <= fileSizeInBytes, "\(count) of \(fileSizeInBytes) bytes")
  case .layout(let layout):
    let chunkCount = layout.columnCount * layout.rowGroupCount
    check(chunkCount <= ParquetLayout.mostColumnChunks, "\(chunkCount) column chunks")
    check(0..<fileSizeInBytes ~= layout.footerOffset, "the footer at \(layout.footerOffset)")
    for rowGroup in 0..<layout.rowGroupCount {
      for column in 0..<layout.columnCount {
        let range = layout.bytes(ofColumn: column, inRowGroup: rowGroup)
        guard !range.isEmpty else { continue }
        check(
          range.lowerBound >= 0 && range.upperBound <= layout.footerOffset, "a column at \(range)")
        for place in [range.lowerBound, range.upperBound - 1] {
          guard let found = layout.columnChunk(at: place) else {
            check(false, "no column at \(place)")
            continue
          }
          let other = layout.bytes(ofColumn: found.column, inRowGroup: found.rowGroup)
          check(other.contains(place), "\(place) is not in \(other)")
        }
      }
    }
  }
}
