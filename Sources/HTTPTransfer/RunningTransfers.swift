import CCurl
import Locks

/// The transfers that an engine has under way, with the handles that they run on and those that
/// wait for the next. Only the engine's thread uses it; a transfer has been removed from it when
/// its `onEnd` is called.
struct RunningTransfers {
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
    active[handle.raw] = transfer
    transfer.handle = handle
    transfer.collector = collector
  }

  mutating func cancel(_ transfer: CurlTransfer) {
    if transfer.handle != nil { release(transfer).end(.cancelled) }
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
      if let firstByte = transfer.firstByte {
        experience.patience.withLock { $0.note(firstByte - transfer.began) }
        let time = SuspendingClock.now - firstByte
        experience.usualSpeed.withLock { $0.noteBody(transfer.receivedInBytes, in: time) }
      }
      let isDone = code == CURLE_OK && !transfer.isRefused
      release(transfer).end(isDone ? .done : .failed(ConnectionProblem(code), text: text))
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
