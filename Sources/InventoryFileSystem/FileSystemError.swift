/// What a reader is told when something cannot be done. FuseMount chooses the errno for each.
public enum FileSystemError: Error, Sendable, Equatable {
  /// No such name, or the chunk's object is gone.
  case notFound
  /// The store refuses access to the chunk.
  case accessDenied
  /// The chunk's object is not the one that was opened any more.
  case stale
  /// The bytes cannot be had; the log says why.
  case inputOutput
  /// The reader gave up waiting.
  case interrupted
  case nameTooLong
  case notADirectory
  case isADirectory
  case readOnly
  case noSuchAttribute
  case tooManyOpenFiles
  /// The cache cannot keep the books of so large a chunk.
  case tooLarge
  case shuttingDown
}
