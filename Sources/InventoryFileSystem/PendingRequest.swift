import Dispatch
import Locks
import ObjectStore

/// A request that fetches a small object whole into memory, with retries, for callers that can
/// wait.
final class PendingObject: Sendable {
  private let request = Lock<RetriedRequest<[UInt8]>?>(nil)
  private let answer = PendingAnswer<[UInt8]>()

  /// Starts the request. An object of more than `limitInBytes` ends it with `.tooLarge`.
  init(
    _ location: S3Location, from store: any ChunkStore, _ retries: StoreRetries, timeout: Duration,
    unreachableTimeout: Duration, limitInBytes: Int
  ) {
    let started = RetriedRequest<[UInt8]>(
      location, retries, timeout: timeout, unreachableTimeout: unreachableTimeout,
      endsThen: false,
      attempt: { number, end in
        store.get(
          ObjectRequest(location, attempt: number),
          to: ObjectCollector(location, limitInBytes: limitInBytes, end))
      },
      completion: { [answer] in answer.give($0) })
    request.withLock { $0 = started }
  }

  /// Waits for the end. It must be called once at most.
  func wait() -> Result<[UInt8], StoreError> { answer.wait() }
}

/// A HEAD request with retries, for callers that can wait.
final class PendingHead: Sendable {
  private let request = Lock<RetriedRequest<ResponseHead>?>(nil)
  private let answer = PendingAnswer<ResponseHead>()

  init(
    _ location: S3Location, objectSizeInBytes: Int?, from store: any ChunkStore,
    _ retries: StoreRetries, timeout: Duration
  ) {
    let started = RetriedRequest<ResponseHead>.head(
      location, objectSizeInBytes: objectSizeInBytes, from: store, retries, timeout: timeout
    ) { [answer] in answer.give($0) }
    request.withLock { $0 = started }
  }

  /// Waits for the response. It must be called once at most.
  func wait() -> Result<ResponseHead, StoreError> { answer.wait() }
}

/// Passes one result from the thread that has it to the one that waits.
private final class PendingAnswer<Value: Sendable>: Sendable {
  private let answer = Lock<Result<Value, StoreError>?>(nil)
  private let done = DispatchSemaphore(value: 0)

  func give(_ answer: Result<Value, StoreError>) {
    self.answer.withLock { $0 = answer }
    done.signal()
  }

  /// Waits for the result. It must be called once at most.
  func wait() -> Result<Value, StoreError> {
    while true {
      done.wait()
      if let answer = answer.withLock({ exchange(&$0, with: nil) }) { return answer }
    }
  }
}

/// Collects one attempt's bytes.
private final class ObjectCollector: ObjectReceiver {
  private let location: S3Location
  private let limitInBytes: Int
  private let end: @Sendable (Result<[UInt8], StoreError>, _ received: Int) -> Void
  private let state = Lock<(bytes: [UInt8], isTooLarge: Bool)>(([], false))

  init(
    _ location: S3Location, limitInBytes: Int,
    _ end: @escaping @Sendable (Result<[UInt8], StoreError>, _ received: Int) -> Void
  ) {
    self.location = location
    self.limitInBytes = limitInBytes
    self.end = end
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
    let (bytes, isTooLarge) = state.withLock { state in
      (exchange(&state.bytes, with: []), state.isTooLarge)
    }
    let error = StoreError(.tooLarge(limitInBytes: UInt64(limitInBytes)), object: location)
    end(isTooLarge ? .failure(error) : result.map { bytes }, bytes.count)
  }
}
