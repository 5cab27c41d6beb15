import ObjectStore
import Testing

@Suite struct S3ErrorBodyTests {
  @Test("Every field of an error is read, white space around it aside")
  func fields() {
    let body = """
      <?xml version="1.0" encoding="UTF-8"?>
      <Error><Code>PermanentRedirect</Code><Message>Use &lt;the&gt; endpoint &amp; try again</Message>
      <Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint><Bucket>b</Bucket><BucketName>b</BucketName><Resource>/b/k</Resource>
      <Region> eu-west-1
      </Region><RequestId>4442587FB7D0A2F9</RequestId><HostId>h+/=</HostId>
      <Other><Code>no</Code></Other></Error>
      """
    let error = S3ErrorBody(parsing: Array(body.utf8))
    #expect(error?.code == "PermanentRedirect")
    #expect(error?.message == "Use <the> endpoint & try again")
    #expect(error?.region == "eu-west-1")
    #expect(error?.requestID == "4442587FB7D0A2F9")
  }

  @Test("An error with a namespace, wrapped in a response, or cut off after its code is read too")
  func variants() {
    for body in [
      #"<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>X</Code></Error>"#,
      "<ErrorResponse><Error><Type>Sender</Type><Code>X</Code></Error></ErrorResponse>",
      "<Error><Code>X</Code><Mess", "<Error>\n<Code>X</Code><Message>cut of",
    ] {
      #expect(S3ErrorBody(parsing: Array(body.utf8))?.code == "X")
    }
  }

  @Test(
    "Anything else is nil",
    arguments: [
      "", "not found", "{\"Code\":\"X\"}", "<html><body>Bad gateway</body></html>", "<Error>",
      "<Error></Error>", "<Error><Code>X", "<Other><Code>X</Code></Other>", "<", "<<>>",
      "<!DOCTYPE e [<!ENTITY a \"aaaa\">]><Error><Code>&a;</Code></Error>",
      "<!DOCTYPE e [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><Error><Code>&x;</Code></Error>",
      "<Error><Code>&undefined;</Code></Error>",
      String(repeating: "<Error>", count: 5000),
    ])
  func junk(body: String) {
    #expect(S3ErrorBody(parsing: Array(body.utf8)) == nil)
  }

  /// What fuzzing found to end the process while FoundationXML read it, and two smaller ones of its
  /// kind.
  @Test("An element's name that is not UTF-8, and a processing instruction without data, are nil")
  func whatEndedTheProcess() {
    let start = #"<?xml version="1.0" encoding="UTF-8"?><Erro"#
    let end = "><Code>AccessDenied</:ode><Message>Access Denied</Message></Error>"
    #expect(S3ErrorBody(parsing: Array(start.utf8) + [0xe0] + Array(end.utf8)) == nil)
    for body in [
      #"<?xenied<TF-8"?><E)ror><CA<?M?>e<"#, "<Error><Code>X</Code><?M?></Error>",
      "<?xml version='1.0'?><E><C><?M?></C></E>",
    ] {
      #expect(S3ErrorBody(parsing: Array(body.utf8)) == nil)
    }
  }

  @Test("A document type is refused, whatever it declares, and so is what comes before it")
  func documentType() {
    let types = [
      "<!DOCTYPE Error>", #"<!DOCTYPE Error SYSTEM "file:///e.dtd">"#, "<!DOCTYPE E []>",
    ]
    for type in types {
      #expect(S3ErrorBody(parsing: Array("\(type)<Error><Code>X</Code></Error>".utf8)) == nil)
    }
    let late = "<Error><Code>X</Code></Error><!DOCTYPE Error>"
    #expect(S3ErrorBody(parsing: Array(late.utf8)) == nil)
  }

  @Test("Eight levels are read, and nine are not")
  func depth() {
    func body(levels: Int) -> [UInt8] {
      let around = levels - 2
      return Array(
        (String(repeating: "<a>", count: around) + "<Error><Code>X</Code></Error>"
          + String(repeating: "</a>", count: around)).utf8)
    }
    #expect(S3ErrorBody(parsing: body(levels: 8))?.code == "X")
    #expect(S3ErrorBody(parsing: body(levels: 9)) == nil)
  }

  @Test("Text that comes in pieces, as around references and in CDATA, is one text in UTF-8")
  func pieces() {
    let body = """
      <?xml version="1.0" encoding="ISO-8859-1"?>
      <Error><Code>X</Code><Message>a&#xe9;\u{e9}<![CDATA[<&>]]>
      z</Message></Error>
      """
    #expect(S3ErrorBody(parsing: Array(body.utf8))?.message == "a\u{e9}\u{e9}<&>\nz")
  }

  @Test("A body over the limit is not read")
  func tooLarge() {
    let start = "<Error><Code>X</Code><Message>"
    let end = "</Message></Error>"
    func body(_ size: Int) -> [UInt8] {
      Array((start + String(repeating: "m", count: size - start.count - end.count) + end).utf8)
    }
    #expect(S3ErrorBody(parsing: body(S3ErrorBody.maximumSizeInBytes))?.code == "X")
    #expect(S3ErrorBody(parsing: body(S3ErrorBody.maximumSizeInBytes + 1)) == nil)
  }

  @Test("Bytes that are not UTF-8 are nil")
  func invalidText() {
    #expect(S3ErrorBody(parsing: Array("<Error><Code>".utf8) + [0xff, 0xfe, 0]) == nil)
  }
}

@Suite struct StoreErrorTests {
  private let object = S3Location(bucket: "b", key: "inv/manifest.json")

  private func answer(
    status: Int, code: String? = nil, more: String = "", headers: [String] = []
  ) -> StoreError {
    var head = ResponseHead()
    for line in ["HTTP/1.1 \(status) X", "x-amz-request-id: R1"] + headers {
      head.take(line: Array(line.utf8))
    }
    let body = code.map { "<Error><Code>\($0)</Code><Message>Why</Message>\(more)</Error>" } ?? ""
    return StoreError.answer(to: object, head: head, body: Array(body.utf8))
  }

  @Test(
    "The store's code decides the kind",
    arguments: [
      (403, "AccessDenied", .accessDenied), (400, "ExpiredToken", .expiredToken),
      (403, "RequestExpired", .expiredToken), (404, "NoSuchKey", .noSuchKey),
      (404, "NoSuchBucket", .noSuchBucket), (412, "PreconditionFailed", .preconditionFailed),
      (403, "InvalidAccessKeyId", .invalidCredentials),
      (403, "SignatureDoesNotMatch", .invalidCredentials),
      (400, "InvalidToken", .invalidCredentials),
      (403, "RequestTimeTooSkewed", .clockSkew(storeTime: nil)),
      (403, "InvalidObjectState", .archived),
      (503, "SlowDown", .throttled(retryAfterInSeconds: nil)),
      (400, "RequestTimeout", .serverError), (500, "InternalError", .serverError),
      (301, "PermanentRedirect", .wrongRegion(expected: nil)),
      (400, "AuthorizationHeaderMalformed", .refused), (400, "InvalidRequest", .refused),
      (501, "NotImplemented", .refused),
    ] as [(Int, String, StoreError.Kind)])
  func codes(status: Int, code: String, kind: StoreError.Kind) {
    let error = answer(status: status, code: code)
    #expect(error.kind == kind)
    #expect(error.httpStatus == status && error.code == code && error.message == "Why")
    #expect(error.requestID == "R1")
    #expect(error.description.hasPrefix("s3://b/inv/manifest.json: "))
    #expect(error.description.contains("(HTTP \(status), \(code), \"Why\", request R1)"))
  }

  @Test(
    "Without a body the status decides, as after HEAD",
    arguments: [
      (403, .accessDenied), (401, .accessDenied), (404, .noSuchKey), (412, .preconditionFailed),
      (416, .rangeNotSatisfiable(objectSizeInBytes: nil)), (400, .refused), (405, .refused),
      (429, .throttled(retryAfterInSeconds: nil)), (503, .throttled(retryAfterInSeconds: nil)),
      (408, .serverError), (500, .serverError), (502, .serverError), (504, .serverError),
      (501, .refused), (505, .refused), (307, .wrongRegion(expected: nil)), (304, .refused),
    ] as [(Int, StoreError.Kind)])
  func statuses(status: Int, kind: StoreError.Kind) {
    #expect(answer(status: status).kind == kind)
  }

  @Test("A success that was reported as an error is called malformed", arguments: [0, 200, 204])
  func success(status: Int) {
    guard case .malformedAnswer = answer(status: status).kind else {
      Issue.record("\(answer(status: status))")
      return
    }
  }

  @Test("Region, waiting time, length and clock are taken from the answer")
  func details() {
    #expect(
      answer(status: 400, code: "AuthorizationHeaderMalformed", more: "<Region>eu-west-3</Region>")
        .kind == .wrongRegion(expected: "eu-west-3"))
    let redirect = answer(status: 301, headers: ["x-amz-bucket-region: eu-west-2"])
    #expect(redirect.kind == .wrongRegion(expected: "eu-west-2"))
    #expect(redirect.description.contains("Set --region eu-west-2."))
    #expect(
      answer(status: 503, code: "SlowDown", headers: ["Retry-After: 7"]).kind
        == .throttled(retryAfterInSeconds: 7))
    #expect(
      answer(status: 503, headers: ["Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"]).kind
        == .throttled(retryAfterInSeconds: nil))
    #expect(
      answer(status: 503, headers: ["Retry-After: 18446744073709551615"]).kind
        == .throttled(retryAfterInSeconds: .max))
    #expect(
      answer(status: 416, headers: ["Content-Range: bytes */5"]).kind
        == .rangeNotSatisfiable(objectSizeInBytes: 5))
    #expect(
      answer(status: 403, code: "RequestTimeTooSkewed", headers: ["Date: Thu"]).kind
        == .clockSkew(storeTime: "Thu"))
  }

  @Test("An answer that is not S3's is quoted, on one line")
  func foreignBody() {
    var head = ResponseHead()
    head.take(line: Array("HTTP/1.1 502 Bad Gateway".utf8))
    let error = StoreError.answer(
      to: object, head: head, body: Array("<html>\n\u{1b}[2J gateway</html>".utf8))
    #expect(error.kind == .serverError)
    #expect(error.description.contains(#"(HTTP 502, "<html>\u{a}\u{1b}[2J gateway</html>")"#))
  }

  @Test("Only what may pass by itself is retried")
  func retryable() {
    let retryable: [StoreError.Kind] = [
      .throttled(retryAfterInSeconds: 1), .serverError, .connection(.timeout, text: ""),
      .connection(.broken, text: ""), .connection(.refused, text: ""),
      .connection(.unknownHost, text: ""), .connection(.handshake, text: ""),
    ]
    let final: [StoreError.Kind] = [
      .accessDenied, .expiredToken, .noSuchKey, .noSuchBucket, .wrongRegion(expected: nil),
      .preconditionFailed, .rangeNotSatisfiable(objectSizeInBytes: nil), .invalidCredentials,
      .clockSkew(storeTime: nil), .archived, .connection(.tls, text: ""), .malformedAnswer(""),
      .tooLarge(limitInBytes: 1), .refused, .cancelled, .noCredentials(.notFound(lookedAt: [])),
    ]
    #expect(retryable.allSatisfy { StoreError($0, object: object).isRetryable })
    #expect(!final.contains { StoreError($0, object: object).isRetryable })
  }

  @Test("A message names the object, the problem and the next step")
  func messages() {
    let error = StoreError(
      .connection(.refused, text: "connect to 127.0.0.1 port 1 failed"), object: object)
    #expect(
      error.description
        == "s3://b/inv/manifest.json: the store cannot be reached or refused the connection: connect to 127.0.0.1 port 1 failed. "
        + "Check that the store is running at --endpoint-url, and check the network.")
    #expect(
      StoreError(.clockSkew(storeTime: "Thu, 22 Oct 2015"), object: object).description.contains(
        "this machine's clock and the store's, which says Thu, 22 Oct 2015, differ by more"))
    #expect(
      StoreError(.clockSkew(storeTime: nil), object: object).description.contains(
        "this machine's clock and the store's differ by more"))
  }

  @Test(
    "What repeats our request is not shown: it has our token in it",
    arguments: [
      "GET /k HTTP/1.1\r\nX-Amz-Security-Token: IQoJ",
      "authorization: AWS4-HMAC-SHA256 Credential=AK",
    ])
  func echo(said: String) {
    var head = ResponseHead()
    head.take(line: Array("HTTP/1.1 500 X".utf8))
    let plain = StoreError.answer(to: object, head: head, body: Array(said.utf8))
    #expect(plain.message == nil)
    let body = "<Error><Code>Odd</Code><Message>\(said)</Message></Error>"
    let answer = StoreError.answer(to: object, head: head, body: Array(body.utf8))
    #expect(answer.message == nil && answer.code == "Odd")
  }

  @Test("The advice for a missing object can be pasted: it reaches the same store, and is quoted")
  func pastableAdvice() {
    let error = StoreError(
      .noSuchKey, object: S3Location(bucket: "b", key: "no such/key"),
      awsCommand: "aws --endpoint-url http://127.0.0.1:9000")
    #expect(
      "\(error)".hasSuffix(
        "with: aws --endpoint-url http://127.0.0.1:9000 s3 ls 's3://b/no such/key'"), "\(error)")
  }

}
