import ObjectStore
import Testing

@Suite struct ResponseHeadTests {
  private func head(_ lines: String...) -> ResponseHead {
    var head = ResponseHead()
    for line in lines { head.take(line: Array("\(line)\r\n".utf8)) }
    return head
  }

  @Test("The headers that matter are read, whatever their case")
  func headers() {
    let head = head(
      "HTTP/1.1 206 Partial Content", "content-LENGTH:  10 ", "Content-Range: bytes 0-9/100",
      "ETag: \"abc-2\"", "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT",
      "Date:\tThu, 22 Oct 2015 00:00:00 GMT", "Retry-After: 3", "x-amz-bucket-region: eu-west-1",
      "X-Amz-Request-Id: 4442", "Location: http://h:1/x", "Server: s", "")
    #expect(head.status == 206)
    #expect(head.contentLength == 10)
    #expect(head.contentRange?.range == 0..<10)
    #expect(head.contentRange?.totalSizeInBytes == 100)
    #expect(head.eTag == "\"abc-2\"")
    #expect(head.date == "Thu, 22 Oct 2015 00:00:00 GMT")
    #expect(head.retryAfter == "3")
    #expect(head.bucketRegion == "eu-west-1")
    #expect(head.requestID == "4442")
    #expect(head.malformation == nil)
  }

  @Test("Each status line begins anew, so the last head counts")
  func severalHeads() {
    let head = head("HTTP/1.1 100 Continue", "ETag: x", "", "HTTP/2 404", "Content-Length: 0", "")
    #expect(head.status == 404)
    #expect(head.eTag == nil)
    #expect(head.contentLength == 0)
  }

  @Test(
    "What cannot be read is noted",
    arguments: [
      ("Content-Length: -1", "Content-Length '-1'"), ("Content-Length: 1, 1", "Content-Length"),
      ("Content-Length:", "Content-Length ''"), ("Content-Length: 0x10", "Content-Length"),
      ("Content-Length: 18446744073709551616", "Content-Length"),
      ("Content-Range: items 0-9/10", "Content-Range 'items 0-9/10'"),
      ("HTTP/1.1 2x0 OK", "status line 'HTTP/1.1 2x0 OK'"), ("HTTP/1.1", "status line"),
    ])
  func malformed(line: String, noted: String) {
    #expect(head("HTTP/1.1 200 OK", line).malformation?.hasPrefix(noted) == true)
  }

  @Test("Two lengths that differ are noted, two equal ones are not")
  func twoLengths() {
    #expect(head("HTTP/1.1 200", "Content-Length: 1", "Content-Length: 2").malformation != nil)
    #expect(head("HTTP/1.1 200", "Content-Length: 1", "content-length: 1").malformation == nil)
  }

  @Test(
    "Lines that are no headers change nothing",
    arguments: ["", " ", "x", ":", ": 3", "etagg: x", "\0"])
  func otherLines(line: String) {
    #expect(head("HTTP/1.1 200 OK", line) == head("HTTP/1.1 200 OK"))
  }
}
