import Glibc
import InventoryManifest
public import ObjectStore
import SystemPackage

/// What the user asked to mount.
public enum InventorySource: Sendable, Equatable {
  case store(S3Location)
  /// An absolute or relative path of a manifest on disk.
  case file(String)

  /// Reads `s3://bucket/key`, `file://…` or a path.
  public init(_ text: String) throws(InventoryLoadError) {
    if text.lowercased().hasPrefix("s3://") {
      do {
        self = .store(try S3Location(text))
      } catch {
        throw .source(text, "\(error)")
      }
    } else if text.lowercased().hasPrefix("file://") {
      let rest = text.dropFirst("file://".count)
      let path = rest.hasPrefix("localhost/") ? rest.dropFirst("localhost".count) : rest
      guard path.hasPrefix("/"), let decoded = String(path).removingPercentEncoding else {
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

/// Why an inventory cannot be mounted.
public enum InventoryLoadError: Error, Sendable, CustomStringConvertible {
  /// The source is not of a form that can be read.
  case source(String, String)
  case store(StoreError)
  case manifest(ManifestError)
  case file(path: String, String)
  case noBucket(String)
  case noRoot(manifest: String, key: String)

  public var description: String {
    switch self {
    case .source(let text, let expected): "'\(text)' cannot be mounted: \(expected)"
    case .store(let error): "\(error)"
    case .manifest(let error): "\(error)"
    case .file(let path, let problem): "\(path): \(problem)"
    case .noBucket(let source):
      "\(source): the manifest names no destinationBucket; say where the chunks are with --bucket"
    case .noRoot(let manifest, let key):
      "\(manifest): no folder above it holds the first chunk, \(key); "
        + "keep the manifest in the folder tree that it was downloaded in"
    }
  }
}
