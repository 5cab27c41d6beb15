import Dispatch
import Locks
import ObjectStore

/// A small object that is being fetched whole into memory, for callers that can wait.
final class PendingObject: ObjectReceiver, Sendable {
  private struct State {
    var bytes: [UInt8] = []
    var isTooLarge = false
    var result: Result<[UInt8], StoreError>?
  }

  private let location: S3Location
  private let limitInBytes: Int
  private let state = Lock(State())
  private let done = DispatchSemaphore(value: 0)

  /// Starts the request. More than `limitInBytes` end it with `.tooLarge`.
  init(_ location: S3Location, from store: ObjectStore, limitInBytes: Int) {
    self.location = location
    self.limitInBytes = limitInBytes
    _ = store.get(ObjectRequest(location), to: self)
  }

  /// Waits for the end. To be called once.
  func wait() -> Result<[UInt8], StoreError> {
    done.wait()
    return state.withLock { $0.result } ?? .success([])
  }

  func accept(_ head: ResponseHead) -> Bool {
    state.withLock { state in
      let length = Int(clamping: head.contentLength ?? 0)
      state.isTooLarge = length > limitInBytes
      if !state.isTooLarge { state.bytes.reserveCapacity(length) }
      return !state.isTooLarge
    }
  }

  func receive(_ body: UnsafeRawBufferPointer) -> Bool {
    state.withLock { state in
      state.isTooLarge = state.bytes.count + body.count > limitInBytes
      if !state.isTooLarge { state.bytes += body }
      return !state.isTooLarge
    }
  }

  func finish(_ result: Result<Void, StoreError>) {
    state.withLock { state in
      let bytes = exchange(&state.bytes, with: [])
      state.result =
        state.isTooLarge
        ? .failure(StoreError(.tooLarge(limitInBytes: UInt64(limitInBytes)), object: location))
        : result.map { bytes }
    }
    done.signal()
  }
}

/// A HEAD request, for callers that can wait.
final class PendingHead: Sendable {
  private let result = Lock<Result<ResponseHead, StoreError>?>(nil)
  private let done = DispatchSemaphore(value: 0)

  init(_ location: S3Location, objectSizeInBytes: Int?, from store: ObjectStore) {
    store.head(location, objectSizeInBytes: objectSizeInBytes) { [self] answer in
      result.withLock { $0 = answer }
      done.signal()
    }
  }

  /// Waits for the answer. To be called once.
  func wait() -> Result<ResponseHead, StoreError> {
    done.wait()
    return result.withLock { $0 } ?? .success(ResponseHead())
  }
}
