import CCurl
import Locks
import Posix

/// Runs HTTP transfers on one thread, with one curl multi handle.
///
/// A transfer's work is moving bytes from a socket to a file, of which one core does about 1 GB/s;
/// where the network brings more, several engines share the transfers (`EnginePool`). Requests come
/// in from any thread through `submit` and `cancel`, which wake the thread; a transfer's callbacks
/// are called on the thread, one at a time, and must not block for long.
///
/// Connections are kept alive and reused, HTTP/1.1 only: with HTTP/2 curl would send all parts down
/// one connection, whose rate S3 limits to that of one.
///
/// **Memory.** An easy handle owns one receive buffer and is itself reused; there are never more
/// handles than transfers at once, so the engine holds at most `maxTransfers ×
/// (receiveBufferSizeInBytes + curl's own state)`, and one more such buffer, in which the pieces of
/// a body are joined (`BodyCollector`).
package final class CurlEngine: Sendable {
  private enum Command {
    case start(CurlTransfer)
    case cancel(CurlTransfer)
    case stop
  }

  /// What other threads ask the engine's thread to do.
  private struct Inbox {
    var commands: [Command] = []
    /// Whether the thread takes no more requests, because it frees the multi handle.
    var isClosed = false
  }

  private let configuration: Configuration
  private let experience: Experience
  private let inbox = Lock(Inbox())
  // Created by `init`, used by the engine's thread alone except for `curl_multi_wakeup`, which
  // libcurl documents as safe from any thread, and which is called under the lock of the inbox as
  // long as that is open. The thread closes the inbox before it frees the handle.
  private nonisolated(unsafe) let multi: OpaquePointer
  private let thread = Lock<PosixThread?>(nil)

  /// Returns nil when libcurl cannot be set up or the system has no memory or threads left.
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
      transfers.beginWaiting()
      transfers.receive()
      transfers.endFinished()
      let isAnswerAwaited = transfers.endLate(at: SuspendingClock.now)
      if !isStopping, !transfers.canBeginNext, inbox.withLock({ $0.commands.isEmpty }) {
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
