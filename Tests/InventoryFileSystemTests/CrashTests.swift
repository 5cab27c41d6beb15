import InventoryFileSystem
import Locks
import SystemPackage
import Testing

@testable import BlockCache

/// A mount that is killed at any step of writing its cache, and the next one, which has what is
/// left.
@Suite(.timeLimit(.minutes(2))) struct CrashTests {
  private let chunk = Rig.Chunk(key: "chunk", bytes: content(700_000))

  @Test(
    "Killed at any step of writing the cache, a mount leaves no byte that the next one reads wrongly"
  )
  func everyStep() async throws {
    let store = ScriptedStore()
    store.put([chunk])
    var step = 0
    var isOver = false
    while !isOver {
      let folder = try CacheFolder()
      let armed = step
      let taken = Lock(0)
      do {
        // From this step on nothing reaches the disk, as if there were no process any more.
        let rig = try Rig(
          store.connect(), [chunk], cachePath: folder.path,
          hook: { step in
            guard step != .readData else { return nil }
            return taken.withLock { taken in
              taken += 1
              return taken > armed ? .ioError : nil
            }
          })
        defer { rig.fileSystem.shutDown() }
        try await rig.check(chunk)
      }
      isOver = taken.withLock { $0 } <= armed
      let next = try await untilFree { try Rig(store.connect(), [chunk], cachePath: folder.path) }
      let isRight = try await next.contents("chunk") == chunk.bytes
      next.fileSystem.shutDown()
      #expect(isRight, "killed at step \(step)")
      step += 1
    }
    #expect(step > 20, "else there was little to kill")
  }
}
