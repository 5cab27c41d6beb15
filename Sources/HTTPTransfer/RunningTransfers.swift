import CCurl
import Locks
import Posix

/// The transfers of an engine: those under way, with the handles that they run on, and those that
/// wait for one of these to end. Only the engine's thread uses it; a transfer has been removed from
/// it when its `onEnd` is called.
///
/// libcurl is given no more transfers than there may be connections. It would queue the others
/// itself, and their times (to connect, to the first byte) would begin before they are sent.
struct RunningTransfers {
  // Dependencies
  private let multi: UnsafeMutableRawPointer
  private let configuration: CurlEngine.Configuration
  private let experience: CurlEngine.Experience
  private let collector: BodyCollector
  // Mutable state
  private var active: [UnsafeMutableRawPointer: CurlTransfer] = [:]
  /// The transfers that have no connection yet, the oldest first.
  private var waiting: [CurlTransfer] = []
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

  /// Whether a waiting transfer can begin, because another has ended.
  var canBeginNext: Bool { !waiting.isEmpty && active.count < configuration.maxConnections }

  mutating func start(_ transfer: CurlTransfer) { waiting.append(transfer) }

  /// Begins the transfers that have waited longest, as far as there are connections for them.
  mutating func beginWaiting() {
    while canBeginNext { begin(waiting.removeFirst()) }
  }

  private mutating func begin(_ transfer: CurlTransfer) {
    guard let handle = idle.popLast() ?? CurlHandle() else {
      return transfer.end(.failed(.broken, text: "out of memory"))
    }
    handle.prepare(transfer, configuration)
    let code = curl_multi_add_handle(multi, handle.raw)
    guard code == CURLM_OK else {
      idle.append(handle)
      return transfer.end(
        .failed(.broken, text: String(cString: curl_multi_strerror(code))))
    }
    transfer.began = SuspendingClock.now
    transfer.onBegin()
    active[handle.raw] = transfer
    transfer.handle = handle
    transfer.collector = collector
  }

  mutating func cancel(_ transfer: CurlTransfer) {
    if transfer.handle != nil {
      release(transfer).end(.cancelled)
    } else if let place = waiting.firstIndex(where: { $0 === transfer }) {
      waiting.remove(at: place).end(.cancelled)
    }
  }

  /// Reads the bytes that have arrived on the sockets, and hands them to the receivers.
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
      if let firstByte = transfer.firstByte, let began = transfer.began {
        experience.patience.withLock { $0.note(firstByte - began) }
        let time = SuspendingClock.now - firstByte
        experience.usualSpeed.withLock { $0.noteBody(transfer.receivedInBytes, in: time) }
      }
      let isDone = code == CURLE_OK && !transfer.isRefused
      if isDone {
        release(transfer).end(.done)
      } else if transfer.firstByte == nil, let shortage = transfer.shortage ?? shortage(code) {
        release(transfer).end(.failed(.noDescriptors, text: "\(shortage)"))
      } else {
        release(transfer).end(.failed(ConnectionProblem(code), text: text))
      }
    }
  }

  /// The shortage of descriptors that may have caused a failure before any response: resolving a
  /// name and reading certificates need some too.
  private func shortage(_ code: CURLcode) -> DescriptorShortage? {
    switch code {
    case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_SSL_CACERT_BADFILE,
      CURLE_PEER_FAILED_VERIFICATION, CURLE_FAILED_INIT, CURLE_OUT_OF_MEMORY:
      DescriptorShortage.now
    default: nil
    }
  }

  /// Ends the transfers whose receiver refuses further bytes, and those that are too late or too
  /// slow, so that they are sent again.
  ///
  /// - Returns: whether some response had not begun, so that its timeout may soon pass.
  mutating func endLate(at now: SuspendingClock.Instant) -> Bool {
    var isAnswerAwaited = false
    for transfer in active.values {
      isAnswerAwaited = isAnswerAwaited || transfer.firstByte == nil
      if transfer.isRefused {
        release(transfer).end(.failed(.broken, text: "refused"))
      } else if let reason = transfer.lateness(at: now, experience) {
        release(transfer).end(.failed(.timeout, text: reason))
      }
    }
    return isAnswerAwaited
  }

  /// Cancels all transfers and frees the handles, which must not outlive the multi handle.
  mutating func endAll() {
    for transfer in exchange(&waiting, with: []) { transfer.end(.cancelled) }
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
