import Glibc

// Extended attributes show the mount's knowledge of a chunk to people and scripts. The attributes
// of the root show that of the mount itself.

extension InventoryFileSystem {
  /// The names of a node's attributes that are listed; empty for nodes without attributes.
  ///
  /// Of a chunk these describe the object and are as true of a copy, since `cp -a` and `rsync -X`
  /// copy what is listed. Those that describe the mount (`user.inventoryfs.…`) are read by name.
  public func attributeNames(of node: NodeID) -> [String] {
    guard let (_, chunk) = try? chunk(of: node) else {
      guard node == .root else { return [] }
      var names = [Attribute.pid, Attribute.source]
      if case .store = content { names += Gauge.allCases.map(\.rawValue) }
      return names
    }
    var names = [Attribute.key]
    if hasBucket { names.append(Attribute.bucket) }
    if chunk.md5 != nil { names.append(Attribute.md5) }
    if case .store = content { names.append(Attribute.eTag) }
    return names
  }

  private var hasBucket: Bool {
    switch content {
    case .store: true
    case .folder(let chunks): chunks.bucket != nil
    }
  }

  public enum AttributeOutcome {
    case known([UInt8])
    case parked(Interruption?)
  }

  /// The value of an attribute. `parked` makes the object that gets the value later, when the store
  /// has to be asked first, or the cache is still being scanned.
  ///
  /// - Throws: `.noSuchAttribute` for a name that the node does not have.
  public func attribute(
    _ name: String, of node: NodeID, parked: () -> any ParkedAttribute
  ) throws(FileSystemError) -> AttributeOutcome {
    if case .store(let chunks) = content {
      switch name {
      case Attribute.eTag:
        guard let (index, chunk) = try? chunk(of: node) else { throw .noSuchAttribute }
        return try chunks.eTag(ofChunk: index, chunk, parked: parked)
      case Attribute.cachedBytes, Attribute.readPath, Gauge.cacheBytes.rawValue:
        let wait = chunks.coordinator.untilCacheIsKnown(parked: parked) {
          [self] () throws(FileSystemError) in Array(try attributeText(name, of: node).utf8)
        }
        if let wait { return .parked(wait) }
      default: break
      }
    }
    return .known(Array(try attributeText(name, of: node).utf8))
  }

  private func attributeText(_ name: String, of node: NodeID) throws(FileSystemError) -> String {
    if node == .root {
      switch (name, content) {
      case (Attribute.pid, _): return String(getpid())
      case (Attribute.source, _): return inventory.source
      case (_, .store(let chunks)):
        guard let gauge = Gauge(rawValue: name) else { throw .noSuchAttribute }
        return String(chunks.coordinator.value(of: gauge))
      default: throw .noSuchAttribute
      }
    }
    guard let (index, chunk) = try? chunk(of: node) else { throw .noSuchAttribute }
    switch (name, content) {
    case (Attribute.key, .store(let chunks)):
      return chunks.key(of: chunk)
    case (Attribute.key, .folder):
      return chunk.key
    case (Attribute.md5, _):
      guard let md5 = chunk.md5 else { throw .noSuchAttribute }
      return "\(md5)"
    case (Attribute.bucket, .store(let chunks)):
      return chunks.bucket
    case (Attribute.bucket, .folder(let chunks)):
      guard let bucket = chunks.bucket else { throw .noSuchAttribute }
      return bucket
    case (Attribute.readPath, _):
      return readPath(ofChunk: index, chunk).rawValue
    case (Attribute.cachedBytes, .store(let chunks)):
      return String(chunks.cachedBytes(ofChunk: index, chunk))
    case (Attribute.verified, .store(let chunks)):
      return chunks.verification(ofChunk: index, chunk).rawValue
    default:
      throw .noSuchAttribute
    }
  }

  private enum Attribute {
    static let bucket = "user.s3.bucket"
    static let key = "user.s3.key"
    static let eTag = "user.s3.etag"
    static let md5 = "user.inventory.md5"
    static let cachedBytes = "user.inventoryfs.cached_bytes"
    static let verified = "user.inventoryfs.verified"
    static let readPath = "user.inventoryfs.read_path"
    static let pid = "user.inventoryfs.pid"
    static let source = "user.inventoryfs.source"
  }
}
