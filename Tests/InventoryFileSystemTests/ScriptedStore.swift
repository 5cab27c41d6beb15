import InventoryFileSystem
import InventoryManifest
import Locks
import ObjectStore
import Posix
import TestSupport
import Testing

/// A store in memory: objects, an account of what was asked for, and rules for what goes wrong.
///
/// Each mount has a connection of its own (`connect()`), whose two threads deliver the answers, in
/// pieces and one call of a receiver at a time, as `ObjectReceiver` says. Time is no part of it: an
/// answer comes as fast as the receiver takes it, or not before the test says so (`Fault.hold`).
final class ScriptedStore: Sendable {
  /// One way to misbehave. Offsets count in the body of the answer, from 0.
  enum Fault: Sendable {
    /// No answer comes until `release()`, `dropConnections()` or whoever asked ends that.
    case hold
    /// The request fails with this error, and has no answer.
    case fail(StoreError.Kind)
    /// The store refuses with a status, and S3's XML but for a HEAD; `retryAfter` is in seconds.
    case status(Int, code: String, retryAfter: Int? = nil)
    /// The connection breaks after so many bytes of the body.
    case cut(afterBytes: Int)
    /// Nothing more comes after so many bytes of the body, as with `hold`.
    case stall(afterBytes: Int)
    /// One bit of the byte at this offset is flipped; of the last byte if the body is shorter.
    case wrongBytes(atOffset: Int)
  }

  /// The first rule that applies to a request decides. All conditions that are set must hold.
  struct Rule: Sendable {
    var fault: Fault
    var keyPrefix = ""
    var keySuffix = ""
    var method: String?
    /// Bytes of the object that the asked range must touch; a request without a range touches all.
    var rangeOverlaps: Range<Int>?
    /// Only the nth, from 1, of the requests that meet the conditions above.
    var nth: Int?
    /// Not the first so many of the requests that meet the conditions above.
    var skippingFirst = 0
    /// From 0 to 1, drawn for each request that meets the conditions above.
    var probability = 1.0
    /// How often it applies before it is spent.
    var times = Int.max

    init(
      _ fault: Fault, keyPrefix: String = "", keySuffix: String = "", method: String? = nil,
      rangeOverlaps: Range<Int>? = nil, nth: Int? = nil, skippingFirst: Int = 0,
      probability: Double = 1, times: Int = .max
    ) {
      self.fault = fault
      self.keyPrefix = keyPrefix
      self.keySuffix = keySuffix
      self.method = method
      self.rangeOverlaps = rangeOverlaps
      self.nth = nth
      self.skippingFirst = skippingFirst
      self.probability = probability
      self.times = times
    }

    fileprivate func accepts(_ request: Request) -> Bool {
      request.key.hasPrefix(keyPrefix) && request.key.hasSuffix(keySuffix)
        && method ?? request.method == request.method
        && (rangeOverlaps.flatMap { request.range?.overlaps($0) } ?? true)
    }
  }

  /// One request, and what became of it.
  struct Request: Sendable {
    /// From 1, in the order of arrival.
    let number: Int
    let method: String
    let key: String
    let range: Range<Int>?
    let ifMatch: String?
    /// Which attempt the asker says that it is.
    let attempt: Int
    /// 0 as long as there is no answer.
    fileprivate(set) var status = 0
    fileprivate(set) var bodyBytesSent = 0
    fileprivate(set) var isFaulty = false
    fileprivate(set) var isFinished = false
  }

  private struct Object {
    let bytes: [UInt8]
    let eTag: String
    /// The header lines of every answer to a HEAD, where they are not those of the bytes.
    var head: [String]?
  }

  private struct Progress {
    let rule: Rule
    var matches = 0
    var applications = 0
  }

  /// A request that has not ended.
  private struct Delivery {
    let request: ObjectRequest
    let isHead: Bool
    let receiver: any ObjectReceiver
    let connection: Connection
    let lane: Lane
    var fault: Fault?
    var isHeld = false
    /// The error that the request ends with at its next step; nil as long as it goes on.
    var ending: StoreError.Kind?
    /// The body, once the head has been given to the receiver, and what of it is still to come.
    var body: [UInt8] = []
    var rest: Range<Int>?
    /// The receiver is being told the end.
    var isEnding = false
  }

  private struct State {
    var objects: [String: Object] = [:]
    var rules: [Progress] = []
    var generator = SeededGenerator(seed: 0)
    var requests: [Request] = []
    /// How many requests an earlier account had.
    var forgotten = 0
    var deliveries: [Int: Delivery] = [:]
    var nextLane = 0

    mutating func update(_ number: Int, _ change: (inout Request) -> Void) {
      let index = number - forgotten - 1
      if requests.indices.contains(index) { change(&requests[index]) }
    }

    /// Every rule counts the request, also those behind the one that applies.
    mutating func fault(for request: Request) -> Fault? {
      var chosen: Fault?
      for index in rules.indices where rules[index].rule.accepts(request) {
        let rule = rules[index].rule
        rules[index].matches += 1
        let matches = rules[index].matches
        let draw = rule.probability < 1 ? Double.random(in: 0..<1, using: &generator) : 0
        guard chosen == nil, rules[index].applications < rule.times, rule.nth ?? matches == matches,
          matches > rule.skippingFirst, draw < rule.probability
        else { continue }
        rules[index].applications += 1
        chosen = rule.fault
      }
      return chosen
    }
  }

  fileprivate typealias Lane = JobQueue<@Sendable () -> Void>

  private static let pieceInBytes = 64 << 10

  private let state: Lock<State>

  init(_ rules: [Rule] = [], seed: UInt64 = 0) {
    state = Lock(State())
    setRules(rules, seed: seed)
  }

  // MARK: Its content

  func put(_ chunks: [Rig.Chunk]) {
    for chunk in chunks { put(key: chunk.key, bytes: chunk.bytes) }
  }

  /// - Parameter eTag: verbatim; nil for that of the bytes.
  func put(key: String, bytes: [UInt8], eTag: String? = nil) {
    let object = Object(bytes: bytes, eTag: eTag ?? "\"\(MD5Digest(of: bytes))\"")
    state.withLock { $0.objects[key] = object }
  }

  /// An object that cannot be read, and whose answers to HEAD have these header lines.
  func put(key: String, head: [String]) {
    state.withLock { $0.objects[key] = Object(bytes: [], eTag: "", head: head) }
  }

  func remove(key: String) { state.withLock { $0.objects[key] = nil } }

  // MARK: Its faults

  /// Replaces all rules, for the requests that are made from now on.
  func setRules(_ rules: [Rule], seed: UInt64 = 0) {
    state.withLock { state in
      state.rules = rules.map { Progress(rule: $0) }
      state.generator = SeededGenerator(seed: seed)
    }
  }

  /// Has the requests that are held go on as if nothing had been, or as this fault says.
  func release(_ fault: Fault? = nil) {
    goOn { delivery in
      guard delivery.isHeld else { return }
      delivery.isHeld = false
      delivery.fault = fault
    }
  }

  /// Breaks off all requests under way.
  func dropConnections() { goOn { $0.ending = $0.ending ?? .connection(.broken, text: "dropped") } }

  private func goOn(_ change: (inout Delivery) -> Void) {
    state.withLock { state in
      for number in state.deliveries.keys {
        guard var delivery = state.deliveries[number], !delivery.isEnding else { continue }
        let wasWaiting = delivery.isHeld
        change(&delivery)
        state.deliveries[number] = delivery
        if wasWaiting { delivery.lane.append { self.takeStep(number) } }
      }
    }
  }

  // MARK: Its account

  /// In the order of arrival.
  var requests: [Request] { state.withLock { $0.requests } }

  func requests(forKey key: String) -> [Request] { requests.filter { $0.key == key } }

  func gets(_ key: String) -> [Request] { requests(forKey: key).filter { $0.method == "GET" } }

  var faultCount: Int { requests.count { $0.isFaulty } }

  /// How many bytes of the object more than one GET asked for, of those that were answered.
  func bytesRequestedTwice(forKey key: String) -> Int {
    Self.bytesInSeveral(of: gets(key).filter { $0.status == 206 }.compactMap(\.range))
  }

  /// How many bytes of the object were sent more than once.
  func bytesSentTwice(forKey key: String) -> Int {
    Self.bytesInSeveral(
      of: gets(key).compactMap { request in
        request.range.map { $0.lowerBound..<$0.lowerBound + request.bodyBytesSent }
      })
  }

  /// Forgets all requests that have been made so far.
  func resetAccount() {
    state.withLock { state in
      state.forgotten += state.requests.count
      state.requests = []
    }
  }

  /// Waits until every request has ended, its receiver's last call included, or is held.
  func untilIdle() async throws {
    try await until {
      state.withLock { state in
        state.deliveries.values.allSatisfy { $0.isHeld && $0.ending == nil }
      }
    }
  }

  private static func bytesInSeveral(of ranges: [Range<Int>]) -> Int {
    var count = 0
    var end = 0
    // Up to where bytes are counted, so that each is counted once.
    var counted = 0
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      let again =
        max(range.lowerBound, counted)..<max(range.lowerBound, counted, min(end, range.upperBound))
      count += again.count
      counted = max(counted, again.upperBound)
      end = max(end, range.upperBound)
    }
    return count
  }

  // MARK: Its connections

  /// Opens a connection, which one mount asks through until it shuts down.
  func connect() -> Connection { Connection(self) }

  final class Connection: ChunkStore {
    fileprivate struct State {
      var threads: [PosixThread] = []
      var traffic = ObjectStore.Traffic()
      var isShutDown = false
    }

    let identity = "scripted://store"
    private let store: ScriptedStore
    fileprivate let lanes: [Lane] = [Lane(), Lane()]
    fileprivate let state = Lock(State())

    fileprivate init(_ store: ScriptedStore) {
      self.store = store
      let threads = lanes.compactMap { lane in
        PosixThread(named: "scripted") { while let job = lane.next() { job() } }
      }
      precondition(threads.count == lanes.count, "the system gives no threads")
      state.withLock { $0.threads = threads }
    }

    deinit { for lane in lanes { lane.end() } }

    var traffic: ObjectStore.Traffic { state.withLock { $0.traffic } }

    func get(_ request: ObjectRequest, to receiver: any ObjectReceiver) -> StoreTransfer {
      store.begin(request, isHead: false, receiver, through: self)
    }

    func head(
      _ location: S3Location, objectSizeInBytes: Int?, attempt: Int,
      _ completion: @escaping @Sendable (Result<ResponseHead, StoreError>) -> Void
    ) -> StoreTransfer {
      store.begin(
        ObjectRequest(location, objectSizeInBytes: objectSizeInBytes, attempt: attempt),
        isHead: true, HeadReceiver(completion), through: self)
    }

    func shutDown() {
      let threads = state.withLock { state in
        state.isShutDown = true
        return exchange(&state.threads, with: [])
      }
      store.endAll(through: self)
      for lane in lanes { lane.end() }
      for thread in threads { thread.join() }
    }
  }

  private func begin(
    _ request: ObjectRequest, isHead: Bool, _ receiver: any ObjectReceiver,
    through connection: Connection
  ) -> StoreTransfer {
    let number: Int? = state.withLock { state in
      let isShutDown = connection.state.withLock { connection in
        guard !connection.isShutDown else { return true }
        connection.traffic.requestCount += 1
        connection.traffic.requestsInFlight += 1
        return false
      }
      guard !isShutDown else { return nil }
      let number = state.forgotten + state.requests.count + 1
      // As with HTTP, where it could not be compared.
      let ifMatch = request.ifMatch.flatMap { $0.hasPrefix("W/") ? nil : $0 }
      var record = Request(
        number: number, method: isHead ? "HEAD" : "GET", key: request.location.key,
        range: request.range, ifMatch: ifMatch, attempt: request.attempt)
      let fault = state.fault(for: record)
      record.isFaulty = fault != nil
      state.requests.append(record)
      let lane = connection.lanes[state.nextLane % connection.lanes.count]
      state.nextLane += 1
      var delivery = Delivery(
        request: request, isHead: isHead, receiver: receiver, connection: connection, lane: lane,
        fault: fault)
      if case .hold? = fault { delivery.isHeld = true }
      state.deliveries[number] = delivery
      if !delivery.isHeld { lane.append { self.takeStep(number) } }
      return number
    }
    guard let number else {
      receiver.finish(.failure(StoreError(.cancelled, object: request.location)))
      return StoreTransfer {}
    }
    return StoreTransfer { self.end(number, .cancelled) }
  }

  private func end(_ number: Int, _ ending: StoreError.Kind) {
    state.withLock { state in
      guard let delivery = state.deliveries[number], !delivery.isEnding else { return }
      state.deliveries[number]?.ending = delivery.ending ?? ending
      if delivery.isHeld { delivery.lane.append { self.takeStep(number) } }
    }
  }

  private func endAll(through connection: Connection) {
    let numbers = state.withLock { state in
      state.deliveries.filter { $1.connection === connection }.map(\.key)
    }
    for number in numbers { end(number, .cancelled) }
  }

  // MARK: Delivering

  private enum Step {
    case answer(ResponseHead)
    case piece([UInt8], Range<Int>)
    case finish(Result<Void, StoreError>)
  }

  /// Makes one call of a request's receiver, on its lane's thread, and plans the next.
  private func takeStep(_ number: Int) {
    guard let (step, delivery) = state.withLock({ nextStep(number, &$0) }) else {
      return
    }
    var goesOn = true
    switch step {
    case .answer(let head):
      goesOn = delivery.receiver.accept(head)
    case .piece(let bytes, let range):
      delivery.connection.state.withLock { $0.traffic.receivedBytes += range.count }
      goesOn = bytes[range].withUnsafeBytes { delivery.receiver.receive($0) }
    case .finish(let result):
      delivery.connection.state.withLock { $0.traffic.requestsInFlight -= 1 }
      delivery.receiver.finish(result)
      state.withLock { $0.deliveries[number] = nil }
      return
    }
    if !goesOn { end(number, .connection(.broken, text: "the receiver refused")) }
    delivery.lane.append { self.takeStep(number) }
  }

  /// Nil where there is nothing to do: the request is held, or has ended.
  private func nextStep(_ number: Int, _ state: inout State) -> (Step, Delivery)? {
    guard let delivery = state.deliveries[number], !delivery.isEnding else { return nil }
    func finish(_ error: StoreError?) -> (Step, Delivery) {
      state.deliveries[number]?.isEnding = true
      state.update(number) { request in
        request.status = error?.httpStatus ?? request.status
        request.isFinished = true
      }
      return (.finish(error.map { .failure($0) } ?? .success(())), delivery)
    }
    func fail(_ kind: StoreError.Kind) -> (Step, Delivery) {
      finish(StoreError(kind, object: delivery.request.location))
    }
    if let ending = delivery.ending { return fail(ending) }
    if delivery.isHeld { return nil }
    guard let rest = delivery.rest else {
      switch answer(delivery, state.objects[delivery.request.location.key]) {
      case .failure(let error): return finish(error)
      case .success(let (head, body, range)):
        state.deliveries[number]?.body = body
        state.deliveries[number]?.rest = range
        state.update(number) { $0.status = head.status }
        return (.answer(head), delivery)
      }
    }
    let start = delivery.request.range?.lowerBound ?? 0
    var piece = rest.prefix(Self.pieceInBytes)
    switch delivery.fault {
    case .cut(let count)?:
      if rest.lowerBound - start >= count, !rest.isEmpty {
        return fail(
          .connection(.broken, text: "\(rest.lowerBound - start) bytes came, and then the end"))
      }
      piece = piece.prefix(count - (rest.lowerBound - start))
    case .stall(let count)?:
      if rest.lowerBound - start >= count, !rest.isEmpty {
        state.deliveries[number]?.isHeld = true
        return nil
      }
      piece = piece.prefix(count - (rest.lowerBound - start))
    default: break
    }
    guard !piece.isEmpty else { return finish(nil) }
    let range = piece.startIndex..<piece.endIndex
    state.deliveries[number]?.rest = range.upperBound..<rest.upperBound
    state.update(number) { $0.bodyBytesSent += range.count }
    return (.piece(delivery.body, range), delivery)
  }

  private typealias Answer = (ResponseHead, body: [UInt8], Range<Int>)

  /// What the store says, as it comes out of the checks that every answer over HTTP goes through
  /// (`AnswerCheck`).
  private func answer(_ delivery: Delivery, _ object: Object?) -> Result<Answer, StoreError> {
    let request = delivery.request
    func refuse(_ status: Int, _ code: String, retryAfter: Int? = nil) -> Result<Answer, StoreError>
    {
      var lines = ["HTTP/1.1 \(status) Refused"]
      if let retryAfter { lines.append("Retry-After: \(retryAfter)") }
      let xml =
        delivery.isHead ? "" : "<Error><Code>\(code)</Code><Message>scripted</Message></Error>"
      return .failure(
        .answer(to: request.location, head: Self.head(lines), body: Array(xml.utf8)))
    }
    switch delivery.fault {
    case .fail(let kind)?: return .failure(StoreError(kind, object: request.location))
    case .status(let status, let code, let retryAfter)?:
      return refuse(status, code, retryAfter: retryAfter)
    default: break
    }
    guard let object else { return refuse(404, "NoSuchKey") }
    if let lines = object.head {
      return .success((Self.head(["HTTP/1.1 200 OK"] + lines), [], 0..<0))
    }
    if let eTag = request.ifMatch, !eTag.hasPrefix("W/"), eTag != object.eTag {
      return refuse(412, "PreconditionFailed")
    }
    if let expected = request.objectSizeInBytes, expected != object.bytes.count {
      let kind = StoreError.Kind.wrongSize(
        expectedInBytes: UInt64(expected), foundInBytes: UInt64(object.bytes.count))
      return .failure(StoreError(kind, object: request.location))
    }
    let range = request.range ?? 0..<object.bytes.count
    guard range.upperBound <= object.bytes.count else { return refuse(416, "InvalidRange") }
    var lines = ["HTTP/1.1 200 OK", "Content-Length: \(range.count)", "ETag: \(object.eTag)"]
    if request.range != nil {
      lines[0] = "HTTP/1.1 206 Partial Content"
      lines.append(
        "Content-Range: bytes \(range.lowerBound)-\(range.upperBound - 1)/\(object.bytes.count)")
    }
    var body = object.bytes
    if case .wrongBytes(let offset)? = delivery.fault, !range.isEmpty {
      body[min(range.lowerBound + offset, range.upperBound - 1)] ^= 1
    }
    return .success((Self.head(lines), body, delivery.isHead ? 0..<0 : range))
  }

  private static func head(_ lines: [String]) -> ResponseHead {
    var head = ResponseHead()
    for line in lines { head.take(line: Array(line.utf8)) }
    return head
  }
}
