// Decodes bytes to an `InventoryManifest`.
//
// The bytes come from outside and may be anything. Size is checked first, then the first bytes, so
// that the error names a gzip file or an error page; only then does JSONDecoder see them, which
// stops at 512 levels of nesting. Where a field may be odd (a size that is a string), the
// usual type is tried first: a failed attempt builds a DecodingError, too slow to be the normal
// case for 100,000 entries.

import FoundationEssentials
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
      self = try bytes.withUnsafeBytes { buffer in
        // The data does not outlive the closure, so it may borrow the array instead of copying it.
        let borrowed = UnsafeMutableRawPointer(mutating: buffer.baseAddress).map {
          Data(bytesNoCopy: $0, count: buffer.count, deallocator: .none)
        }
        return try JSONDecoder().decode(Document.self, from: borrowed ?? Data()).manifest
      }
    } catch let unusable as Unusable {
      throw ManifestError(location: location, problem: unusable.problem)
    } catch {
      // The error of FoundationEssentials has neither place nor reason.
      throw ManifestError(
        location: location, problem: .invalidJSON(reason: ForeignBytes.likelyDamage(to: bytes)))
    }
  }
}

/// The error that the types below throw through JSONDecoder, which passes it on unchanged.
private struct Unusable: Error {
  let problem: ManifestError.Problem
}

/// The manifest's top level.
private struct Document: Decodable {
  let manifest: InventoryManifest

  private enum Field: String, CodingKey {
    case destinationBucket, creationTimestamp, fileFormat, fileSchema, files
  }

  init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: Field.self)
    guard fields.contains(.files) else {
      throw Unusable(problem: try ForeignDocument.problem(with: decoder))
    }
    let destination = fields.text(.destinationBucket)
    manifest = InventoryManifest(
      destinationBucket: destination.flatMap(BucketName.parse),
      unusableDestination: destination.flatMap { BucketName.parse($0) == nil ? $0 : nil },
      creationTime: Self.creationTime(in: fields),
      fileFormat: try Self.fileFormat(in: fields),
      fileSchema: fields.text(.fileSchema),
      chunks: try Self.chunks(in: fields))
  }

  private static func creationTime(
    in fields: KeyedDecodingContainer<Field>
  ) -> InventoryManifest.CreationTime? {
    let timestamp =
      fields.text(.creationTimestamp).flatMap { Int64($0) }
      ?? (try? fields.decode(Int64.self, forKey: .creationTimestamp))
    return timestamp.flatMap(InventoryManifest.CreationTime.init(timestamp:))
      ?? fields.text(.creationTimestamp).flatMap(InventoryManifest.CreationTime.init(iso8601:))
  }

  private static func fileFormat(
    in fields: KeyedDecodingContainer<Field>
  ) throws -> InventoryManifest.FileFormat {
    let known = InventoryManifest.FileFormat.allCases.map(\.rawValue).joined(separator: ", ")
    func unusable(_ found: String) -> Unusable {
      Unusable(problem: .field(name: "fileFormat", found: found, expected: "one of \(known)"))
    }
    guard fields.contains(.fileFormat) else { throw unusable("lacks") }
    guard let name = fields.text(.fileFormat) else { throw unusable("has no text as") }
    guard let format = InventoryManifest.FileFormat(named: name) else {
      throw unusable("has '\(printable(name, limit: 40))' as")
    }
    return format
  }

  private static func chunks(
    in fields: KeyedDecodingContainer<Field>
  ) throws -> [InventoryManifest.Chunk] {
    var entries: any UnkeyedDecodingContainer
    do {
      entries = try fields.nestedUnkeyedContainer(forKey: .files)
    } catch {
      throw Unusable(
        problem: .field(name: "files", found: "has no array as", expected: "an array of objects"))
    }
    var chunks: [InventoryManifest.Chunk] = []
    chunks.reserveCapacity(entries.count ?? 0)
    while !entries.isAtEnd {
      do {
        chunks.append(try entries.decode(FileEntry.self).chunk)
      } catch let damage as FileEntry.Damage {
        throw Unusable(
          problem: .fileEntry(
            index: chunks.count, key: damage.key, found: damage.found, expected: damage.expected))
      } catch {
        throw Unusable(
          problem: .fileEntry(
            index: chunks.count, key: nil, found: "is not an object",
            expected: "an object with a \"key\""))
      }
    }
    return chunks
  }
}

/// One element of `files`.
private struct FileEntry: Decodable {
  let chunk: InventoryManifest.Chunk

  /// What is wrong with the entry; the caller knows its index.
  struct Damage: Error {
    let key: String?
    let found: String
    let expected: String
  }

  private enum Field: String, CodingKey {
    case key, size
    case md5 = "MD5checksum"
  }

  init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: Field.self)
    guard let key = fields.text(.key), !key.isEmpty else {
      let found =
        fields.contains(.key) ? "has an empty \"key\" or one that is not text" : "lacks \"key\""
      throw Damage(key: nil, found: found, expected: "the object's key")
    }
    chunk = InventoryManifest.Chunk(
      key: key,
      sizeInBytes: try Self.size(in: fields, key: key),
      md5: fields.text(.md5).flatMap { MD5Digest(hex: $0) })
  }

  private static func size(in fields: KeyedDecodingContainer<Field>, key: String) throws -> UInt64?
  {
    func damage(_ found: String) -> Damage {
      Damage(
        key: key, found: "has \(found) as \"size\"",
        expected:
          "a whole number of bytes from 0 to \(InventoryManifest.Chunk.maximumSizeInBytes)")
    }
    let size: UInt64
    do {
      guard let number = try fields.decodeIfPresent(UInt64.self, forKey: .size) else { return nil }
      size = number
    } catch {  // A number that does not fit throws another, private type than DecodingError.
      if let text = fields.text(.size) {
        guard let number = UInt64(text) else { throw damage("'\(printable(text, limit: 40))'") }
        size = number
      } else if let number = try? fields.decode(Double.self, forKey: .size) {
        throw damage("\(number)")
      } else {
        throw damage("something other than a number")
      }
    }
    guard size <= InventoryManifest.Chunk.maximumSizeInBytes else { throw damage("\(size)") }
    return size
  }
}

extension KeyedDecodingContainer {
  /// The field's text; nil if it is absent, null or of another type.
  fileprivate func text(_ key: Key) -> String? {
    (try? decodeIfPresent(String.self, forKey: key)) ?? nil
  }
}
