import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix

/// The listening socket and the threads of one run of the server, from start to stop.
final class Listener: Sendable {
  private static let address = "127.0.0.1"
  private static let rebindInterval = TimeAmount.milliseconds(20)

  private struct State {
    /// The listening socket; nil while connections are refused.
    var socket: (any Channel)?
    var port = 0
    var isStopped = false
  }

  let threadPool: NIOThreadPool
  private let group: MultiThreadedEventLoopGroup
  private let service: OriginService
  private let state = NIOLockedValueBox(State())

  init(service: OriginService) {
    self.service = service
    let threads = max(1, service.configuration.threads)
    group = MultiThreadedEventLoopGroup(numberOfThreads: threads)
    // Looking up an object takes microseconds; the second thread is for when one of them reads a
    // large file for its ETag.
    threadPool = NIOThreadPool(numberOfThreads: threads + 1)
    threadPool.start()
  }

  var port: Int { state.withLockedValue { $0.port } }

  /// Returns once the port accepts connections.
  func start() async throws(OriginError) {
    let port = service.configuration.port
    do {
      let socket = try await bind(port: port).get()
      state.withLockedValue { state in
        state.socket = socket
        state.port = socket.localAddress?.port ?? port
      }
    } catch {
      await stop()
      throw .cannotListen(port: port, reason: "\(error)")
    }
  }

  /// Closes every socket and ends every thread.
  func stop() async {
    let socket = state.withLockedValue { state in
      state.isStopped = true
      return state.socket.take()
    }
    try? await socket?.close().get()
    // A connection that was accepted a moment ago is still on its way to its event loop, which
    // would not take it any more: it would be left open, without a thread to serve or to close it.
    await settle()
    // The pool first, since what it has in hand goes back to an event loop. The group then closes
    // the connections that are still open.
    try? await threadPool.shutdownGracefully()
    try? await group.shutdownGracefully()
  }

  /// Closes the socket for a while. The result is there when the socket is closed, or has been for
  /// another refusal, which then decides the end.
  func refuse(for duration: Duration) -> EventLoopFuture<Void> {
    guard let socket = state.withLockedValue({ $0.socket.take() }) else {
      return group.next().makeSucceededVoidFuture()
    }
    let closed = socket.close()
    closed.whenComplete { _ in
      socket.eventLoop.scheduleTask(in: TimeAmount(duration)) { self.listenAgain() }
    }
    return closed
  }

  /// Waits until every event loop has done the work that was pending at the call: the ledger then
  /// has every byte that a client has received.
  func settled(on eventLoop: any EventLoop) -> EventLoopFuture<Void> {
    let loops = Array(group.makeIterator())
    return EventLoopFuture.andAllComplete(loops.map { $0.submit {} }, on: eventLoop)
  }

  func settle() async {
    try? await settled(on: group.next()).get()
  }

  private func listenAgain() {
    let port = port
    bind(port: port).whenComplete { outcome in
      let isStopped = self.state.withLockedValue { state in
        if !state.isStopped { state.socket = try? outcome.get() }
        return state.isStopped
      }
      switch outcome {
      case .success(let socket):
        if isStopped { socket.close(promise: nil) }
      case .failure(let error) where !isStopped:
        self.service.configuration.logger.warning("cannot listen on port \(port) again: \(error)")
        self.group.next().scheduleTask(in: Self.rebindInterval) { self.listenAgain() }
      case .failure: break
      }
    }
  }

  private func bind(port: Int) -> EventLoopFuture<any Channel> {
    let service = service
    return ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 1024)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.configureHTTPServerPipeline()
          try pipeline.addHandler(ConnectionHandler(service: service, listener: self))
        }
      }
      .bind(host: Self.address, port: port)
  }
}
