import HTTPTransfer
import PrintableText

/// Reads one response as it arrives and compares it with the request: status, range and length. A
/// matching response goes to the receiver; any other becomes a `StoreError`. One network thread
/// uses it.
final class AnswerCheck: @unchecked Sendable {
  private let request: ObjectRequest
  private let endpoint: S3Endpoint
  private let awsCommand: String
  private let isHead: Bool
  private let receiver: any ObjectReceiver
  /// Whether a refusal led to a corrected request, whose response then goes to the receiver
  /// instead.
  private let isCorrected: (StoreError, ResponseHead) -> Bool

  // Touched on a network thread only.
  private var head = ResponseHead()
  private var refusalBody: [UInt8] = []
  private var isRefusal = false
  private var received = 0
  /// Whether a response began.
  private var hasHead: Bool { head.status != 0 }
  /// How many bytes the body must have; nil until the head is known.
  private var expected: Int?
  private var problem: StoreError.Kind?

  init(
    _ request: ObjectRequest, _ endpoint: S3Endpoint, awsCommand: String, isHead: Bool,
    _ receiver: any ObjectReceiver,
    isCorrected: @escaping (StoreError, ResponseHead) -> Bool
  ) {
    self.isCorrected = isCorrected
    self.request = request
    self.endpoint = endpoint
    self.awsCommand = awsCommand
    self.isHead = isHead
    self.receiver = receiver
  }

  func header(_ line: UnsafeRawBufferPointer) -> Bool {
    guard line.isEmpty else {
      // A status line begins a new head: an interim answer (100 Continue) may come before the final
      // one.
      if line.starts(with: "HTTP/".utf8) { head = ResponseHead() }
      head.take(line: line)
      return true
    }
    if (100..<200).contains(head.status) { return true }
    isRefusal = !(200..<300).contains(head.status)
    if isRefusal { return true }
    problem = wrongSize() ?? (head.malformation ?? mismatch()).map { .malformedAnswer($0) }
    return problem == nil && receiver.accept(head)
  }

  func body(_ bytes: UnsafeRawBufferPointer) -> Bool {
    if isRefusal {
      refusalBody += bytes.prefix(S3ErrorBody.maximumSizeInBytes - refusalBody.count)
      return refusalBody.count < S3ErrorBody.maximumSizeInBytes
    }
    if let expected, bytes.count > expected - received {
      problem = .malformedAnswer("expected a body of \(expected) bytes, found a longer one")
      return false
    }
    guard receiver.receive(bytes) else { return false }
    received += bytes.count
    return true
  }

  /// Whether the response has all that is needed although the transfer may not have ended properly:
  /// the head of a refusal, whose body may be endless, cut off or stalled, or all bytes of a range
  /// after which the connection broke.
  private var isComplete: Bool {
    isRefusal || problem == nil && request.range != nil && received == expected
  }

  func end(_ ending: CurlTransfer.Ending) {
    switch ending {
    case .cancelled:
      finish(.cancelled)
    case .failed(let connectionProblem, let text) where !isComplete:
      // This object ended the transfer for a known problem; a receiver that refused knows its own.
      if let problem { return finish(problem) }
      finish(.connection(connectionProblem, text: "\(endpoint): \(text)"))
    case .done, .failed:
      if isRefusal {
        if let wrongSize = wrongSize() { return finish(wrongSize) }
        let error = StoreError.answer(
          to: request.location, head: head, body: refusalBody, awsCommand: awsCommand)
        return isCorrected(error, head) ? () : receiver.finish(.failure(error))
      }
      if let expected, received < expected, !isHead {
        return finish(
          .connection(.broken, text: "received \(received) of \(expected) bytes"))
      }
      receiver.finish(.success(()))
    }
  }

  /// Status and bytes of the response, or the reason why there is none, for the trace of requests.
  func summary(_ ending: CurlTransfer.Ending) -> String {
    let count = isRefusal ? refusalBody.count : received
    let response = hasHead ? "HTTP \(head.status), \(count) bytes" : "no response"
    return switch ending {
    case .done: response
    case .cancelled: "\(response), cancelled"
    case .failed where problem != nil || isComplete: response
    case .failed(_, let text): "\(response), failed: \(printable(text, limit: 300))"
    }
  }

  private func finish(_ kind: StoreError.Kind) {
    let status = head.status == 0 ? nil : head.status
    let error = StoreError(
      kind, object: request.location, httpStatus: status, requestID: head.requestID)
    receiver.finish(.failure(error))
  }

  /// The error for an object of unexpected length. It is checked first, because such an object
  /// cannot give the requested range.
  private func wrongSize() -> StoreError.Kind? {
    guard let expected = request.objectSizeInBytes else { return nil }
    let found =
      head.contentRange?.totalSizeInBytes ?? (head.status == 200 ? head.contentLength : nil)
    guard let found, found != UInt64(expected) else { return nil }
    return .wrongSize(expectedInBytes: UInt64(expected), foundInBytes: found)
  }

  /// The difference between a successful response's head and the request; nil when they match.
  private func mismatch() -> String? {
    expected = head.contentLength.map { Int(clamping: $0) }
    guard let range = request.range else {
      return head.status == 200 ? nil : "expected status 200, found \(head.status)"
    }
    let asked = UInt64(range.lowerBound)..<UInt64(range.upperBound)
    switch head.status {
    case 206:
      guard let answered = head.contentRange?.range else {
        return "expected a Content-Range with status 206, found none"
      }
      guard answered == asked else {
        return "expected bytes \(range.lowerBound)-\(range.upperBound - 1), "
          + "found \(answered.lowerBound)-\(answered.upperBound - 1)"
      }
    case 200:
      // This is allowed where the whole object was requested; otherwise the store has ignored the
      // range.
      guard range.lowerBound == 0, head.contentLength == asked.upperBound else {
        return "expected the requested range, found status 200 with the whole object"
      }
    default:
      return "expected status 206, found \(head.status)"
    }
    if let expected, expected != range.count {
      return "expected a Content-Length of \(range.count), found \(expected)"
    }
    expected = range.count
    return nil
  }
}
