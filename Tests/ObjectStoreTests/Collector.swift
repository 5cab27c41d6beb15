import Locks
import ObjectStore
import Testing

/// Takes a whole answer.
final class Collector: ObjectReceiver {
  private struct State {
    var bytes: [UInt8] = []
    var result: Result<Void, StoreError>?
    var continuation: CheckedContinuation<[UInt8], any Error>?
  }
  private let state = Lock(State())
  private let takesBytes: Bool

  init(takesBytes: Bool = true) { self.takesBytes = takesBytes }

  func accept(_ head: ResponseHead) -> Bool { true }

  func receive(_ body: UnsafeRawBufferPointer) -> Bool {
    state.withLock { $0.bytes += body }
    return takesBytes
  }

  func finish(_ result: Result<Void, StoreError>) {
    state.withLock { state in
      #expect(state.result == nil, "an answer ended twice")
      state.result = result
      state.continuation?.resume(with: result.map { [bytes = state.bytes] in bytes })
    }
  }

  func bytes() async throws -> [UInt8] {
    try await withCheckedThrowingContinuation { continuation in
      state.withLock { state in
        guard let result = state.result else {
          state.continuation = continuation
          return
        }
        continuation.resume(with: result.map { [bytes = state.bytes] in bytes })
      }
    }
  }
}
