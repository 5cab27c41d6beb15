import HTTPTransfer
import Testing

@Suite struct ContentRangeTests {
  @Test(
    "A range within its total is read",
    arguments: [
      ("bytes 0-0/1", 0..<1, 1), ("bytes 5-9/10", 5..<10, 10), ("BYTES 0-9/100", 0..<10, 100),
      (
        "bytes 0-18446744073709551613/18446744073709551614",
        0..<18_446_744_073_709_551_614, 18_446_744_073_709_551_614
      ),
      ("bytes */100", nil, 100), ("bytes */0", nil, 0),
    ] as [(String, Range<UInt64>?, UInt64)])
  func valid(text: String, range: Range<UInt64>?, total: UInt64) {
    let contentRange = ContentRange(parsing: text)
    #expect(contentRange?.range == range)
    #expect(contentRange?.totalSizeInBytes == total)
    #expect(contentRange?.description == text.lowercased())
  }

  @Test(
    "Anything else is not",
    arguments: [
      "", "bytes", "bytes ", "bytes 0-9", "bytes 0-9/", "bytes 0-9/*", "bytes */*", "bytes 9-0/10",
      "bytes 0-10/10", "bytes 5-5/5", "bytes -9/10", "bytes 0-/10", "bytes 0-9/10 ",
      "bytes  0-9/10",
      " bytes 0-9/10", "bytes=0-9/10", "bits 0-9/10", "bytes +0-9/10", "bytes 0-9/1e2",
      "bytes 0 -9/10",
      "bytes 0-9/18446744073709551616", "bytes 0-99999999999999999999/99999999999999999999",
      "bytes 0-9/10/11", "bytes 0-1-2/10", "bytes **/10", "bytes 0-٩/10", "bytes 0-9/10\0",
      "bytes 18446744073709551616-18446744073709551617/5",
    ])
  func invalid(text: String) {
    #expect(ContentRange(parsing: text) == nil)
  }
}
