import ObjectStore
import Testing

@Suite struct RetryAfterTests {
  private func delay(_ headers: [String]) -> StoreError.Kind {
    var head = ResponseHead()
    for line in ["HTTP/1.1 503 Slow Down"] + headers { head.take(line: Array(line.utf8)) }
    return StoreError.answer(to: S3Location(bucket: "b", key: "k"), head: head, body: []).kind
  }

  @Test("Retry-After is seconds, or a date that is compared with the answer's")
  func forms() {
    #expect(delay(["Retry-After: 7"]) == .throttled(retryAfterInSeconds: 7))
    let then = "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"
    #expect(
      delay([then, "Date: Sun, 06 Nov 1994 08:49:07 GMT"]) == .throttled(retryAfterInSeconds: 30))
    #expect(
      delay([then, "Date: Sun, 06 Nov 1994 09:49:07 GMT"]) == .throttled(retryAfterInSeconds: 0))
    #expect(delay([then]) == .throttled(retryAfterInSeconds: nil))
    #expect(delay(["Retry-After: soon"]) == .throttled(retryAfterInSeconds: nil))
  }
}
