/// The error that a reader gets for a failed operation. FuseMount chooses the errno for each.
public enum FileSystemError: Error, Sendable, Equatable {
  /// The name does not exist, or the chunk's object was deleted.
  case notFound
  /// The store refuses access to the chunk.
  case accessDenied
  /// The chunk's object was replaced after it was opened.
  case stale
  /// The bytes cannot be obtained; the log says why.
  case inputOutput
  /// The reader gave up waiting.
  case interrupted
  case nameTooLong
  case notADirectory
  case isADirectory
  case readOnly
  case noSuchAttribute
  case tooManyOpenFiles
  /// The chunk is larger than the cache can account for.
  case tooLarge
  case shuttingDown
}
