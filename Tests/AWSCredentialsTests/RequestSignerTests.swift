import AWSCredentials
import Digests
import HTTPTransfer
import Testing

/// The examples of "Signature Calculations for the Authorization Header: Transferring Payload in a
/// Single Chunk" in the Amazon S3 API Reference, and of "Deriving the signing key" in the AWS
/// General Reference.
@Suite struct RequestSignerTests {
  private let credentials = Credentials(
    accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
  )
  private let may24: Int64 = 1_369_353_600
  private let signer = RequestSigner()

  private func sign(
    uri: String = "/", query: String = "", headers: [HTTPHeader] = [],
    credentials: Credentials? = nil,
    region: String = "us-east-1", at time: Int64? = nil
  ) -> [String: String] {
    let target = RequestTarget(
      scheme: "https", host: "examplebucket.s3.amazonaws.com", canonicalURI: uri,
      canonicalQuery: query)
    let added = signer.headers(
      signing: "GET", target, headers: headers,
      credentials: credentials ?? self.credentials, region: region,
      secondsSinceEpoch: time ?? may24)
    return Dictionary(uniqueKeysWithValues: added.map { ($0.name, $0.value) })
  }

  @Test("GET Object with a range is signed as in Amazon's example")
  func getObject() {
    let headers = sign(uri: "/test.txt", headers: [HTTPHeader("Range", "bytes=0-9")])
    #expect(
      headers == [
        "x-amz-date": "20130524T000000Z",
        "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "Authorization":
          "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
          + "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
          + "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
      ])
  }

  @Test(
    "Queries are signed as in Amazon's examples",
    arguments: [
      (
        [QueryItem("lifecycle")],
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
      ),
      (
        [QueryItem("prefix", "J"), QueryItem("max-keys", "2")],
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
      ),
    ])
  func query(items: [QueryItem], signature: String) {
    let query = QueryItem.encoded(items)
    #expect(sign(query: query)["Authorization"]?.hasSuffix("Signature=\(signature)") == true)
  }

  @Test(
    "A signing key is derived as in Amazon's examples",
    arguments: [
      ("20120215", "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"),
      ("20150830", "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"),
    ])
  func derivedKey(day: String, hex: String) {
    let key = RequestSigner.derivedKey(
      secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", day: day, region: "us-east-1",
      service: "iam")
    #expect(Hexadecimal.text(key) == hex)
  }

  @Test("A session token is sent and signed")
  func sessionToken() {
    let temporary = Credentials(accessKeyID: "A", secretAccessKey: "s", sessionToken: "t/+=")
    let headers = sign(credentials: temporary)
    #expect(headers["x-amz-security-token"] == "t/+=")
    #expect(
      headers["Authorization"]?.contains(
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,") == true)
  }

  @Test("The kept signing key is not used for another secret, day or region")
  func keptKey() {
    let first = sign()
    let others = [
      sign(credentials: Credentials(accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "x")),
      sign(region: "eu-west-1"), sign(at: may24 + 86_400),
    ]
    #expect(Set(others.map { $0["Authorization"] } + [first["Authorization"]]).count == 4)
    for time in [may24, may24 + 86_399] {
      // A fresh signer has nothing kept.
      let target = RequestTarget(
        scheme: "https", host: "examplebucket.s3.amazonaws.com", canonicalURI: "/")
      let fresh = RequestSigner().headers(
        signing: "GET", target, credentials: credentials, region: "us-east-1",
        secondsSinceEpoch: time)
      #expect(fresh.contains { $0.value == sign(at: time)["Authorization"] })
    }
  }

  @Test("Spaces in a header's value are signed as one, and letters in names as small")
  func headerForm() {
    #expect(
      sign(headers: [HTTPHeader("X-Note", "  a   b ")])["Authorization"]
        == sign(headers: [HTTPHeader("x-note", "a b")])["Authorization"])
  }

  @Test(
    "Times are written in UTC, leap days and centuries included",
    arguments: [
      (0, "19700101T000000Z"), (1_369_353_600, "20130524T000000Z"),
      (951_782_399, "20000228T235959Z"), (951_782_400, "20000229T000000Z"),
      (951_868_800, "20000301T000000Z"), (4_107_542_399, "21000228T235959Z"),
      (4_107_542_400, "21000301T000000Z"), (1_735_689_599, "20241231T235959Z"),
      (1_709_210_096, "20240229T123456Z"), (-1, "19691231T235959Z"),
    ] as [(Int64, String)])
  func timestamp(seconds: Int64, text: String) {
    #expect(sign(at: seconds)["x-amz-date"] == text)
  }

  @Test("Headers that grant access do not show when printed")
  func redaction() {
    let headers = [
      HTTPHeader("Authorization", "SECRET"), HTTPHeader("X-Amz-Security-Token", "SECRET"),
    ]
    var dumped = ""
    dump(headers, to: &dumped)
    for text in ["\(headers)", String(reflecting: headers), dumped] {
      #expect(!text.contains("SECRET"), "\(text)")
    }
    #expect("\(HTTPHeader("Range", "bytes=0-9"))" == "Range: bytes=0-9")
  }
}
