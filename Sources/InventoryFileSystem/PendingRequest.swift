import Dispatch
import Locks
import ObjectStore

/// A request that fetches a small object whole into memory, with retries, for callers that can
/// wait.
final class PendingObject: Sendable {
  private let request = Lock<RetriedRequest<FetchedObject>?>(nil)
  private let answer = PendingAnswer<FetchedObject>()

  /// Starts the request. An object of more than `limitInBytes` ends it with `.tooLarge`.
  init(
    _ location: S3Location, from store: any ChunkStore, _ retries: StoreRetries, timeout: Duration,
    unreachableTimeout: Duration, limitInBytes: Int
  ) {
    let started = RetriedRequest<FetchedObject>(
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
  func wait() -> Result<FetchedObject, StoreError> { answer.wait() }
}

/// A request for an object's size and ETag with retries, for callers that can wait.
final class PendingHead: Sendable {
  private let request = Lock<RetriedRequest<ResponseHead>?>(nil)
  private let answer = PendingAnswer<ResponseHead>()

  /// Starts the request.
  ///
  /// - Parameter firstByte: whether the first byte is fetched, which the object must have, instead
  ///   of a HEAD: a response to HEAD does not give the store's reason for a refusal.
  init(
    _ location: S3Location, firstByte: Bool = false, from store: any ChunkStore,
    _ retries: StoreRetries, timeout: Duration
  ) {
    let completion: @Sendable (Result<ResponseHead, StoreError>) -> Void = { [answer] in
      answer.give($0)
    }
    let started =
      firstByte
      ? RetriedRequest<ResponseHead>(
        location, retries, timeout: timeout, endsThen: true,
        attempt: { number, end in
          store.get(
            ObjectRequest(location, range: 0..<1, attempt: number), to: HeadCollector { end($0, 0) }
          )
        }, completion: completion)
      : .head(
        location, objectSizeInBytes: nil, from: store, retries, timeout: timeout,
        completion: completion)
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

/// Collects the head of one attempt's response.
private final class HeadCollector: ObjectReceiver {
  private let end: @Sendable (Result<ResponseHead, StoreError>) -> Void
  private let head = Lock(ResponseHead())

  init(_ end: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void) { self.end = end }

  func accept(_ head: ResponseHead) -> Bool {
    self.head.withLock { $0 = head }
    return true
  }

  func receive(_ body: UnsafeRawBufferPointer) -> Bool { true }

  func finish(_ result: Result<Void, StoreError>) {
    let head = head.withLock { $0 }
    end(result.map { head })
  }
}

/// An object's bytes and the head of the response that brought them.
struct FetchedObject: Sendable {
  var bytes: [UInt8]
  var head: ResponseHead
}

/// Collects one attempt's bytes.
private final class ObjectCollector: ObjectReceiver {
  private let location: S3Location
  private let limitInBytes: Int
  private let end: @Sendable (Result<FetchedObject, StoreError>, _ received: Int) -> Void
  private let state = Lock<(bytes: [UInt8], head: ResponseHead, isTooLarge: Bool)>(
    ([], ResponseHead(), false))

  init(
    _ location: S3Location, limitInBytes: Int,
    _ end: @escaping @Sendable (Result<FetchedObject, StoreError>, _ received: Int) -> Void
  ) {
    self.location = location
    self.limitInBytes = limitInBytes
    self.end = end
  }

  func accept(_ head: ResponseHead) -> Bool {
    state.withLock { state in
      state.head = head
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
    let (bytes, head, isTooLarge) = state.withLock { state in
      (exchange(&state.bytes, with: []), state.head, state.isTooLarge)
    }
    let error = StoreError(.tooLarge(limitInBytes: UInt64(limitInBytes)), object: location)
    end(
      isTooLarge ? .failure(error) : result.map { FetchedObject(bytes: bytes, head: head) },
      bytes.count)
  }
}
