public import AWSCredentials
import Glibc
import HTTPTransfer
import Locks
import Posix
import Synchronization

/// An S3-compatible object store: signs requests, sends them, and checks that each response matches
/// its request.
///
/// It neither retries nor limits requests: the layers above decide which request is sent when. Only
/// a request that was refused for how it was signed is sent again, corrected (`Corrections`).
///
/// Credentials go to the endpoint's own host and nowhere else: redirects are not followed.
public final class ObjectStore: Sendable {
  private let configuration: ObjectStoreConfiguration
  private let credentials: CredentialsKeeper
  private let corrections: Corrections
  private let signer = RequestSigner()
  let engines: EnginePool
  private let receivedBytes = Atomic(0)

  /// Returns nil when libcurl cannot be set up or the system has no memory or threads left.
  public init?(_ configuration: ObjectStoreConfiguration, credentials: any CredentialsProvider) {
    var engineConfiguration = CurlEngine.Configuration()
    engineConfiguration.maxConnections = configuration.maxConnections
    engineConfiguration.receiveBufferSizeInBytes = configuration.receiveBufferSizeInBytes
    engineConfiguration.allowAttempts(within: configuration.readTimeout)
    guard
      let engines = EnginePool(threadCount: configuration.networkThreadCount, engineConfiguration)
    else { return nil }
    self.configuration = configuration
    let clock: @Sendable () -> Int64 = { Int64(time(nil)) }
    self.credentials = CredentialsKeeper(credentials, clock: clock)
    corrections = Corrections(
      endpoint: configuration.endpoint, region: configuration.region, clock: clock)
    self.engines = engines
  }

  /// How much this process has requested from the store. Corrected requests and retries count too.
  public struct Traffic: Sendable, Equatable {
    public var requestCount: Int
    /// Requests that were sent, or are about to be, and whose response is not complete.
    public var requestsInFlight: Int
    /// Bytes received of response bodies.
    public var receivedBytes: Int

    public init(requestCount: Int = 0, requestsInFlight: Int = 0, receivedBytes: Int = 0) {
      self.requestCount = requestCount
      self.requestsInFlight = requestsInFlight
      self.receivedBytes = receivedBytes
    }
  }

  public var traffic: Traffic {
    let (begun, underWay) = engines.transferCounts
    return Traffic(
      requestCount: begun, requestsInFlight: underWay,
      receivedBytes: receivedBytes.load(ordering: .relaxed))
  }

  /// The store's name, which tells its objects from those of other stores. It has no region on AWS,
  /// whose bucket names are unique across regions.
  public var identity: String { configuration.endpoint.description }

  /// Starts a GET, whose receiver is called as `ObjectReceiver` says.
  public func get(_ request: ObjectRequest, to receiver: any ObjectReceiver) -> ObjectTransfer {
    send(request, isHead: false, receiver)
  }

  /// Starts a HEAD. `completion` is called on a network thread, or on this one where no request can
  /// be sent.
  @discardableResult
  public func head(
    _ location: S3Location, objectSizeInBytes: Int?, attempt: Int = 1,
    _ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void
  ) -> ObjectTransfer {
    send(
      ObjectRequest(location, objectSizeInBytes: objectSizeInBytes, attempt: attempt), isHead: true,
      HeadReceiver(completion))
  }

  /// Ends a transfer soon, with `.cancelled` unless it ends by itself before.
  public func cancel(_ transfer: ObjectTransfer) {
    let (current, giveUp) = transfer.state.withLock { state in
      state.isCancelled = true
      return (state.current, exchange(&state.giveUp, with: nil))
    }
    giveUp?()
    if let (transfer, place) = current { place.cancel(transfer) }
  }

  /// Ends all transfers, and the network's threads. Later ones fail with `.cancelled`.
  public func shutDown() {
    credentials.stop()
    engines.stop()
  }

  private func send(
    _ request: ObjectRequest, isHead: Bool, _ receiver: any ObjectReceiver
  ) -> ObjectTransfer {
    let transfer = ObjectTransfer()
    send(request, isHead: isHead, receiver, as: transfer)
    return transfer
  }

  /// Sends a request. Network threads also call this, with a corrected request.
  private func send(
    _ request: ObjectRequest, isHead: Bool, _ receiver: any ObjectReceiver,
    as transfer: ObjectTransfer
  ) {
    wait(request, receiver, as: transfer, for: credentials.get) { [self] answer in
      switch answer {
      case .success(let credentials):
        send(
          request, isHead: isHead, receiver, as: transfer,
          corrections.signing(forBucket: request.location.bucket, with: credentials))
      case .failure(let error):
        receiver.finish(.failure(StoreError(.noCredentials(error), object: request.location)))
      case nil:
        receiver.finish(.failure(StoreError(.cancelled, object: request.location)))
      }
    }
  }

  /// Continues once the keeper has the credentials, unless the transfer is cancelled before then: a
  /// source may take long.
  private func wait<Answer>(
    _ request: ObjectRequest, _ receiver: any ObjectReceiver, as transfer: ObjectTransfer,
    for ask: (@escaping @Sendable (Answer) -> Void) -> Void,
    _ goOn: @escaping @Sendable (Answer) -> Void
  ) {
    let giveUp: @Sendable () -> Void = {
      receiver.finish(.failure(StoreError(.cancelled, object: request.location)))
    }
    let isCancelled = transfer.state.withLock { state in
      if !state.isCancelled { state.giveUp = giveUp }
      return state.isCancelled
    }
    guard !isCancelled else { return giveUp() }
    ask { answer in
      guard transfer.state.withLock({ exchange(&$0.giveUp, with: nil) }) != nil else { return }
      goOn(answer)
    }
  }

  private func send(
    _ request: ObjectRequest, isHead: Bool, _ receiver: any ObjectReceiver,
    as transfer: ObjectTransfer, _ signing: Corrections.Signing
  ) {
    let target = signing.endpoint.target(
      bucket: request.location.bucket, key: request.location.key)
    let answer = AnswerCheck(
      request, signing.endpoint, awsCommand: configuration.awsCommand, isHead: isHead, receiver
    ) {
      [self] error, head in
      guard let correction = corrections.learn(from: error, head, signing),
        transfer.state.withLock({ !$0.isCancelled && $0.corrections.insert(correction).inserted })
      else { return false }
      guard correction == .credentials, let refused = signing.credentials else {
        send(request, isHead: isHead, receiver, as: transfer)
        return true
      }
      wait(request, receiver, as: transfer, for: { credentials.renew(refused, $0) }) {
        [self] renewed in
        guard renewed != nil else { return receiver.finish(.failure(error)) }
        send(request, isHead: isHead, receiver, as: transfer)
      }
      return true
    }
    let place = engines.take()
    let method = isHead ? "HEAD" : "GET"
    let trace = configuration.trace
    // Set before the transfer is submitted, and so before its end.
    let ended = Lock<CurlTransfer?>(nil)
    let current = CurlTransfer(
      url: target.url,
      headers: headers(for: request, method: method, target, signing),
      isHead: isHead, attempt: request.attempt,
      onBegin: { trace? { "\(method) \(request): sent" } },
      onHeader: answer.header,
      onBody: { [self] body in
        receivedBytes.wrappingAdd(body.count, ordering: .relaxed)
        return answer.body(body)
      },
      onEnd: { [engines] end in
        engines.leave(place)
        let time = ended.withLock { exchange(&$0, with: nil) }?.elapsed ?? .zero
        trace? { "\(method) \(request): \(answer.summary(end)) in \(time.roundedText)" }
        // The two would keep each other alive.
        transfer.state.withLock { $0.current = nil }
        answer.end(end)
      })
    ended.withLock { $0 = current }
    transfer.state.withLock { $0.current = (current, place) }
    place.submit(current)
    // A cancellation in between reached the engine before it had the transfer.
    if transfer.state.withLock({ $0.isCancelled }) { place.cancel(current) }
  }

  private func headers(
    for request: ObjectRequest, method: String, _ target: RequestTarget,
    _ signing: Corrections.Signing
  ) -> [String] {
    var headers: [HTTPHeader] = []
    if let range = request.range {
      headers.append(HTTPHeader("Range", "bytes=\(range.lowerBound)-\(range.upperBound - 1)"))
    }
    if let eTag = request.ifMatch, !eTag.hasPrefix("W/") {
      headers.append(HTTPHeader("If-Match", eTag))
    }
    if let credentials = signing.credentials {
      headers += signer.headers(
        signing: method, target, credentials: credentials, region: signing.region,
        secondsSinceEpoch: signing.secondsSinceEpoch)
    }
    return headers.map { "\($0.name): \($0.value)" }
  }
}

/// A receiver of the response to a HEAD: it keeps the head, and discards a body.
package final class HeadReceiver: ObjectReceiver {
  private let completion: @Sendable (Result<ResponseHead, StoreError>) -> Void
  private let head = Lock(ResponseHead())

  /// - Parameter completion: called once, with the head or the failure, on the thread that ends the
  ///   request.
  package init(_ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void) {
    self.completion = completion
  }

  package func accept(_ head: ResponseHead) -> Bool {
    self.head.withLock { $0 = head }
    return true
  }

  package func receive(_ body: UnsafeRawBufferPointer) -> Bool { true }

  package func finish(_ result: Result<Void, StoreError>) {
    completion(result.map { head.withLock { $0 } })
  }
}
