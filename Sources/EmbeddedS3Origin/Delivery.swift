import NIOHTTP1

/// How an answer goes out: the answer, spoilt as a fault demands, and how the connection ends.
struct Delivery: Sendable {
  enum Ending: Sendable {
    /// The answer is whole, and the connection serves the next request if the client wants it.
    case complete
    /// The connection is closed in order where the body ends.
    case cut
    /// The connection is reset where the body ends.
    case reset
    /// The connection is left open and silent where the body ends.
    case stall
  }

  private(set) var answer: Answer
  private(set) var ending = Ending.complete
  /// The byte of the body that gets one bit flipped.
  private(set) var spoiltOffset: Int?
  private(set) var bytesPerSecond: Int?

  /// - Parameter bytesPerSecond: the pace where the fault does not set another.
  init(_ answer: Answer, fault: Fault?, bytesPerSecond: Int?) {
    self.answer = answer
    self.bytesPerSecond = bytesPerSecond.map { max(1, $0) }
    let bodySize = answer.body.sizeInBytes
    switch fault {
    case .cutBody(let afterBytes):
      self.answer.body = answer.body[0..<max(0, afterBytes)]
      ending = .cut
    case .resetBody(let afterBytes):
      self.answer.body = answer.body[0..<max(0, afterBytes)]
      ending = .reset
    case .stallBody(let afterBytes):
      self.answer.body = answer.body[0..<max(0, afterBytes)]
      ending = .stall
    case .wrongContentRange(let shift):
      if let range = answer.contentRange {
        let start = max(0, range.bytes.lowerBound + shift)
        self.answer.contentRange = ContentRange(
          bytes: start..<start + range.bytes.count, objectSizeInBytes: range.objectSizeInBytes)
      }
    case .wrongLength(let difference):
      if let range = answer.contentRange {
        self.answer.contentRange = ContentRange(
          bytes: range.bytes, objectSizeInBytes: max(0, range.objectSizeInBytes + difference))
      } else if let length = answer.headers.first(name: "content-length").flatMap({ Int($0) }) {
        let claimed = max(0, length + difference)
        self.answer.headers.replaceOrAdd(name: "Content-Length", value: "\(claimed)")
        self.answer.body = answer.body[0..<claimed]
        if claimed > bodySize && bodySize > 0 { ending = .cut }
      }
    case .wrongBytes(let offset):
      if bodySize > 0 { spoiltOffset = min(max(0, offset), bodySize - 1) }
    case .trickle(let pace):
      self.bytesPerSecond = max(1, pace)
    case .ignoreRange, .hangBeforeHead, .status, .redirect, .wrongRegion, .clockSkew, .delay,
      .refuse, nil:
      // These act before there is an answer.
      break
    }
  }

  /// Makes the delivery of a status that has no body, such as 304.
  mutating func dropBody() {
    answer.body = .empty
  }
}
