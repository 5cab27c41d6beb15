import HTTPTransfer

/// Reads one answer as it comes in and holds it against the request: status, range and length. What
/// passes goes on to the receiver; what does not becomes a `StoreError`. Used by one network
/// thread.
final class AnswerCheck: @unchecked Sendable {
  private let request: ObjectRequest
  private let endpoint: S3Endpoint
  private let isHead: Bool
  private let receiver: any ObjectReceiver
  /// Whether a refusal led to another request: then the receiver hears of that one.
  private let isCorrected: (StoreError, ResponseHead) -> Bool

  // Touched on a network thread only.
  private var head = ResponseHead()
  private var refusalBody: [UInt8] = []
  private var isRefusal = false
  private var received = 0
  /// How many bytes the body must have; nil until the head has said so.
  private var expected: Int?
  private var problem: StoreError.Kind?

  init(
    _ request: ObjectRequest, _ endpoint: S3Endpoint, isHead: Bool, _ receiver: any ObjectReceiver,
    isCorrected: @escaping (StoreError, ResponseHead) -> Bool
  ) {
    self.isCorrected = isCorrected
    self.request = request
    self.endpoint = endpoint
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
      problem = .malformedAnswer("a body of more than the \(expected) bytes it announced")
      return false
    }
    guard receiver.receive(bytes) else { return false }
    received += bytes.count
    return true
  }

  /// Whether all that counts has come, although the transfer may not have ended as it should: the
  /// head of a refusal, whose body may be endless, cut off or stalled, or a range after which the
  /// connection broke.
  private var isComplete: Bool {
    isRefusal || problem == nil && request.range != nil && received == expected
  }

  func end(_ ending: CurlTransfer.Ending) {
    switch ending {
    case .cancelled:
      finish(.cancelled)
    case .failed(let connectionProblem, let text) where !isComplete:
      // Ended by us, for a reason that is known; a receiver that refused knows its own.
      if let problem { return finish(problem) }
      finish(.connection(connectionProblem, text: "\(endpoint): \(text)"))
    case .done, .failed:
      if isRefusal {
        if let wrongSize = wrongSize() { return finish(wrongSize) }
        let error = StoreError.answer(to: request.location, head: head, body: refusalBody)
        return isCorrected(error, head) ? () : receiver.finish(.failure(error))
      }
      if let expected, received < expected, !isHead {
        return finish(.connection(.broken, text: "\(received) of \(expected) bytes came"))
      }
      receiver.finish(.success(()))
    }
  }

  private func finish(_ kind: StoreError.Kind) {
    let status = head.status == 0 ? nil : head.status
    let error = StoreError(
      kind, object: request.location, httpStatus: status, requestID: head.requestID)
    receiver.finish(.failure(error))
  }

  /// An object of another length cannot give the range asked for, so this is looked at before
  /// anything else.
  private func wrongSize() -> StoreError.Kind? {
    guard let expected = request.objectSizeInBytes else { return nil }
    let found =
      head.contentRange?.totalSizeInBytes ?? (head.status == 200 ? head.contentLength : nil)
    guard let found, found != UInt64(expected) else { return nil }
    return .wrongSize(expectedInBytes: UInt64(expected), foundInBytes: found)
  }

  /// What is wrong with a successful answer's head; nil when it answers the request.
  private func mismatch() -> String? {
    expected = head.contentLength.map { Int(clamping: $0) }
    guard let range = request.range else {
      return head.status == 200 ? nil : "status \(head.status), where 200 was expected"
    }
    let asked = UInt64(range.lowerBound)..<UInt64(range.upperBound)
    switch head.status {
    case 206:
      guard let answered = head.contentRange?.range else {
        return "status 206 without a Content-Range"
      }
      guard answered == asked else {
        return "bytes \(answered.lowerBound)-\(answered.upperBound - 1), where "
          + "\(range.lowerBound)-\(range.upperBound - 1) were asked for"
      }
    case 200:
      // Allowed where the whole object was asked for; otherwise the store has ignored the range.
      guard range.lowerBound == 0, head.contentLength == asked.upperBound else {
        return "status 200 with the whole object, where a range was asked for"
      }
    default:
      return "status \(head.status), where 206 was expected"
    }
    if let expected, expected != range.count {
      return "Content-Length \(expected), where \(range.count) bytes were asked for"
    }
    expected = range.count
    return nil
  }
}
