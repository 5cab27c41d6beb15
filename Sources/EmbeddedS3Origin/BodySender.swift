import Glibc
import NIOCore
import NIOHTTP1

/// Sends one body in pieces, the next one when the kernel has taken the one before the last (at a
/// set pace: the last), so that memory stays bounded by two pieces (none at all for files, which go
/// by sendfile(2)) and the count of bytes sent is right to a piece.
///
/// It belongs to one connection's event loop.
final class BodySender {
  /// The size of a piece, large enough that the work per piece does not matter, small enough for
  /// the precision of the count.
  private static let pieceSizeInBytes = 1 << 18
  private static let mostPiecesInFlight = 2
  /// The rate of pieces at a set pace, unless that is so slow that a piece is one byte.
  private static let piecesPerSecond = 20

  private let context: ChannelHandlerContext
  private let delivery: Delivery
  private let didSend: (_ byteCount: Int) -> Void
  private let didEnd: () -> Void

  private var position = 0
  /// When the body would have begun, had it gone out at its pace ever since.
  private var startTime = NIODeadline.now()
  private var piecesInFlight = 0
  private var isPumping = false
  private var isOver = false

  /// - Parameters:
  ///   - didSend: called after each piece.
  ///   - didEnd: called once, when the kernel has taken the last byte; never if the connection
  ///     breaks before that.
  init(
    _ delivery: Delivery, context: ChannelHandlerContext,
    didSend: @escaping (_ byteCount: Int) -> Void, didEnd: @escaping () -> Void
  ) {
    self.delivery = delivery
    self.context = context
    self.didSend = didSend
    self.didEnd = didEnd
  }

  func start() {
    guard delivery.answer.body.sizeInBytes > 0 else { return end() }
    startTime = .now()
    // The head does not wait for the first piece, which may be due much later.
    context.flush()
    pump()
  }

  private func pump() {
    if let bytesPerSecond = delivery.bytesPerSecond { return sendPiece(at: bytesPerSecond) }
    // A write may complete at once, and then calls back from within this loop.
    guard !isPumping else { return }
    isPumping = true
    defer { isPumping = false }
    repeat {
      send(nextPiece(ofAtMost: Self.pieceSizeInBytes))
    } while !isOver && piecesInFlight < Self.mostPiecesInFlight
      && position < delivery.answer.body.sizeInBytes
  }

  /// Sends the next piece when its last byte is due.
  private func sendPiece(at bytesPerSecond: Int) {
    let piece = nextPiece(
      ofAtMost: min(Self.pieceSizeInBytes, max(1, bytesPerSecond / Self.piecesPerSecond)))
    func time(for count: Int) -> TimeAmount {
      .nanoseconds(Int64(min(Double(count) / Double(bytesPerSecond), 1e9) * 1e9))
    }
    let due = startTime + time(for: piece.upperBound)
    context.eventLoop.assumeIsolated().scheduleTask(deadline: due) {
      guard !self.isOver else { return }
      // A burst does not make up for the delays of a slow client or a busy loop, only for a short
      // delay of the timer.
      let late = NIODeadline.now() - due
      if late > time(for: piece.count) { self.startTime = self.startTime + late }
      self.send(piece)
    }
  }

  private func nextPiece(ofAtMost size: Int) -> Range<Int> {
    let end = min(delivery.answer.body.sizeInBytes, position + size)
    defer { position = end }
    return position..<end
  }

  private func send(_ piece: Range<Int>) {
    piecesInFlight += 1
    context.writeAndFlush(ConnectionHandler.wrapOutboundOut(.body(outgoing(piece))))
      .assumeIsolated().whenComplete { outcome in
        self.piecesInFlight -= 1
        guard case .success = outcome, !self.isOver else {
          self.isOver = true
          return
        }
        self.didSend(piece.count)
        if self.position < self.delivery.answer.body.sizeInBytes {
          self.pump()
        } else if self.piecesInFlight == 0 {
          self.end()
        }
      }
  }

  private func outgoing(_ piece: Range<Int>) -> IOData {
    let content = delivery.answer.body[piece]
    guard let offset = delivery.spoiltOffset, piece.contains(offset) else {
      return content.outgoing()
    }
    var bytes = content.bytes()
    let index = bytes.readerIndex + offset - piece.lowerBound
    if let byte = bytes.getInteger(at: index, as: UInt8.self) {
      bytes.setInteger(byte ^ 1, at: index)
    }
    return .byteBuffer(bytes)
  }

  private func end() {
    guard !isOver else { return }
    isOver = true
    switch delivery.ending {
    case .complete:
      didEnd()
    case .cut:
      context.flush()
      didEnd()
      context.close(promise: nil)
    case .reset:
      context.flush()
      didEnd()
      reset()
    case .stall:
      context.flush()
      didEnd()
    }
  }

  /// A reset throws away what is still in the send buffer, so it waits until the client's kernel
  /// has acknowledged everything, however long the client takes to read, or the connection ends.
  private func reset() {
    guard context.channel.isActive, let socket = context.channel as? any SocketOptionProvider
    else { return }
    let info: EventLoopFuture<TCPInfo> = socket.unsafeGetSocketOption(
      level: .tcp, name: .init(rawValue: TCP_INFO))
    info.assumeIsolated().whenComplete { outcome in
      if let info = try? outcome.get(), info.hasUndeliveredBytes {
        self.context.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(5)) {
          self.reset()
        }
        return
      }
      socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).assumeIsolated().whenComplete { _ in
        self.context.close(promise: nil)
      }
    }
  }
}

/// The beginning of Linux's `struct tcp_info` (linux/tcp.h), which glibc's ends before the part
/// that is needed here.
private struct TCPInfo: Sendable {
  /// The structure as 32-bit words, of which the kernel fills as many as it knows.
  private var words = SIMD64<UInt32>()

  /// Whether segments are unacknowledged (tcpi_unacked) or bytes are not even sent
  /// (tcpi_notsent_bytes): while the client's window is closed only the latter is set.
  var hasUndeliveredBytes: Bool { words[6] > 0 || words[36] > 0 }
}
