import CLinux
import Glibc
import InventoryManifest
import Logging
import PrintableText
import SystemPackage

/// Finds the files of a manifest's chunks on the local disk: below which folder they lie, and how
/// much of their keys their paths there have kept.
///
/// A copy of the whole bucket keeps the keys. One of the inventory's folder, or of the chunks
/// alone, loses the beginning of the keys. So each end of a key is tried below the manifest's
/// folder and each folder above it, and the place wins that has most of a few chunks; of equal
/// places, the one with the longer end, and then the one nearer to the manifest.
struct LocalPlaces {
  struct Place: Equatable {
    /// An absolute path. It is never "/", under which a key could name any file of this machine.
    var root: String
    var keyPrefix: KeyPrefix
  }

  /// How many chunks are looked for in each place.
  static let sampleCount = 16

  let manifestPath: String
  let logger: Logger

  /// - Parameter sample: the keys of some chunks, the first one first.
  /// - Throws: `.noRoot` or `.linkOutside` if no place has any of them.
  func find(_ sample: [String]) throws(InventoryLoadError) -> Place {
    var folders: [String] = []
    var folder = FilePath(manifestPath)
    folder.removeLastComponent()
    while !folder.components.isEmpty {
      folders.append(folder.string)
      folder.removeLastComponent()
    }
    guard let first = sample.first else {
      return Place(root: folders.first ?? "/nonexistent", keyPrefix: .unchanged)
    }
    var best: (place: Place, count: Int)?
    var linkOutside: String?
    // Only some keys give prefixes to drop: nearly always all chunks are in one folder.
    var prefixes: [String] = []
    for key in [first, sample[sample.count / 2]] + sample.suffix(1) {
      for prefix in KeyPrefix.droppable(from: key) where !prefixes.contains(prefix) {
        prefixes.append(prefix)
      }
    }
    prefixes.sort { $0.utf8.count < $1.utf8.count }
    for prefix in prefixes {
      for root in folders {
        let place = Place(root: root, keyPrefix: KeyPrefix(old: prefix, new: ""))
        var count = 0
        for key in sample where prefix.isEmpty || key.utf8.starts(with: prefix.utf8) {
          switch LocalChunks.presence(of: place.keyPrefix.applied(to: key), under: root) {
          case .present: count += 1
          case .outside: linkOutside = linkOutside ?? "\(root)/\(place.keyPrefix.applied(to: key))"
          case .absent: break
          }
        }
        if count > best?.count ?? 0 { best = (place, count) }
        if count == sample.count { return place }
      }
    }
    if let best { return best.place }
    if let linkOutside { throw .linkOutside(manifest: manifestPath, path: linkOutside) }
    throw .noRoot(
      manifest: manifestPath, key: first, firstTried: "\(folders.first ?? "")/\(first)")
  }

  /// The longest time that is spent on counting missing files: a network file system may need a
  /// millisecond for each of a million.
  private static let longestCount = Duration.seconds(2)

  /// Logs how many chunks have no file.
  func warnOfMissing(_ keys: some Collection<String>, at place: Place) {
    let end = ContinuousClock.now + Self.longestCount
    var folder: (path: Substring, descriptor: Int32) = ("", -1)
    var isFolderKnown = false
    defer { if folder.descriptor >= 0 { close(folder.descriptor) } }
    var missing = 0
    var looked = 0
    var firstMissing: String?
    for key in keys {
      if looked % 256 == 255, ContinuousClock.now > end { break }
      looked += 1
      let path = place.keyPrefix.applied(to: key)
      let slash = path.lastIndex(of: "/")
      let parent = slash.map { path[..<$0] } ?? ""
      if !isFolderKnown || parent != folder.path {
        if folder.descriptor >= 0 { close(folder.descriptor) }
        folder = (parent, LocalChunks.folder(String(parent), under: place.root))
        isFolderKnown = true
      }
      let name = String(path[(slash.map(path.index(after:)) ?? path.startIndex)...])
      var info = stat()
      // A link counts as present here; opening it tells whether it leads to a file.
      if folder.descriptor < 0
        || fstatat(folder.descriptor, name, &info, AT_SYMLINK_NOFOLLOW) != 0
      {
        missing += 1
        firstMissing = firstMissing ?? path
      }
    }
    guard let firstMissing else { return }
    let among = looked < keys.count ? "the first \(looked) of \(keys.count)" : "\(keys.count)"
    logger.warning(
      "\(printable(manifestPath, limit: 4096)): \(missing) of \(among) chunks have no file under \(printable(place.root, limit: 1024)), the first of them \(printable(firstMissing, limit: 1024)); they are listed, and opening them fails with ENOENT"
    )
  }
}
