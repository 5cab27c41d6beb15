// Decodes bytes to an `InventoryManifest`.
//
// The bytes come from outside and may be anything. Size is checked first, then the first bytes, so
// that the error names a gzip file or an error page; only then are they read, once, front to back,
// by `JSONScanner`. The first damage ends the reading.

import PrintableText

extension InventoryManifest {
  /// Decodes the bytes of a `manifest.json`.
  ///
  /// - Parameter location: the URL or path that the bytes came from, for messages.
  /// - Throws: `ManifestError` if the bytes are too many, not JSON, another kind of document, or
  ///   lack what a mount needs. Unknown fields are ignored.
  public init(decoding bytes: [UInt8], from location: String) throws(ManifestError) {
    guard bytes.count <= Self.maximumSizeInBytes else {
      throw ManifestError(location: location, problem: .tooLarge(sizeInBytes: bytes.count))
    }
    if let problem = ForeignBytes.problem(with: bytes) {
      throw ManifestError(location: location, problem: problem)
    }
    do {
      let start = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
      self = try ManifestReader.read(JSONScanner(bytes, start: start))
    } catch let unusable as Unusable {
      throw ManifestError(location: location, problem: unusable.problem)
    } catch {
      throw ManifestError(
        location: location, problem: .invalidJSON(reason: ForeignBytes.likelyDamage(to: bytes)))
    }
  }
}

/// The manifest is JSON, but cannot be used.
private struct Unusable: Error {
  let problem: ManifestError.Problem
}

/// Takes the fields of a manifest as they come.
private struct ManifestReader {
  /// A field whose value may be odd.
  private enum Field {
    case absent
    case text(String)
    case number(String)
    case other

    var text: String? {
      if case .text(let text) = self { return text }
      return nil
    }
  }

  private var destinationBucket = Field.absent
  private var creationTimestamp = Field.absent
  private var fileFormat = Field.absent
  private var fileSchema = Field.absent
  private var chunks: ChunkTable?
  /// The names of all fields, for documents that are no manifest.
  private var names: Set<String> = []
  private static let mostNames = 1000

  static func read(_ scanner: JSONScanner) throws -> InventoryManifest {
    var scanner = scanner
    var reader = ManifestReader()
    try scanner.object { scanner, name in try reader.field(name, &scanner) }
    try scanner.end()
    return try reader.manifest()
  }

  private mutating func field(_ name: JSONScanner.Text, _ scanner: inout JSONScanner) throws {
    let name = try scanner.string(name)
    if names.count < Self.mostNames { names.insert(name) }
    switch name {
    case "destinationBucket": destinationBucket = try Self.field(&scanner)
    case "creationTimestamp": creationTimestamp = try Self.field(&scanner)
    case "fileFormat": fileFormat = try Self.field(&scanner)
    case "fileSchema": fileSchema = try Self.field(&scanner)
    case "files":
      guard try scanner.next() == UInt8(ascii: "[") else {
        _ = try scanner.scalar(depth: 1)
        throw Unusable(
          problem: .field(name: "files", found: "has no array as", expected: "an array of objects"))
      }
      chunks = try FileEntries.read(&scanner)
    default: _ = try scanner.scalar(depth: 1)
    }
  }

  private static func field(_ scanner: inout JSONScanner) throws -> Field {
    switch try scanner.scalar(depth: 1) {
    case .string(let text): .text(try scanner.string(text))
    case .number(let range): .number(scanner.numberText(range))
    case .null: .absent
    case .other: .other
    }
  }

  private func manifest() throws -> InventoryManifest {
    guard let chunks else {
      throw Unusable(problem: ForeignDocument.problem(withFields: names))
    }
    let destination = destinationBucket.text
    return InventoryManifest(
      destinationBucket: destination.flatMap(BucketName.parse),
      unusableDestination: destination.flatMap { BucketName.parse($0) == nil ? $0 : nil },
      creationTime: creationTime(), fileFormat: try format(), fileSchema: fileSchema.text,
      chunks: chunks)
  }

  private func creationTime() -> InventoryManifest.CreationTime? {
    switch creationTimestamp {
    case .text(let text):
      Int64(text).flatMap(InventoryManifest.CreationTime.init(timestamp:))
        ?? InventoryManifest.CreationTime(iso8601: text)
    case .number(let text):
      (Int64(text) ?? Double(text).flatMap { Int64(exactly: $0) })
        .flatMap(InventoryManifest.CreationTime.init(timestamp:))
    case .absent, .other: nil
    }
  }

  private func format() throws -> InventoryManifest.FileFormat {
    let known = InventoryManifest.FileFormat.allCases.map(\.rawValue).joined(separator: ", ")
    func unusable(_ found: String) -> Unusable {
      Unusable(problem: .field(name: "fileFormat", found: found, expected: "one of \(known)"))
    }
    guard names.contains("fileFormat") else { throw unusable("lacks") }
    guard let name = fileFormat.text else { throw unusable("has no text as") }
    guard let format = InventoryManifest.FileFormat(named: name) else {
      throw unusable("has '\(printable(name, limit: 40))' as")
    }
    return format
  }
}

/// Reads the elements of `files`.
private enum FileEntries {
  static func read(_ scanner: inout JSONScanner) throws -> ChunkTable {
    var table = ChunkTable(text: scanner.bytes)
    try scanner.array { scanner in
      guard table.count < InventoryManifest.mostChunks else {
        throw Unusable(problem: .tooManyChunks)
      }
      guard try scanner.next() == UInt8(ascii: "{") else {
        _ = try scanner.scalar(depth: 2)
        throw unusable(
          table.count, key: nil, found: "is not an object", expected: "an object with a \"key\"")
      }
      try entry(&scanner, into: &table)
    }
    table.shrink()
    return table
  }

  private static func unusable(
    _ index: Int, key: String?, found: String, expected: String
  ) -> Unusable {
    Unusable(problem: .fileEntry(index: index, key: key, found: found, expected: expected))
  }

  private static func entry(_ scanner: inout JSONScanner, into table: inout ChunkTable) throws {
    var key: JSONScanner.Scalar?
    var size = JSONScanner.Scalar.null
    var md5: MD5Digest?
    try scanner.object { scanner, name in
      let value = try scanner.scalar(depth: 3)
      if scanner.isEqual(name, "key") {
        key = value
      } else if scanner.isEqual(name, "size") {
        size = value
      } else if scanner.isEqual(name, "MD5checksum") {
        md5 =
          if case .string(let text) = value, text.range.count == 32 {
            MD5Digest(hex: try scanner.string(text))
          } else {
            nil
          }
      } else if name.isEscaped {
        // An escaped name may be one of these all the same; nobody writes them so.
        _ = try scanner.string(name)
      }
    }
    guard case .string(let text) = key, !text.range.isEmpty else {
      let found =
        key == nil ? "lacks \"key\"" : "has an empty \"key\" or one that is not text"
      throw unusable(table.count, key: nil, found: found, expected: "the object's key")
    }
    // Also where it is not kept, the key must be text.
    let keyText = try scanner.string(text)
    let sizeInBytes = try sizeInBytes(size, scanner, table.count, key: keyText)
    if text.isEscaped {
      table.append(InventoryManifest.Chunk(key: keyText, sizeInBytes: sizeInBytes, md5: md5))
    } else {
      table.append(key: text.range, sizeInBytes: sizeInBytes, md5: md5)
    }
  }

  private static func sizeInBytes(
    _ value: JSONScanner.Scalar, _ scanner: JSONScanner, _ index: Int, key: String
  ) throws -> UInt64? {
    func damage(_ found: String) -> Unusable {
      unusable(
        index, key: key, found: "has \(found) as \"size\"",
        expected:
          "a whole number of bytes from 0 to \(InventoryManifest.Chunk.maximumSizeInBytes)")
    }
    let size: UInt64
    switch value {
    case .null: return nil
    case .other: throw damage("something other than a number")
    case .string(let text):
      let text = try scanner.string(text)
      guard let number = UInt64(text) else { throw damage("'\(printable(text, limit: 40))'") }
      size = number
    case .number(let range):
      let text = scanner.numberText(range)
      let double = Double(text) ?? .infinity
      guard let number = UInt64(text) ?? UInt64(exactly: double) else {
        throw damage("\(double)")
      }
      size = number
    }
    guard size <= InventoryManifest.Chunk.maximumSizeInBytes else { throw damage("\(size)") }
    return size
  }
}
