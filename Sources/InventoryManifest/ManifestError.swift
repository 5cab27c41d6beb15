import PrintableText

/// Why a manifest cannot be used. The description is for the person who named the manifest: it
/// gives the location, what was found, what was expected and what to do next.
public struct ManifestError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The manifest's URL or path, as given.
  public let location: String
  public let problem: Problem

  public init(location: String, problem: Problem) {
    self.location = location
    self.problem = problem
  }

  public enum Problem: Sendable, Equatable {
    /// The manifest has more bytes than `InventoryManifest.maximumSizeInBytes`.
    case tooLarge(sizeInBytes: Int)
    /// `files` has more entries than `InventoryManifest.mostChunks`.
    case tooManyChunks
    /// The document is not JSON, judged by its first bytes.
    case notJSON(found: String)
    /// The document starts as a JSON object, but is cut off, damaged, or nested too deeply.
    case invalidJSON(reason: String)
    /// The document is JSON, but not an object.
    case notAnObject(found: String)
    /// The document is a JSON object of another known kind.
    case anotherKind(found: String)
    /// A required field is absent or of the wrong type.
    case field(name: String, found: String, expected: String)
    /// An entry of `files` cannot be used; `index` counts from 0.
    case fileEntry(index: Int, key: String?, found: String, expected: String)
    /// The checksum file is not an MD5 in hexadecimal.
    case malformedChecksum(found: String)
    /// The manifest's bytes are not the ones that the checksum was made of.
    case checksumMismatch(expected: MD5Digest, found: MD5Digest)
  }

  public var description: String {
    let place = printable(location, limit: 1024)
    switch problem {
    case .tooLarge(let sizeInBytes):
      return """
        \(place): has \(sizeInBytes) bytes, but a manifest has at most \
        \(InventoryManifest.maximumSizeInBytes). \(Self.nameTheManifest)
        """
    case .tooManyChunks:
      return """
        \(place): has more than \(InventoryManifest.mostChunks) entries in "files", but at most that \
        many chunks can be mounted. \(Self.nameTheManifest)
        """
    case .notJSON(let found):
      return "\(place): \(found), but a manifest is a JSON object. \(Self.nameTheManifest)"
    case .invalidJSON(let reason):
      return """
        \(place): is not valid JSON: \(reason); a whole JSON object was expected. Download it again; if \
        this does not help, it was not written completely: use another date's manifest.
        """
    case .notAnObject(let found):
      return "\(place): holds \(found), but a manifest is a JSON object. \(Self.nameTheManifest)"
    case .anotherKind(let found):
      return """
        \(place): is \(found), but an S3 Inventory manifest, with "files" and "fileFormat", was \
        expected. \(Self.nameTheManifest)
        """
    case .field(let name, let found, let expected):
      return """
        \(place): \(found) "\(name)", but \(expected) was expected. \(Self.nameTheManifest)
        """
    case .fileEntry(let index, let key, let found, let expected):
      let named = key.map { " (key '\(printable($0, limit: 200))')" } ?? ""
      return """
        \(place): files[\(index)]\(named) \(found), but \(expected) was expected. The manifest is \
        damaged or was not written by S3 Inventory: download it again, or use another date's manifest.
        """
    case .malformedChecksum(let found):
      return """
        \(place): holds \(found), but the MD5 of manifest.json, 32 hexadecimal digits, was expected. \
        Download it again; S3 writes it last, so the inventory may be incomplete.
        """
    case .checksumMismatch(let expected, let found):
      return """
        \(place): the MD5 of its bytes is \(found), but manifest.checksum says \(expected). Download \
        both again; if they still differ, the inventory is incomplete or was altered: use another \
        date's manifest.
        """
    }
  }

  private static let nameTheManifest =
    "Name the manifest.json of an inventory: …/<bucket>/<config-id>/YYYY-MM-DDTHH-MMZ/manifest.json."
}
