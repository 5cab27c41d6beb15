import Glibc
import NIOConcurrencyHelpers
import NIOCore

/// The buckets: folders on disk, and objects in memory, which take precedence.
///
/// A key is looked up in a folder component by component, so a key with an empty component, `.` or
/// `..` is one that no folder can hold: it does not exist, and nothing outside the root is touched.
/// A symbolic link is followed to a file, because the folder's owner put it there.
///
/// The functions block on the disk: they belong on the thread pool.
final class BucketStore: Sendable {
  private enum Overlay {
    case object(StoredObject)
    case removed
  }

  /// The objects by their key's bytes: Swift compares strings by canonical equivalence, S3 does
  /// not.
  private typealias OverlayBucket = [[UInt8]: Overlay]

  private let rootFolder: String?
  private let bucketFolders: [String: String]
  private let eTags = ETagCache()
  private let overlay = NIOLockedValueBox<[String: OverlayBucket]>([:])

  init(rootFolder: String?, bucketFolders: [String: String]) {
    self.rootFolder = rootFolder
    self.bucketFolders = bucketFolders
  }

  // MARK: Reading

  func bucketNames() -> [String] {
    var names = Set(bucketFolders.keys)
    names.formUnion(overlay.withLockedValue { Array($0.keys) })
    if let rootFolder {
      names.formUnion(FolderEntry.entries(of: rootFolder).filter { $0.kind == .folder }.map(\.name))
    }
    return names.sorted()
  }

  func hasBucket(_ bucket: String) -> Bool {
    folder(ofBucket: bucket) != nil || overlay.withLockedValue { $0[bucket] != nil }
  }

  func object(bucket: String, key: String) throws(S3Error) -> StoredObject {
    switch overlay.withLockedValue({ $0[bucket]?[Array(key.utf8)] }) {
    case .object(let object): return object
    case .removed: throw .noSuchKey(key)
    case nil: break
    }
    guard let folder = folder(ofBucket: bucket) else {
      throw hasBucket(bucket) ? .noSuchKey(key) : .noSuchBucket(bucket)
    }
    guard let path = Self.path(ofKey: key, in: folder) else { throw .noSuchKey(key) }
    do throws(OpenFile.Failure) {
      let file = try OpenFile(path: path)
      return StoredObject(
        content: ObjectContent(file), eTag: eTags.eTag(of: file),
        lastModified: Timestamp(secondsSince1970: file.status.modified[0]))
    } catch {
      switch error {
      case .notThere: throw .noSuchKey(key)
      case .notPermitted: throw .accessDenied()
      case .other(let number): throw .internalError("open: errno \(number)")
      }
    }
  }

  /// The keys that start with `prefix`, in the order of their bytes.
  func keys(bucket: String, prefix: String) throws(S3Error) -> [String] {
    let over = overlay.withLockedValue { $0[bucket] }
    let folder = folder(ofBucket: bucket)
    guard folder != nil || over != nil else { throw .noSuchBucket(bucket) }
    var keys: [[UInt8]] = []
    let prefixBytes = Array(prefix.utf8)
    if let folder {
      // Only the deepest folder that the prefix names in full needs a walk.
      let below = prefixBytes.lastIndex(of: UInt8(ascii: "/")).map { prefixBytes[..<$0] } ?? []
      let parent = String(decoding: below, as: UTF8.self)
      if parent.isEmpty {
        if prefixBytes.first != UInt8(ascii: "/") { Self.walk(folder, below: "", into: &keys) }
      } else if let path = Self.path(ofKey: parent, in: folder) {
        Self.walk(path, below: parent + "/", into: &keys)
      }
    }
    if let over {
      keys.removeAll { over[$0] != nil }
      for case (let key, .object) in over { keys.append(key) }
    }
    return keys.filter { $0.starts(with: prefixBytes) }
      .sorted { $0.lexicographicallyPrecedes($1) }
      .map { String(decoding: $0, as: UTF8.self) }
  }

  // MARK: The objects in memory

  func put(bucket: String, key: String, bytes: [UInt8], eTag: String?, lastModified: Timestamp) {
    let object = StoredObject(
      content: ObjectContent(ByteBuffer(bytes: bytes)),
      eTag: eTag.map { $0.hasPrefix("W/") ? $0 : "\"\($0)\"" } ?? ETagCache.eTag(of: bytes),
      lastModified: lastModified)
    overlay.withLockedValue { $0[bucket, default: [:]][Array(key.utf8)] = .object(object) }
  }

  func remove(bucket: String, key: String) {
    overlay.withLockedValue { $0[bucket, default: [:]][Array(key.utf8)] = .removed }
  }

  func revert(bucket: String, key: String) {
    overlay.withLockedValue { $0[bucket]?[Array(key.utf8)] = nil }
  }

  // MARK: Folders

  private func folder(ofBucket bucket: String) -> String? {
    let path = bucketFolders[bucket] ?? rootFolder.flatMap { Self.path(ofKey: bucket, in: $0) }
    guard let path else { return nil }
    var facts = stat()
    guard stat(path, &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR else { return nil }
    return path
  }

  /// The path of a key's file; nil if no file in the folder can have this key.
  private static func path(ofKey key: String, in folder: String) -> String? {
    guard !key.utf8.contains(0) else { return nil }
    for component in key.utf8.split(
      separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    where component.isEmpty || component.elementsEqual(".".utf8)
      || component.elementsEqual("..".utf8)
    {
      return nil
    }
    return folder + "/" + key
  }

  /// Collects the keys below a folder. It does not enter linked folders, which might lead back to a
  /// folder above.
  private static func walk(_ path: String, below parent: String, into keys: inout [[UInt8]]) {
    for entry in FolderEntry.entries(of: path) {
      let key = parent + entry.name
      switch entry.kind {
      case .file: keys.append(Array(key.utf8))
      case .folder where !entry.isLink:
        walk(path + "/" + entry.name, below: key + "/", into: &keys)
      case .folder, .other: break
      }
    }
  }
}

/// An entry of a folder on disk, its link resolved. Names that are not UTF-8 are left out, since
/// no key can be them.
private struct FolderEntry {
  enum Kind { case file, folder, other }

  let name: String
  let kind: Kind
  let isLink: Bool

  static func entries(of path: String) -> [FolderEntry] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var entries: [FolderEntry] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard let name, name != ".", name != ".." else { continue }
      var facts = stat()
      guard stat(path + "/" + name, &facts) == 0 else { continue }
      let kind: Kind =
        switch facts.st_mode & S_IFMT {
        case S_IFREG: .file
        case S_IFDIR: .folder
        default: .other
        }
      entries.append(
        FolderEntry(name: name, kind: kind, isLink: entry.pointee.d_type == UInt8(DT_LNK)))
    }
    return entries
  }
}
