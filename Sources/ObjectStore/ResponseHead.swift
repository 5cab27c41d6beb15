public import HTTPTransfer
import PrintableText

/// The values needed from a response's status line and headers.
///
/// It is filled line by line, as the HTTP client hands them over, and keeps only what someone uses.
/// A header that cannot be read throws no error, since it is met inside a C callback:
/// `malformation` reports it.
public struct ResponseHead: Sendable, Equatable {
  /// The HTTP status; 0 until a status line was read.
  public private(set) var status = 0
  public private(set) var contentLength: UInt64?
  public private(set) var contentRange: ContentRange?
  /// The ETag, verbatim with its quotes, as If-Match needs it.
  public private(set) var eTag: String?
  public private(set) var date: String?
  /// The value of Last-Modified in seconds since 1970-01-01T00:00:00Z; nil if it is no date.
  public private(set) var lastModifiedInSeconds: Int64?
  public private(set) var retryAfter: String?
  /// The value of x-amz-bucket-region.
  public private(set) var bucketRegion: String?
  /// The value of x-amz-request-id.
  public private(set) var requestID: String?
  /// The first header that could not be read; nil if all were fine.
  public private(set) var malformation: String?

  public init() {}

  /// Takes one line, with or without its line break. A status line begins a new head: a response
  /// may have several, after "100 Continue" or from a proxy, and the last one counts.
  public mutating func take(line: some BidirectionalCollection<UInt8>) {
    var line = line[...]
    while let last = line.last, last == 0x0a || last == 0x0d || isSpace(last) { line.removeLast() }
    if line.starts(with: "HTTP/".utf8) {
      self = ResponseHead()
      let words = line.split(separator: UInt8(ascii: " "))
      if words.count > 1, words[1].count == 3, let status = UInt64(decimalDigits: words[1]) {
        self.status = Int(status)
      } else {
        note("status line", value: line)
      }
      return
    }
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return }
    let name = line[..<colon]
    let value = line[line.index(after: colon)...].drop(while: isSpace)
    guard let header = Header.allCases.first(where: { $0.isNamed(name) }) else { return }
    take(header, value: value)
  }

  private mutating func take(_ header: Header, value: some Collection<UInt8>) {
    let text = String(decoding: value, as: UTF8.self)
    switch header {
    case .contentLength:
      let length = UInt64(decimalDigits: value)
      // Two that differ would leave it open where the body ends.
      if length == nil || (contentLength ?? length) != length {
        note("Content-Length", value: value)
      }
      contentLength = length
    case .contentRange:
      contentRange = ContentRange(parsing: text)
      if contentRange == nil { note("Content-Range", value: value) }
    case .eTag: eTag = text
    case .date: date = text
    case .lastModified: lastModifiedInSeconds = HTTPDate(parsing: text)?.secondsSinceEpoch
    case .retryAfter: retryAfter = text
    case .bucketRegion: bucketRegion = text
    case .requestID: requestID = text
    }
  }

  private mutating func note(_ name: String, value: some Collection<UInt8>) {
    guard malformation == nil else { return }
    let found = printable(String(decoding: value, as: UTF8.self), limit: 80)
    malformation = "\(name) '\(found)' is not valid"
  }

  private enum Header: String, CaseIterable {
    case contentLength = "content-length"
    case contentRange = "content-range"
    case eTag = "etag"
    case date = "date"
    case lastModified = "last-modified"
    case retryAfter = "retry-after"
    case bucketRegion = "x-amz-bucket-region"
    case requestID = "x-amz-request-id"

    func isNamed(_ name: some Collection<UInt8>) -> Bool {
      // Setting bit 5 makes letters small and leaves digits and the hyphen as they are.
      name.count == rawValue.utf8.count && zip(name, rawValue.utf8).allSatisfy { $0 | 0x20 == $1 }
    }
  }
}

private func isSpace(_ byte: UInt8) -> Bool {
  byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
}
