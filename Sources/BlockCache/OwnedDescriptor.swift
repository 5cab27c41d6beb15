import Glibc
import SystemPackage

/// Owns a file descriptor and closes it.
struct OwnedDescriptor: ~Copyable {
  let raw: Int32

  init(raw: Int32) { self.raw = raw }

  init(
    opening name: String, in directory: Int32, flags: Int32, path: String
  ) throws(BlockCacheError) {
    let descriptor = openat(directory, name, flags | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw .system(operation: "open", path: path, Errno(rawValue: errno))
    }
    raw = descriptor
  }

  deinit { close(raw) }
}
