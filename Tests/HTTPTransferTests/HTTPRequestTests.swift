import HTTPTransfer
import Testing

@Suite struct HTTPRequestTests {
  @Test("Neither a request nor its answer shows a secret when printed")
  func printing() {
    let names = ["Authorization", "X-aws-ec2-metadata-token", "x-amz-sso_bearer_token"]
    let request = HTTPRequest(
      url: "u", headers: names.map { HTTPHeader($0, "SECRET") }, body: "token=SECRET")
    let answer = HTTPRequest.Response(status: 200, body: Array("SECRET".utf8))
    var text = "\(request) \(answer) \(request.headers)"
    dump((request, answer, request.headers), to: &text)
    #expect(!text.contains("SECRET") && !text.contains("\(UInt8(ascii: "S"))"), "\(text)")
  }

  @Test("An address where nobody answers fails in time")
  func nobody() {
    #expect(throws: HTTPRequest.Failure.self) {
      try HTTPRequest(url: "http://127.0.0.1:1/", timeout: .seconds(5)).send()
    }
  }
}
