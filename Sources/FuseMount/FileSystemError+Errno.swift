import Glibc
import InventoryFileSystem

extension FileSystemError {
  /// The error that a reader's system call fails with; the only place where it is chosen.
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
