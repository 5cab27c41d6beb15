import Logging
import NIOCore
import NIOHTTP1

/// The handler of one connection: it takes a request, lets the thread pool make the answer, and
/// sends that as the fault plan demands. The pipeline in front of it delivers the next request only
/// after the answer to this one, so there is at most one request at a time.
final class ConnectionHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// The largest body that is kept. Only fault plans are sent with a body; the rest of a larger
  /// body is dropped.
  private static let mostBodyBytesKept = 1 << 20

  private let service: OriginService
  private let listener: Listener

  private var connection = 0
  private var clientAddress = ""
  private var head: HTTPRequestHead?
  private var body = ByteBuffer()
  /// The number of the request that is being answered, if it is in the ledger.
  private var openRecord: Int?

  init(service: OriginService, listener: Listener) {
    self.service = service
    self.listener = listener
  }

  // MARK: The channel's events

  func channelActive(context: ChannelHandlerContext) {
    connection = service.connections.opened(context.channel)
    let address = context.remoteAddress
    clientAddress = "\(address?.ipAddress ?? ""):\(address?.port ?? 0)"
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    finishRecord()
    service.connections.closed(connection)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    service.configuration.logger.debug(
      "connection \(connection) from \(clientAddress) broke: \(error)")
    context.close(promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch Self.unwrapInboundIn(data) {
    case .head(var head):
      body.clear()
      if head.headers.contains(name: "expect") {
        // No body is wanted, so the answer comes instead of "100 Continue", and the end after it.
        head.headers.replaceOrAdd(name: "Connection", value: "close")
        take(head, context)
      } else {
        self.head = head
      }
    case .body(var part):
      guard head != nil, body.readableBytes + part.readableBytes <= Self.mostBodyBytesKept else {
        return
      }
      body.writeBuffer(&part)
    case .end:
      guard let head else { return }
      self.head = nil
      take(head, context)
    }
  }

  // MARK: From a request to its answer

  private func take(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    if head.uri.hasPrefix(AdminInterface.prefix) {
      return administer(head, context)
    }
    do throws(S3Error) {
      let request = try S3Request(head, hasBucket: service.store.hasBucket)
      takeObjectRequest(request, context)
    } catch {
      let record = openRecord(
        head, operation: .unsupported, bucket: "", key: head.uri)
      send(Answer(error, to: head, requestID: record.requestID), record, head, nil, context)
    }
  }

  private func administer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    let body = String(buffer: body)
    // Other event loops first record the requests that they have served.
    listener.settled(on: context.eventLoop).assumeIsolated().whenComplete { _ in
      let answer = AdminInterface(service: self.service).answer(head, body: body)
      self.send(answer, nil, head, nil, context)
    }
  }

  private func takeObjectRequest(_ request: S3Request, _ context: ChannelHandlerContext) {
    let record = openRecord(
      request.head, operation: request.operation, bucket: request.bucket, key: request.key)
    service.configuration.willAnswer?(record)
    let fault = service.nextFault(for: request)
    if let fault {
      service.ledger.update(record.number) { $0.fault = fault.kind.rawValue }
    }

    var delay = service.configuration.firstByteDelay
    switch fault {
    case .hangBeforeHead: return
    case .refuse(let duration):
      listener.refuse(for: duration).hop(to: context.eventLoop).assumeIsolated()
        .whenComplete { _ in context.close(promise: nil) }
      return
    case .delay(let more): delay += more
    default: break
    }
    let service = service
    let answer: () -> Void = {
      self.listener.threadPool.runIfActive(eventLoop: context.eventLoop) {
        service.answer(request, fault: fault, requestID: record.requestID)
      }.assumeIsolated().whenSuccess { answer in
        self.send(answer, record, request.head, fault, context)
      }
    }
    if delay > .zero {
      context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(delay), answer)
    } else {
      answer()
    }
  }

  private func send(
    _ answer: Answer, _ record: RequestRecord?, _ request: HTTPRequestHead, _ fault: Fault?,
    _ context: ChannelHandlerContext
  ) {
    guard context.channel.isActive else { return }
    var delivery = Delivery(
      answer, fault: fault, bytesPerSecond: service.configuration.bytesPerSecond)
    let status = HTTPResponseStatus(statusCode: answer.status)
    if !status.mayHaveResponseBody { delivery.dropBody() }
    if let record {
      service.ledger.update(record.number) { record in
        record.status = answer.status
        record.objectBytesAsked = answer.objectBytesAsked
        record.objectBytesAnswered = answer.objectBytesAnswered
      }
    }

    let isKeptAlive = request.isKeepAlive
    var headers = delivery.answer.headers
    service.addCommonHeaders(to: &headers, requestID: record?.requestID ?? "-")
    if !isKeptAlive { headers.add(name: "Connection", value: "close") }
    let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
    context.write(Self.wrapOutboundOut(.head(head)), promise: nil)

    let ending = delivery.ending
    BodySender(
      delivery, context: context,
      didSend: { count in
        if let record {
          self.service.ledger.update(record.number) { $0.bodyBytesSent += count }
        }
      },
      didEnd: {
        guard ending == .complete else { return self.finishRecord() }
        context.writeAndFlush(Self.wrapOutboundOut(.end(nil))).assumeIsolated()
          .whenComplete { _ in
            if !isKeptAlive { context.close(promise: nil) }
          }
        self.finishRecord()
      }
    ).start()
  }

  // MARK: The ledger

  private func openRecord(
    _ head: HTTPRequestHead, operation: S3Operation, bucket: String, key: String
  ) -> RequestRecord {
    let record = service.ledger.open { number in
      RequestRecord(
        number: number, connection: connection, clientAddress: clientAddress,
        method: head.method.rawValue, operation: operation, bucket: bucket, key: key,
        rangeAsked: head.headers.first(name: "range"),
        ifMatch: head.headers.first(name: "if-match"))
    }
    openRecord = record.number
    return record
  }

  private func finishRecord() {
    guard let number = openRecord else { return }
    openRecord = nil
    if let record = service.ledger.update(number, { $0.isFinished = true }) {
      service.configuration.didAnswer?(record)
    }
  }
}
