public import InventoryManifest
public import ObjectStore
import PrintableText

/// The source that the user named for the mount.
public enum InventorySource: Sendable, Equatable {
  case store(S3Location)
  /// An absolute or relative path of a manifest on disk.
  case file(String)

  /// Reads `s3://bucket/key`, the ARN of an object, `file://…` or a path.
  ///
  /// The folder of a date stands for the manifest in it. Whether a path is a folder is not known
  /// here: `InventoryLoader.load` looks.
  public init(_ text: String) throws(InventoryLoadError) {
    guard !Self.lastName(of: text).hasSuffix("manifest.checksum") else {
      throw .source(text, "it is the checksum of a manifest; name the manifest.json beside it")
    }
    if text.lowercased().hasPrefix("s3://") {
      self = .store(try Self.location(text, shown: text))
    } else if text.hasPrefix("arn:") {
      // arn:partition:s3:::bucket/key
      let parts = text.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
      guard parts.count == 6, parts[2] == "s3", parts[3].isEmpty else {
        throw .source(
          text, "expected s3://bucket/key, or the ARN of an object: arn:aws:s3:::bucket/key")
      }
      self = .store(try Self.location("s3://\(parts[5])", shown: text))
    } else if text.lowercased().hasPrefix("file://") {
      let rest = text.dropFirst("file://".count)
      let path = rest.hasPrefix("localhost/") ? rest.dropFirst("localhost".count) : rest
      guard path.hasPrefix("/"), let decoded = Self.percentDecoded(path) else {
        throw .source(text, "expected file:///absolute/path/manifest.json")
      }
      self = .file(decoded)
    } else if text.contains("://") {
      throw .source(text, "expected s3://bucket/key, a path, or file:///path of a manifest.json")
    } else {
      self = .file(text)
    }
  }

  private static func location(
    _ url: String, shown text: String
  ) throws(InventoryLoadError) -> S3Location {
    let location: S3Location
    do {
      location = try S3Location(parsing: url)
    } catch {
      throw .source(text, "\(error)")
    }
    if InventoryManifest.CreationTime(dateFolder: lastName(of: url)) != nil {
      let key = location.key.hasSuffix("/") ? location.key : location.key + "/"
      return S3Location(bucket: location.bucket, key: key + "manifest.json")
    }
    if url.hasSuffix("/") {
      throw .source(
        text, "it names a folder; name the manifest.json in one of the folders of its dates")
    }
    return location
  }

  private static func lastName(of text: String) -> Substring {
    text.split(separator: "/").last ?? ""
  }
}

extension InventorySource {
  /// Decodes percent signs; nil for one without two digits, and for bytes that are not UTF-8.
  private static func percentDecoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      // A path ends at a zero byte, and digits have no sign.
      let digits = String(decoding: rest.prefix(2), as: UTF8.self)
      guard digits.utf8.count == 2, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }),
        let value = UInt8(digits, radix: 16), value != 0
      else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

/// Why an inventory cannot be mounted.
public enum InventoryLoadError: Error, Sendable, CustomStringConvertible {
  /// The source, which is the first text, has no known form; the second text says what was
  /// expected.
  case source(String, String)
  /// The store did not give the manifest or its checksum.
  case store(StoreError)
  /// The manifest or its checksum was read, but cannot be used.
  case manifest(ManifestError)
  /// A file on disk cannot be read; the second text says why and what was expected.
  case file(path: String, String)
  /// The manifest at this source does not name the bucket of its chunks; `found` is its
  /// destinationBucket if it has one that is not the name of a bucket.
  case noBucket(String, found: String?)
  /// The store refuses the first chunk, and all others that were tried. `alsoTried` is the manifest
  /// in whose bucket they were looked for too; nil if they were not.
  case chunksUnreadable(StoreError, alsoTried: S3Location?)
  /// No chunk of a manifest on disk was found; `key` is that of the first chunk, `firstTried` the
  /// first path at which it was looked for.
  case noRoot(manifest: String, key: String, firstTried: String)
  /// No chunk of a manifest on disk was found, and a symbolic link at or above `path` leads to
  /// where it may be.
  case linkOutside(manifest: String, path: String)

  /// Whether the store did not answer in time, or answered that it fails, so that the manifest may
  /// still be there. A store that refuses is not away.
  public var isStoreAway: Bool {
    if case .store(let error) = self { return error.isRetryable }
    return false
  }

  /// What happened and what to do next, on one line.
  public var description: String {
    switch self {
    case .source(let text, let expected):
      "'\(printable(text, limit: 1024))' cannot be mounted: \(expected)"
    case .store(let error): "\(error)"
    case .manifest(let error): "\(error)"
    case .file(let path, let problem): "\(printable(path, limit: 4096)): \(problem)"
    case .noBucket(let source, nil):
      "\(source): the manifest names no destinationBucket; set --bucket to the bucket that holds the chunks"
    case .noBucket(let source, let found?):
      "\(source): the manifest's destinationBucket is '\(printable(found, limit: 200))', but \(BucketName.expectation) was expected; set --bucket to the bucket that holds the chunks"
    case .chunksUnreadable(let error, let alsoTried):
      "\(error) The chunks of this manifest cannot be read there"
        + (alsoTried.map {
          ", and the first one was not found in the manifest's bucket, \($0.bucket), either"
        }
          ?? "")
        + "; if the inventory was copied, set --bucket to the bucket that holds the chunks, and --key-prefix OLD=NEW if their keys begin differently there"
    case .noRoot(let manifest, let key, let firstTried):
      "\(printable(manifest, limit: 4096)): neither its folder nor a folder above it, except perhaps /, holds the first chunk, \(printable(key, limit: 1024)), or a file whose path is the end of that key; "
        + "\(printable(firstTried, limit: 2048)) was tried first; "
        + "download the chunks to a folder named data beside the manifest's folder, or, for chunks in S3, mount the manifest's s3:// URL"
    case .linkOutside(let manifest, let path):
      "\(printable(manifest, limit: 4096)): \(printable(path, limit: 2048)) was not opened, because a symbolic link on the way is absolute or leads out of the folder that the chunks are looked for in; "
        + "use a relative link that stays within the folder tree of the manifest, or a bind mount, or copy the manifest to the chunks"
    }
  }
}
