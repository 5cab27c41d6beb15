import NIOHTTP1
import Testing

@testable import EmbeddedS3Origin

/// The server is set to the day of AWS's published examples, and gets them as they are printed.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
@Suite struct SignatureTests {
  private static let emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  private static let objectSignature =
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
  private static let listSignature =
    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
  private static let accessKey = "AKIAIOSFODNN7EXAMPLE"
  private static let secretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
  private static let time = Timestamp(secondsSince1970: 1_369_353_600)

  @Test("AWS's example of a signed GET of a range is accepted")
  func publishedObjectRequest() async throws {
    try await withExampleBucket { origin in
      let answer = try origin.ask("GET", "/test.txt", Self.objectHeaders())
      #expect(answer.status == 206, "\(answer.text)")
      #expect(answer.text == "0123456789")
    }
  }

  @Test("AWS's example of a signed listing is accepted")
  func publishedListRequest() async throws {
    try await withExampleBucket { origin in
      let headers = Self.headers(
        signedHeaders: "host;x-amz-content-sha256;x-amz-date", signature: Self.listSignature)
      // Printed with list version 1, which is not served; that comes after the signature.
      let answer = try origin.ask("GET", "/?max-keys=2&prefix=J", headers)
      #expect(answer.errorCode == "NotImplemented")
      let reordered = try origin.ask("GET", "/?prefix=J&max-keys=2", headers)
      #expect(reordered.errorCode == "NotImplemented", "the order on the wire does not matter")
      let other = try origin.ask("GET", "/?max-keys=3&prefix=J", headers)
      #expect(other.errorCode == "SignatureDoesNotMatch")
    }
  }

  @Test("Anything changed after signing is SignatureDoesNotMatch")
  func changedRequest() async throws {
    try await withExampleBucket { origin in
      var signature = Self.objectSignature
      signature.replaceSubrange(signature.startIndex...signature.startIndex, with: "0")
      expectMismatch(try origin.ask("GET", "/test.txt", Self.objectHeaders(signature: signature)))
      expectMismatch(try origin.ask("GET", "/text.txt", Self.objectHeaders()))
      expectMismatch(try origin.ask("GET", "/test.txt", Self.objectHeaders(range: "bytes=0-10")))
      #expect(try origin.ask("HEAD", "/test.txt", Self.objectHeaders()).status == 403)
      origin.setCredentials([Self.accessKey: "another secret"])
      expectMismatch(try origin.ask("GET", "/test.txt", Self.objectHeaders()))
    }
  }

  @Test("Unsigned requests need leave, and unknown keys are named")
  func unsigned() async throws {
    try await withExampleBucket { origin in
      let host = [("Host", "examplebucket.s3.amazonaws.com")]
      #expect(try origin.ask("GET", "/test.txt", host).errorCode == "AccessDenied")
      #expect(try origin.ask("HEAD", "/test.txt", host).status == 403)
      origin.setCredentials(["other": "secret"])
      let answer = try origin.ask("GET", "/test.txt", Self.objectHeaders())
      #expect(answer.errorCode == "InvalidAccessKeyId")
      #expect(answer.element("AWSAccessKeyId") == Self.accessKey)
    }
    try await withExampleBucket({ $0.allowsAnonymous = true }) { origin in
      let host = [("Host", "examplebucket.s3.amazonaws.com")]
      #expect(try origin.ask("GET", "/test.txt", host).status == 200)
      expectMismatch(try origin.ask("GET", "/text.txt", Self.objectHeaders()))
    }
  }

  @Test("A scope in another region is told the right one")
  func region() async throws {
    try await withExampleBucket({ $0.region = "eu-central-1" }) { origin in
      let answer = try origin.ask("GET", "/test.txt", Self.objectHeaders())
      #expect(answer.status == 400)
      #expect(answer.errorCode == "AuthorizationHeaderMalformed")
      #expect(answer.element("Region") == "eu-central-1")
    }
  }

  @Test("Fifteen minutes of skew are allowed and no more", arguments: [-1, 1])
  func skew(sign: Int) throws {
    let request = try Self.request(Self.objectHeaders())
    let check = Self.check()
    try check.check(
      request, now: Timestamp(secondsSince1970: Self.time.secondsSince1970 + sign * 900))
    let error = #expect(throws: S3Error.self) {
      try check.check(
        request, now: Timestamp(secondsSince1970: Self.time.secondsSince1970 + sign * 901))
    }
    #expect(error?.code == "RequestTimeTooSkewed")
    #expect(error?.status == 403)
  }

  @Test("A session token must be the right one, in date, and signed")
  func sessionToken() async throws {
    try await withExampleBucket { origin in
      // The token is looked at before the signature, as S3 does.
      var credential = OriginCredential(secretKey: Self.secretKey, sessionToken: "token")
      origin.setCredentials([Self.accessKey: credential])
      #expect(try origin.ask("GET", "/test.txt", Self.objectHeaders()).errorCode == "InvalidToken")
      let withToken = Self.objectHeaders() + [("x-amz-security-token", "token")]
      let unsigned = try origin.ask("GET", "/test.txt", withToken)
      #expect(unsigned.errorCode == "AccessDenied")
      #expect(unsigned.element("HeadersNotSigned") == "x-amz-security-token")
      credential.expiresAt = Self.time.secondsSince1970 - 10
      origin.setCredentials([Self.accessKey: credential])
      #expect(try origin.ask("GET", "/test.txt", withToken).errorCode == "ExpiredToken")
    }
  }

  @Test(
    "An Authorization header that cannot be read is refused, not crashed on",
    arguments: [
      "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b", "Basic YTpi", "AWS a:b",
      "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
      "AWS4-HMAC-SHA256 Credential=////aws4_request,SignedHeaders=host,Signature=0",
      "AWS4-HMAC-SHA256 Credential=AK/x/us-east-1/s3/other,SignedHeaders=host,Signature=0",
    ])
  func malformed(header: String) async throws {
    try await withExampleBucket { origin in
      let answer = try origin.ask("GET", "/examplebucket/test.txt", [("Authorization", header)])
      #expect([400, 403].contains(answer.status))
    }
  }

  @Test("A payload hash other than the empty body's is refused")
  func payloadHash() throws {
    let check = Self.check()
    for hash in ["UNSIGNED-PAYLOAD", "0000"] {
      var headers = Self.objectHeaders().filter { $0.0 != "x-amz-content-sha256" }
      headers.append(("x-amz-content-sha256", hash))
      let request = try Self.request(headers)
      let error = #expect(throws: S3Error.self) { try check.check(request, now: Self.time) }
      // The first is allowed, only not what was signed here.
      #expect(
        error?.code == (hash == "0000" ? "XAmzContentSHA256Mismatch" : "SignatureDoesNotMatch"))
    }
  }

  private func expectMismatch(
    _ answer: WireClient.Response, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(answer.status == 403, sourceLocation: sourceLocation)
    #expect(answer.errorCode == "SignatureDoesNotMatch", sourceLocation: sourceLocation)
  }

  // MARK: The examples

  private static func objectHeaders(
    range: String = "bytes=0-9", signature: String = objectSignature
  ) -> [(String, String)] {
    [("Range", range)]
      + headers(signedHeaders: "host;range;x-amz-content-sha256;x-amz-date", signature: signature)
  }

  private static func headers(signedHeaders: String, signature: String) -> [(String, String)] {
    [
      ("Host", "examplebucket.s3.amazonaws.com"),
      (
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=\(accessKey)/20130524/us-east-1/s3/aws4_request,"
          + "SignedHeaders=\(signedHeaders),Signature=\(signature)"
      ),
      ("x-amz-content-sha256", emptyHash), ("x-amz-date", "20130524T000000Z"),
    ]
  }

  private static func request(_ headers: [(String, String)]) throws -> S3Request {
    let head = HTTPRequestHead(
      version: .http1_1, method: .GET, uri: "/test.txt", headers: HTTPHeaders(headers))
    return try S3Request(head) { _ in false }
  }

  private static func check() -> SignatureCheck {
    SignatureCheck(
      credentials: [accessKey: OriginCredential(secretKey: secretKey)], allowsAnonymous: false,
      region: "us-east-1")
  }

  private func withExampleBucket(
    _ configure: (inout OriginConfiguration) -> Void = { _ in },
    _ body: (EmbeddedS3Origin) async throws -> Void
  ) async throws {
    var configuration = OriginConfiguration(
      credentials: [Self.accessKey: OriginCredential(secretKey: Self.secretKey)],
      clockOffset: .seconds(
        Self.time.secondsSince1970 - Timestamp.now().secondsSince1970))
    configure(&configuration)
    try await EmbeddedS3Origin.run(configuration) { origin in
      origin.put(bucket: "examplebucket", key: "test.txt", bytes: Array("0123456789abc".utf8))
      try await body(origin)
    }
  }
}
