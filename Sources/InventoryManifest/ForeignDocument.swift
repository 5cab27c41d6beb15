// Recognizes documents that were given instead of a manifest. Users do mix these up: several AWS
// services write a "manifest.json", and a wrong URL often yields a chunk or an error page.

import PrintableText

/// Bytes that are not a JSON object.
enum ForeignBytes {
  /// The problem with bytes that do not start like a JSON object; nil if they do.
  static func problem(with bytes: [UInt8]) -> ManifestError.Problem? {
    for (magic, name) in magics where bytes.starts(with: magic) {
      return .notJSON(found: "is \(name)")
    }
    let content = bytes.dropFirst(bytes.starts(with: byteOrderMark) ? byteOrderMark.count : 0)
      .drop { whiteSpace.contains($0) }
    guard let first = content.first else { return .notJSON(found: "is empty") }
    switch first {
    case UInt8(ascii: "{"): return nil
    case UInt8(ascii: "["): return .notAnObject(found: "a JSON array")
    case UInt8(ascii: "<"):
      return .notJSON(found: "starts with '\(start(of: content))', as XML or an error page does")
    default: return .notJSON(found: "starts with '\(start(of: content))'")
    }
  }

  /// The probable damage to bytes that start like a JSON object and did not decode.
  static func likelyDamage(to bytes: [UInt8]) -> String {
    let length = bytes.lastIndex { !whiteSpace.contains($0) }.map { $0 + 1 } ?? 0
    let content = bytes.prefix(length)
    guard content.last != UInt8(ascii: "}") else { return "it is damaged inside" }
    let end = String(decoding: content.suffix(24), as: UTF8.self)
    return "it ends with '\(printable(end, limit: 24))', as if cut off"
  }

  private static let byteOrderMark: [UInt8] = [0xef, 0xbb, 0xbf]
  private static let whiteSpace = Set(" \t\r\n".utf8)

  private static let magics: [(bytes: [UInt8], name: String)] = [
    ([0x1f, 0x8b], "gzip data, as a CSV chunk is"),
    (Array("PAR1".utf8), "a Parquet file, as a chunk is"),
    (Array("ORC".utf8), "an ORC file, as a chunk is"),
    ([0x28, 0xb5, 0x2f, 0xfd], "zstd data"),
    (Array("PK".utf8), "a ZIP file"),
  ]

  private static func start(of bytes: ArraySlice<UInt8>) -> String {
    printable(String(decoding: bytes.prefix(160), as: UTF8.self), limit: 40)
  }
}

/// A JSON object without `files`.
enum ForeignDocument {
  /// Each kind is recognised by fields that its documentation always shows.
  private static let kinds: [(fields: Set<String>, name: String)] = [
    (["Format", "Results"], "an S3 Batch Operations completion report"),
    (["ReportCreationDate"], "an S3 Batch Operations completion report"),
    (["Spec", "Location"], "an S3 Batch Operations job manifest"),
    (["format-version"], "the metadata of an Iceberg table, as S3 Metadata keeps"),
    (["table-uuid"], "the metadata of an Iceberg table, as S3 Metadata keeps"),
    (["entries"], "a Redshift manifest"),
    (["fileLocations"], "a QuickSight manifest"),
    (["InventoryConfiguration"], "an inventory's configuration"),
    (["InventoryConfigurationList"], "a list of inventory configurations"),
  ]

  /// - Parameter fields: the names of the object's fields.
  static func problem(withFields fields: Set<String>) -> ManifestError.Problem {
    if let kind = kinds.first(where: { $0.fields.isSubset(of: fields) }) {
      return .anotherKind(found: kind.name)
    }
    let names = fields.sorted().prefix(8).map { "\"\(printable($0, limit: 40))\"" }
    let having =
      names.isEmpty ? "an empty JSON object" : "a JSON object with \(names.joined(separator: ", "))"
    return .field(
      name: "files", found: "is \(having)\(fields.count > 8 ? ", …" : ""), and lacks",
      expected: "an array of objects")
  }
}
