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
}

/// Called before each step; the error that it returns is the step's. For tests, which have no
/// failing disk.
package typealias CacheStepHook = @Sendable (CacheStep) -> Errno?
