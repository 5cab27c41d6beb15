import CCurl
import Locks
import PosixThreads

/// Runs HTTP transfers on one thread, with one curl multi handle.
///
/// A transfer's work is moving bytes from a socket to a file, of which one core does about 1 GB/s; where the network
/// brings more, several engines share the transfers (`EnginePool`). Requests come in from any thread through `submit` and
/// `cancel`, which wake the thread; a transfer's callbacks are called on the thread, one at a time, and must not block for
/// long.
///
/// Connections are kept alive and reused, HTTP/1.1 only: with HTTP/2 curl would send all parts down one connection,
/// whose rate S3 limits to that of one.
///
/// **Memory.** An easy handle owns one receive buffer and is itself reused; there are never more handles than
/// transfers at once, so the engine holds at most `maxTransfers × (receiveBufferSizeInBytes + curl's own state)`, and
/// one more such buffer, in which the pieces of a body are joined (`BodyCollector`).
final class CurlEngine: Sendable {
  struct Configuration: Sendable {
    var maxConnections = 32
    var receiveBufferSizeInBytes = 256 << 10
    var connectTimeout: Duration = .seconds(10)
    /// An answer that has not begun after this time has failed; mostly less is waited for (`FirstBytePatience`).
    var firstByteTimeout: Duration = .seconds(15)
    /// A transfer slower than this many bytes per second for `stallTimeout` has failed.
    var stallBytesPerSecond = 1 << 10
    var stallTimeout: Duration = .seconds(15)

    /// Limits with which a reader that waits for `readTimeout` at most sees several attempts.
    mutating func allowAttempts(within readTimeout: Duration) {
      // libcurl measures a transfer's speed in whole seconds.
      let share = max(.seconds(1), readTimeout / 4)
      connectTimeout = min(connectTimeout, share)
      firstByteTimeout = min(firstByteTimeout, share)
      stallTimeout = min(stallTimeout, share)
    }
  }

  private enum Command {
    case start(CurlTransfer)
    case cancel(CurlTransfer)
    case stop
  }

  /// What other threads want of the engine's.
  private struct Inbox {
    var commands: [Command] = []
    /// The thread takes no more, and frees the multi handle.
    var isClosed = false
  }

  /// What is usual of the store's answers, which is known once for all engines.
  final class Experience: Sendable {
    let patience: Lock<FirstBytePatience>
    let usualSpeed = Lock(UsualSpeed())

    init(_ configuration: Configuration) {
      patience = Lock(FirstBytePatience(longest: configuration.firstByteTimeout))
    }
  }

  private let configuration: Configuration
  private let experience: Experience
  private let inbox = Lock(Inbox())
  // Created by `init`, used by the engine's thread alone except for `curl_multi_wakeup`, which libcurl documents as
  // safe from any thread, and which is called under the lock of the inbox as long as that is open. The thread closes the
  // inbox before it frees the handle.
  private nonisolated(unsafe) let multi: OpaquePointer
  private let thread = Lock<PosixThread?>(nil)

  /// Nil when libcurl or the system cannot give what it takes.
  init?(_ configuration: Configuration, _ experience: Experience) {
    guard curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK, let multi = curl_multi_init()
    else {
      return nil
    }
    self.configuration = configuration
    self.experience = experience
    self.multi = OpaquePointer(multi)
    let connections = configuration.maxConnections
    inventoryfs_multi_setopt_long(multi, CURLMOPT_MAXCONNECTS, connections)
    inventoryfs_multi_setopt_long(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections)
    inventoryfs_multi_setopt_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections)
    inventoryfs_multi_setopt_long(multi, CURLMOPT_PIPELINING, Int(CURLPIPE_NOTHING))
    guard let thread = PosixThread(named: "network", { [self] in run() }) else { return nil }
    self.thread.withLock { $0 = thread }
  }

  func submit(_ transfer: CurlTransfer) { send(.start(transfer)) }

  /// Ends the transfer soon, with `.cancelled` unless it ends by itself before.
  func cancel(_ transfer: CurlTransfer) { send(.cancel(transfer)) }

  /// Ends all transfers and the thread. Must not be called from a transfer's callback.
  func stop() {
    send(.stop)
    thread.withLock { thread in
      thread?.join()
      thread = nil
    }
  }

  private func send(_ command: Command) {
    let isRefused = inbox.withLock { inbox in
      guard !inbox.isClosed else { return true }
      inbox.commands.append(command)
      curl_multi_wakeup(UnsafeMutableRawPointer(multi))
      return false
    }
    if isRefused, case .start(let transfer) = command { transfer.end(.cancelled) }
  }

  // MARK: On the thread

  private func run() {
    let multi = UnsafeMutableRawPointer(multi)
    var transfers = RunningTransfers(multi, configuration, experience)
    var isStopping = false
    while !isStopping {
      for command in inbox.withLock({ exchange(&$0.commands, with: []) }) {
        switch command {
        case .start(let transfer): transfers.start(transfer)
        case .cancel(let transfer): transfers.cancel(transfer)
        case .stop: isStopping = true
        }
      }
      transfers.receive()
      transfers.endFinished()
      let isAnswerAwaited = transfers.endLate(at: SuspendingClock.now)
      if !isStopping, inbox.withLock({ $0.commands.isEmpty }) {
        curl_multi_poll(multi, nil, 0, isAnswerAwaited ? 100 : 1000, nil)
      }
    }
    let refused = inbox.withLock { inbox in
      inbox.isClosed = true
      return exchange(&inbox.commands, with: [])
    }
    for command in refused {
      if case .start(let transfer) = command { transfer.end(.cancelled) }
    }
    transfers.endAll()
    curl_multi_cleanup(multi)
  }
}

/// The transfers that an engine has under way, with the handles that they run on and those that wait for the next. Used
/// by the engine's thread alone; a transfer that is told its end is in none of the books any more.
private struct RunningTransfers {
  // Dependencies
  private let multi: UnsafeMutableRawPointer
  private let configuration: CurlEngine.Configuration
  private let experience: CurlEngine.Experience
  private let collector: BodyCollector
  // Mutable state
  private var active: [UnsafeMutableRawPointer: CurlTransfer] = [:]
  private var idle: [CurlHandle] = []

  init(
    _ multi: UnsafeMutableRawPointer, _ configuration: CurlEngine.Configuration,
    _ experience: CurlEngine.Experience
  ) {
    self.multi = multi
    self.configuration = configuration
    self.experience = experience
    collector = BodyCollector(capacityInBytes: configuration.receiveBufferSizeInBytes)
  }

  mutating func start(_ transfer: CurlTransfer) {
    guard let handle = idle.popLast() ?? CurlHandle() else {
      return transfer.end(.failed(code: CURLE_OUT_OF_MEMORY, text: "out of memory"))
    }
    handle.prepare(transfer, configuration)
    let code = curl_multi_add_handle(multi, handle.raw)
    guard code == CURLM_OK else {
      idle.append(handle)
      return transfer.end(
        .failed(code: CURLE_OUT_OF_MEMORY, text: String(cString: curl_multi_strerror(code))))
    }
    transfer.began = SuspendingClock.now
    active[handle.raw] = transfer
    transfer.handle = handle
    transfer.collector = collector
  }

  mutating func cancel(_ transfer: CurlTransfer) {
    if transfer.handle != nil { release(transfer).end(.cancelled) }
  }

  /// Takes what the sockets have, and hands it on.
  func receive() {
    var running: Int32 = 0
    curl_multi_perform(multi, &running)
    collector.flush()
  }

  /// Ends the transfers that curl is done with.
  mutating func endFinished() {
    var remaining: Int32 = 0
    while let message = curl_multi_info_read(multi, &remaining) {
      guard message.pointee.msg == CURLMSG_DONE, let raw = message.pointee.easy_handle,
        let transfer = active[raw], let handle = transfer.handle
      else { continue }
      // The message is gone with the handle.
      let code = inventoryfs_message_result(message)
      let text = handle.errorText(code)
      if let firstByte = transfer.firstByte {
        experience.patience.withLock { $0.note(firstByte - transfer.began) }
        let time = SuspendingClock.now - firstByte
        experience.usualSpeed.withLock { $0.noteBody(transfer.receivedInBytes, in: time) }
      }
      let isDone = code == CURLE_OK && !transfer.isRefused
      release(transfer).end(isDone ? .done : .failed(code: code, text: text))
    }
  }

  /// Ends the transfers whose receiver wants no more, and those that are better asked for anew.
  ///
  /// - Returns: whether some answer had not begun, so that its time may soon be over.
  mutating func endLate(at now: SuspendingClock.Instant) -> Bool {
    var isAnswerAwaited = false
    for transfer in active.values {
      isAnswerAwaited = isAnswerAwaited || transfer.firstByte == nil
      if transfer.isRefused {
        release(transfer).end(.failed(code: CURLE_WRITE_ERROR, text: "refused"))
      } else if let reason = transfer.lateness(at: now, experience) {
        release(transfer).end(.failed(code: CURLE_OPERATION_TIMEDOUT, text: reason))
      }
    }
    return isAnswerAwaited
  }

  /// Cancels all transfers and frees the handles, which must not outlive the multi handle.
  mutating func endAll() {
    for transfer in active.values { release(transfer).end(.cancelled) }
    idle.removeAll()
  }

  private mutating func release(_ transfer: CurlTransfer) -> CurlTransfer {
    guard let handle = transfer.handle else { return transfer }
    active[handle.raw] = nil
    curl_multi_remove_handle(multi, handle.raw)
    transfer.handle = nil
    transfer.collector = nil
    idle.append(handle)
    return transfer
  }
}

/// One HTTP request and what becomes of it. Its closures are called on the engine's thread, except that `onEnd` is called
/// by who submits a transfer to an engine that has stopped.
final class CurlTransfer: @unchecked Sendable {
  enum Ending {
    case done
    case failed(code: CURLcode, text: String)
    case cancelled
  }

  let url: String
  let headers: [String]
  let isHead: Bool
  /// How often this has been asked for, this time included.
  let attempt: Int
  /// One header line, without its line end; an empty one ends the head. False ends the transfer.
  let onHeader: (UnsafeRawBufferPointer) -> Bool
  /// Bytes of the body, valid during the call. False ends the transfer.
  private let onBody: (UnsafeRawBufferPointer) -> Bool
  private let onEnd: (Ending) -> Void

  // Used by the engine's thread alone, which makes the class safe to hand about: everything above is constant.

  /// While the transfer runs.
  fileprivate var handle: CurlHandle?
  fileprivate var collector: BodyCollector?
  /// The receiver wants no more.
  private(set) var isRefused = false
  fileprivate var began = SuspendingClock.now
  fileprivate var firstByte: SuspendingClock.Instant?
  /// Of the body.
  fileprivate var receivedInBytes = 0
  /// When the speed was last looked at, and how much had come by then.
  private var look: (at: SuspendingClock.Instant, receivedInBytes: Int)?

  init(
    url: String, headers: [String], isHead: Bool, attempt: Int = 1,
    onHeader: @escaping @Sendable (UnsafeRawBufferPointer) -> Bool,
    onBody: @escaping @Sendable (UnsafeRawBufferPointer) -> Bool,
    onEnd: @escaping @Sendable (Ending) -> Void
  ) {
    self.url = url
    self.headers = headers
    self.isHead = isHead
    self.attempt = attempt
    self.onHeader = onHeader
    self.onBody = onBody
    self.onEnd = onEnd
  }

  /// Why the rest is better asked for anew; nil where it is not.
  fileprivate func lateness(
    at now: SuspendingClock.Instant, _ experience: CurlEngine.Experience
  ) -> String? {
    guard let firstByte else {
      let limit = experience.patience.withLock { $0.timeout(attempt: attempt) }
      return now - began > limit ? "no answer within \(limit)" : nil
    }
    let last = look ?? (firstByte, 0)
    let time = now - last.at
    guard time >= UsualSpeed.window else { return nil }
    look = (now, receivedInBytes)
    let count = receivedInBytes - last.receivedInBytes
    let isStraggler = experience.usualSpeed.withLock {
      $0.isStraggler(count, in: time, attempt: attempt)
    }
    return isStraggler
      ? "only \(count) bytes within \(time), far less than is usual" : nil
  }

  func deliver(_ body: UnsafeRawBufferPointer) { if !isRefused { isRefused = !onBody(body) } }

  fileprivate func end(_ ending: Ending) { onEnd(ending) }
}

/// Owns one curl easy handle, its header list and its error buffer.
private final class CurlHandle {
  let raw: UnsafeMutableRawPointer
  private var headers: UnsafeMutablePointer<curl_slist>?
  private let errorBuffer: UnsafeMutablePointer<CChar>

  init?() {
    guard let raw = curl_easy_init() else { return nil }
    self.raw = raw
    errorBuffer = .allocate(capacity: Int(CURL_ERROR_SIZE))
  }

  deinit {
    curl_easy_cleanup(raw)
    curl_slist_free_all(headers)
    errorBuffer.deallocate()
  }

  /// Sets the handle up for a transfer. The transfer is kept alive by the engine for as long as curl may call back.
  func prepare(_ transfer: CurlTransfer, _ configuration: CurlEngine.Configuration) {
    // Connections, DNS answers and TLS sessions belong to the multi handle and stay.
    curl_easy_reset(raw)
    curl_slist_free_all(headers)
    headers = nil
    for header in transfer.headers { headers = curl_slist_append(headers, header) ?? headers }
    errorBuffer[0] = 0
    let context = Unmanaged.passUnretained(transfer).toOpaque()
    inventoryfs_setopt_string(raw, CURLOPT_URL, transfer.url)
    inventoryfs_setopt_headers(raw, headers)
    inventoryfs_setopt_pointer(raw, CURLOPT_ERRORBUFFER, errorBuffer)
    inventoryfs_setopt_header(raw, receiveHeader, context)
    inventoryfs_setopt_write(raw, receiveBody, context)
    inventoryfs_setopt_long(raw, CURLOPT_NOBODY, transfer.isHead ? 1 : 0)
    inventoryfs_setopt_long(raw, CURLOPT_BUFFERSIZE, configuration.receiveBufferSizeInBytes)
    inventoryfs_setopt_long(raw, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
    // A key may hold "..", which is a name like any other.
    inventoryfs_setopt_long(raw, CURLOPT_PATH_AS_IS, 1)
    // Credentials go to the endpoint and nowhere else.
    inventoryfs_setopt_long(raw, CURLOPT_FOLLOWLOCATION, 0)
    inventoryfs_setopt_string(raw, CURLOPT_PROTOCOLS_STR, "http,https")
    // What a proxy answers to CONNECT is not the store's answer.
    inventoryfs_setopt_long(raw, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
    inventoryfs_setopt_long(raw, CURLOPT_NOSIGNAL, 1)
    // A transfer that ends while a name is being looked up does not wait for the name server: taking the handle from the
    // multi handle would join the thread that asks it, and hold up all transfers of this one.
    inventoryfs_setopt_long(raw, CURLOPT_QUICK_EXIT, 1)
    inventoryfs_setopt_long(raw, CURLOPT_TCP_KEEPALIVE, 1)
    inventoryfs_setopt_long(
      raw, CURLOPT_CONNECTTIMEOUT_MS, configuration.connectTimeout.inMilliseconds)
    inventoryfs_setopt_long(raw, CURLOPT_LOW_SPEED_LIMIT, configuration.stallBytesPerSecond)
    inventoryfs_setopt_long(
      raw, CURLOPT_LOW_SPEED_TIME, max(1, configuration.stallTimeout.inMilliseconds / 1000))
  }

  /// What curl has to say about a failure, in its own words.
  func errorText(_ code: CURLcode) -> String {
    if code == CURLE_OK { return "" }
    let detail = String(cString: errorBuffer)
    return detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
  }
}

// libcurl calls these on the engine's thread, with the transfer that `prepare` gave it: alive, because the engine
// holds it until it has taken the handle from the multi handle.

private func receiveHeader(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
  _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context, let bytes else { return 0 }
  let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
  if transfer.firstByte == nil { transfer.firstByte = SuspendingClock.now }
  var length = size * count
  while length > 0, bytes[length - 1] == 10 || bytes[length - 1] == 13 { length -= 1 }
  return transfer.onHeader(UnsafeRawBufferPointer(start: bytes, count: length)) ? size * count : 0
}

private func receiveBody(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
  _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context, let bytes else { return 0 }
  let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
  let body = UnsafeRawBufferPointer(start: bytes, count: size * count)
  transfer.receivedInBytes += body.count
  transfer.collector?.append(body, of: transfer)
  // Anything but the count ends the transfer with CURLE_WRITE_ERROR.
  return transfer.isRefused ? 0 : body.count
}
