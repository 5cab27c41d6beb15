import Glibc
public import InventoryManifest
public import ObjectStore
import Posix

/// A manifest as the cache keeps it, so that a mount whose chunks are cached works while the store
/// is away.
///
/// The file has a line that names its format, the MD5 of the rest in hexadecimal, and the rest: its
/// fields in the order of the properties below, each as its length in decimal, a colon, and its
/// bytes. A torn or altered file does not have that MD5 and counts as none.
public struct KeptManifest: Sendable, Equatable {
  /// The store and the manifest's place in it: what a mount must ask for to get this manifest.
  public var identity: String
  /// The ETag of the manifest's object; empty if the store gave none.
  public var eTag: String
  /// When the manifest was fetched.
  public var fetchedAtSecondsSinceEpoch: Int64
  /// When the manifest's object was last modified; nil if the store did not say.
  public var modifiedAtSecondsSinceEpoch: Int64?
  /// The bucket in which the chunks were found.
  public var bucket: String
  /// How their keys differed from the manifest's.
  public var keyPrefix: KeyPrefix
  /// The bytes of manifest.checksum; nil where there was none.
  public var checksum: [UInt8]?
  /// The bytes of manifest.json.
  public var manifest: [UInt8]

  /// Keeps the manifest of an inventory that has just been fetched.
  ///
  /// - Parameter store: the store's name (`ChunkStore.identity`).
  public init?(_ inventory: Inventory, at location: S3Location, store: String) {
    guard case .bucket(let bucket) = inventory.place else { return nil }
    identity = Self.identity(location, store: store)
    eTag = inventory.manifestETag ?? ""
    fetchedAtSecondsSinceEpoch = Int64(time(nil))
    modifiedAtSecondsSinceEpoch = inventory.manifestModifiedAtSecondsSinceEpoch
    self.bucket = bucket
    keyPrefix = inventory.keyPrefix
    checksum = inventory.checksum
    manifest = inventory.manifest
  }

  private static func identity(_ location: S3Location, store: String) -> String {
    "\(store)\n\(location.bucket)\n\(location.key)"
  }

  // MARK: The file

  /// The file's name in the cache's folder.
  static let fileName = "manifest"
  private static let newFileName = "manifest.new"
  private static let format = Array("inventoryfs-manifest-1\n".utf8)
  private static let digestLength = 33
  /// Room for the fields besides the manifest.
  private static let mostOtherBytes = 1 << 20

  /// The path of the file in a cache's folder.
  public static func path(in folder: String) -> String { "\(folder)/\(fileName)" }

  /// The file's bytes before those of the manifest, which end it.
  private var head: [UInt8] {
    var fields: [UInt8] = []
    func add(_ bytes: some Collection<UInt8>) {
      fields += Array("\(bytes.count):".utf8)
      fields += bytes
    }
    add(identity.utf8)
    add(eTag.utf8)
    add("\(fetchedAtSecondsSinceEpoch)".utf8)
    add((modifiedAtSecondsSinceEpoch.map { "\($0)" } ?? "").utf8)
    add(bucket.utf8)
    add(keyPrefix.old.utf8)
    add(keyPrefix.new.utf8)
    // An empty checksum never gets here: it would not be one.
    add(checksum ?? [])
    fields += Array("\(manifest.count):".utf8)
    var hasher = MD5Hasher()
    fields.withUnsafeBytes { hasher.update($0) }
    manifest.withUnsafeBytes { hasher.update($0) }
    return Self.format + Array("\(hasher.finish())\n".utf8) + fields
  }

  /// Reads a file's bytes; nil for one that is damaged, or of another format.
  init?(decoding bytes: [UInt8]) {
    guard bytes.starts(with: Self.format),
      bytes.count >= Self.format.count + Self.digestLength
    else { return nil }
    let fields = bytes[(Self.format.count + Self.digestLength)...]
    let digest = bytes[Self.format.count...].prefix(Self.digestLength)
    guard digest.elementsEqual("\(MD5Digest(of: Array(fields)))\n".utf8) else { return nil }
    var rest = fields
    func next() -> ArraySlice<UInt8>? {
      let digits = rest.prefix { $0 != UInt8(ascii: ":") }
      guard digits.count < 20, let count = Int(String(decoding: digits, as: UTF8.self)),
        count >= 0, rest.count >= digits.count + 1 + count
      else { return nil }
      let field = rest.dropFirst(digits.count + 1).prefix(count)
      rest = rest[field.endIndex...]
      return field
    }
    func text() -> String? { next().flatMap { String(validating: $0, as: UTF8.self) } }
    guard let identity = text(), let eTag = text(), let fetched = text().flatMap({ Int64($0) }),
      let modified = text(), let bucket = text(), let old = text(), let new = text(),
      let checksum = next(), let manifest = next(), rest.isEmpty
    else { return nil }
    self.identity = identity
    self.eTag = eTag
    fetchedAtSecondsSinceEpoch = fetched
    modifiedAtSecondsSinceEpoch = Int64(modified)
    self.bucket = bucket
    keyPrefix = KeyPrefix(old: old, new: new)
    self.checksum = checksum.isEmpty ? nil : Array(checksum)
    self.manifest = Array(manifest)
  }

  /// Reads the manifest that a cache keeps.
  ///
  /// - Returns: nil if the cache keeps none, a damaged one, or that of another place.
  public static func read(
    in folder: String, of location: S3Location, store: String
  ) -> KeptManifest? {
    let limit = InventoryManifest.maximumSizeInBytes + mostOtherBytes
    guard let bytes = try? WholeFile.read(path(in: folder), limitInBytes: limit),
      let kept = KeptManifest(decoding: bytes), kept.identity == identity(location, store: store)
    else { return nil }
    return kept
  }

  /// Puts the manifest in the place of the one that the cache keeps.
  ///
  /// - Returns: the errno of the failure; nil if it is kept.
  public func write(in folder: String) -> Int32? {
    let new = "\(folder)/\(Self.newFileName)"
    // A crash may have left one.
    unlink(new)
    let file = open(new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard file >= 0 else { return errno }
    let code = Self.write(head, to: file) ?? Self.write(manifest, to: file)
    close(file)
    guard code == nil, rename(new, Self.path(in: folder)) == 0 else {
      let failure = code ?? errno
      unlink(new)
      return failure
    }
    return nil
  }

  /// Writes all bytes, or returns the errno of the failure.
  private static func write(_ bytes: [UInt8], to file: Int32) -> Int32? {
    bytes.withUnsafeBytes { buffer in
      var rest = buffer[...]
      while !rest.isEmpty {
        // The rebased buffer points into `bytes`, which lives until this closure returns.
        let part = UnsafeRawBufferPointer(rebasing: rest)
        let count = Glibc.write(file, part.baseAddress, part.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return count < 0 ? errno : ENOSPC }
        rest = rest.dropFirst(count)
      }
      return nil
    }
  }

  /// Removes the manifest that a cache keeps.
  public static func remove(in folder: String) { unlink(path(in: folder)) }

  /// The space that the file takes, in bytes.
  public var sizeOnDiskInBytes: Int {
    manifest.count + (checksum?.count ?? 0) + (8 << 10)
  }

  /// How long ago the manifest was fetched, for messages.
  public var age: String {
    let seconds = max(0, Int64(time(nil)) - fetchedAtSecondsSinceEpoch)
    return switch seconds {
    case ..<120: "\(seconds) s"
    case ..<7200: "\(seconds / 60) minutes"
    case ..<172_800: "\(seconds / 3600) hours"
    default: "\(seconds / 86_400) days"
    }
  }
}
