import EmbeddedS3Origin
import Glibc

/// One TCP connection that says exactly what a test wants and sees exactly what comes back, the
/// end of the connection included: an HTTP library would hide what is to be looked at.
final class WireClient {
  struct Response {
    /// How it came to an end.
    enum End: Equatable { case complete, closed, reset, timedOut }

    var status = 0
    /// Names in lower case.
    var headers: [String: String] = [:]
    var body: [UInt8] = []
    var end = End.complete

    var text: String { String(decoding: body, as: UTF8.self) }
    /// The Code of S3's XML.
    var errorCode: String? { element("Code") }

    func element(_ name: String) -> String? { elements(name).first }

    func elements(_ name: String) -> [String] {
      text.split(separator: "<\(name)>").dropFirst().compactMap { part in
        part.range(of: "</\(name)>").map { String(part[..<$0.lowerBound]) }
      }
    }
  }

  struct Refused: Error {}

  private let descriptor: Int32
  private var received: [UInt8] = []

  /// - Throws: ``Refused`` if nothing listens there.
  init(port: Int) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port).bigEndian)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let outcome = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard outcome == 0 else {
      throw Refused()
    }
    setTimeout(inMilliseconds: 20_000)
  }

  /// Nothing that comes in is waited for any longer.
  func setTimeout(inMilliseconds milliseconds: Int) {
    var timeout = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit {
    close(descriptor)
  }

  func send(
    _ method: String = "GET", _ target: String, _ headers: [(String, String)] = [],
    body: String = ""
  ) {
    var lines = ["\(method) \(target) HTTP/1.1"]
    if !headers.contains(where: { $0.0.lowercased() == "host" }) { lines.append("Host: 127.0.0.1") }
    lines += headers.map { "\($0.0): \($0.1)" }
    if !body.isEmpty { lines.append("Content-Length: \(body.utf8.count)") }
    let bytes = Array((lines.joined(separator: "\r\n") + "\r\n\r\n" + body).utf8)
    _ = bytes.withUnsafeBytes {
      Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
  }

  /// Reads one response, as far as the connection brings it.
  func receive(toHead: Bool = false) -> Response {
    var response = Response()
    var headEnd: Int?
    while headEnd == nil {
      headEnd = received.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound
      if headEnd == nil, let end = fill() {
        response.end = end
        return response
      }
    }
    guard let headEnd else { return response }
    let lines = String(decoding: received[..<headEnd], as: UTF8.self)
      .split(separator: "\r\n")
    received.removeFirst(headEnd)
    response.status = lines.first.flatMap { Int($0.split(separator: " ")[1]) } ?? 0
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      response.headers[parts[0].lowercased()] = String(parts[1].drop { $0 == " " })
    }
    let hasBody = !toHead && response.status != 304 && response.status != 204
    let length = hasBody ? response.headers["content-length"].flatMap { Int($0) } ?? 0 : 0
    while received.count < length {
      if let end = fill() {
        response.end = end
        break
      }
    }
    response.body = Array(received.prefix(length))
    received.removeFirst(response.body.count)
    return response
  }

  /// So many bytes of a body, or what there is of it.
  func take(_ count: Int) -> [UInt8] {
    while received.count < count, fill() == nil {}
    defer { received.removeFirst(min(count, received.count)) }
    return Array(received.prefix(count))
  }

  /// Whether the server ends the connection, and how. Waits for it.
  func end() -> Response.End {
    while true {
      if let end = fill() { return end }
    }
  }

  /// Nil when there is more.
  private func fill() -> Response.End? {
    let count = withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 1) { buffer in
      let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
      if count > 0 { received += buffer[..<count] }
      return count
    }
    if count > 0 { return nil }
    if count == 0 { return .closed }
    return errno == EAGAIN ? .timedOut : .reset
  }
}

extension EmbeddedS3Origin {
  func client() throws -> WireClient { try WireClient(port: port ?? 0) }

  /// One request on a connection of its own.
  func ask(
    _ method: String = "GET", _ target: String, _ headers: [(String, String)] = [],
    body: String = ""
  ) throws -> WireClient.Response {
    let client = try client()
    client.send(method, target, headers, body: body)
    return client.receive(toHead: method == "HEAD")
  }
}

extension StringProtocol {
  fileprivate func range(of text: String) -> Range<Index>? { firstRange(of: text) }
}
