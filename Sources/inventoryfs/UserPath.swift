import FuseMount
import Glibc
import Posix
import SystemPackage

/// A path that a user names, which may lead anywhere: into a file system that does not respond, or
/// by symbolic links into the mountpoint.
struct UserPath {
  private let path: String
  /// The option or argument that it comes from, for messages.
  private let option: String

  init(_ path: String, option: String) {
    self.path = path
    self.option = option
  }

  /// - Throws: `Failure` where the path leads into a file system that does not respond, and using
  ///   it would take for ever.
  func requireAnswer() throws(Failure) {
    guard pathResponds(path) else { throw Failure("\(option) \(path): \(SilentPlace(path))") }
  }

  /// Whether the path is a folder's or leads into it, by links too. What does not exist yet is
  /// where the nearest folder above it is. The path must respond.
  func isInside(_ folder: String) -> Bool {
    var existing = FilePath(path)
    var missing = FilePath()
    // The kernel follows at most 40 links as well (path_resolution(7)).
    var linksLeft = 40
    while true {
      let shown = existing.isEmpty ? "." : existing.string
      if let real = realpath(shown, nil) {
        defer { free(real) }
        let place = FilePath(String(cString: real)).pushing(missing).lexicallyNormalized()
        return place.starts(with: FilePath(folder))
      }
      guard let last = existing.lastComponent else { return false }
      let parent = existing.removingLastComponent()
      if let target = Self.target(ofLink: shown), linksLeft > 0 {
        // A file that is created by this name is created where the link leads.
        linksLeft -= 1
        existing = parent.pushing(target)
      } else {
        missing = FilePath(root: nil, [last]).pushing(missing)
        existing = parent
      }
    }
  }

  private static func target(ofLink path: String) -> FilePath? {
    var target = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink(path, &target, target.count)
    guard count > 0 else { return nil }
    return FilePath(
      String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }
}
