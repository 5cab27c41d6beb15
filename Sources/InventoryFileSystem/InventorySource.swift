import Glibc
public import InventoryManifest
public import ObjectStore
import PrintableText
import SystemPackage

/// The source that the user named for the mount.
public enum InventorySource: Sendable, Equatable {
  case store(S3Location)
  /// An absolute or relative path of a manifest on disk.
  case file(String)

  /// Reads `s3://bucket/key`, `file://…` or a path.
  public init(_ text: String) throws(InventoryLoadError) {
    if text.lowercased().hasPrefix("s3://") {
      do {
        self = .store(try S3Location(parsing: text))
      } catch {
        throw .source(text, "\(error)")
      }
      if text.hasSuffix("/") {
        throw .source(
          text, "it names a folder; name the manifest.json in one of the folders of its dates")
      }
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
      guard rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

/// Why an inventory cannot be mounted.
public enum InventoryLoadError: Error, Sendable, CustomStringConvertible {
  /// The source does not have a known form; the second text says what was expected.
  case source(String, String)
  case store(StoreError)
  case manifest(ManifestError)
  case file(path: String, String)
  case noBucket(String)
  case noRoot(manifest: String, key: String)

  public var description: String {
    switch self {
    case .source(let text, let expected):
      "'\(printable(text, limit: 1024))' cannot be mounted: \(expected)"
    case .store(let error): "\(error)"
    case .manifest(let error): "\(error)"
    case .file(let path, let problem): "\(printable(path, limit: 4096)): \(problem)"
    case .noBucket(let source):
      "\(source): the manifest names no destinationBucket; set --bucket to the bucket that holds the chunks"
    case .noRoot(let manifest, let key):
      "\(printable(manifest, limit: 4096)): no folder above it, except perhaps /, holds the first chunk, \(printable(key, limit: 1024)), without a link that leads out of that folder; "
        + "keep the manifest in the folder tree that it was downloaded in, or, for chunks in S3, mount the manifest's s3:// URL"
    }
  }
}
