package import SystemPackage

/// The steps in which the cache is written and read: each one system call, and so a place where the
/// process may be killed, or the disk may fail.
package enum CacheStep: Sendable, CaseIterable {
  case openFiles
  case createData, sizeData, createIndex, sizeIndex, writeHeader
  case writeData, writeEntries
  case readData
  case clearEntries, punch
  case removeIndex, removeData
  case writeProbe
  case listEntries
  /// Looking whether the folder is still in its place, and asking who has a data file open. Their
  /// errors are ignored.
  case findFolder, findUsers
}

/// A hook for tests, which have no failing disk: it is called before each step, and the step fails
/// with the error that it returns.
package typealias CacheStepHook = @Sendable (CacheStep) -> Errno?
