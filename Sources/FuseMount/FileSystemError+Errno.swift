import Glibc
import InventoryFileSystem

extension FileSystemError {
  /// The one place that chooses what a reader's system call fails with.
  var errno: Int32 {
    switch self {
    case .notFound: ENOENT
    case .accessDenied: EACCES
    case .stale: ESTALE
    case .inputOutput: EIO
    case .interrupted: EINTR
    case .nameTooLong: ENAMETOOLONG
    case .notADirectory: ENOTDIR
    case .isADirectory: EISDIR
    case .readOnly: EROFS
    case .noSuchAttribute: ENODATA
    case .tooManyOpenFiles: EMFILE
    case .tooLarge: EFBIG
    case .shuttingDown: ESHUTDOWN
    }
  }
}
