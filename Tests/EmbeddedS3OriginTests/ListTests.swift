import EmbeddedS3Origin
import FoundationEssentials
import Testing

@Suite struct ListTests {
  private let keys = ["a", "a/1", "a/2", "a/3/x", "b", "b+ &<.txt", "c/1", "z"]

  @Test("A listing has every key in the order of its bytes, with size and ETag")
  func everything() async throws {
    let folder = try TemporaryFolder()
    for key in keys where key != "a" { try folder.write(key, to: "bucket/\(key)") }
    try await EmbeddedS3Origin.run(OriginConfiguration(rootFolder: folder.path)) { origin in
      origin.put(bucket: "bucket", key: "a", bytes: Array("hello".utf8))
      let answer = try origin.ask("GET", "/bucket?list-type=2")
      #expect(answer.status == 200)
      #expect(
        answer.elements("Key")
          == keys.map { $0.replacing("&", with: "&amp;").replacing("<", with: "&lt;") })
      #expect(answer.elements("Size") == keys.map { "\($0 == "a" ? 5 : $0.utf8.count)" })
      #expect(answer.elements("ETag").first == "&quot;5d41402abc4b2a76b9719d911017c592&quot;")
      #expect(answer.element("KeyCount") == "\(keys.count)")
      #expect(answer.element("IsTruncated") == "false")
    }
  }

  @Test(
    "Pages of any size, with a delimiter or not, add up to the listing at once", arguments: 1...9)
  func pages(maxKeys: Int) async throws {
    try await withBucket { origin in
      for query in ["", "&delimiter=/", "&prefix=a/", "&prefix=a/&delimiter=/", "&prefix=a"] {
        let whole = try origin.ask("GET", "/bucket?list-type=2" + query)
        var keys: [String] = []
        var prefixes: [String] = []
        var token = ""
        repeat {
          let page = try origin.ask(
            "GET", "/bucket?list-type=2&max-keys=\(maxKeys)\(query)\(token)")
          let found = page.elements("Key").count + Self.commonPrefixes(page).count
          #expect(page.element("KeyCount") == "\(found)")
          #expect(found <= maxKeys)
          keys += page.elements("Key")
          prefixes += Self.commonPrefixes(page)
          let next = page.element("NextContinuationToken")
          #expect((page.element("IsTruncated") == "true") == (next != nil))
          token = next.map { "&continuation-token=" + $0.replacing("%", with: "%25") } ?? ""
        } while !token.isEmpty
        #expect(keys == whole.elements("Key"), "query \(query)")
        #expect(prefixes == Self.commonPrefixes(whole), "query \(query)")
      }
    }
  }

  @Test("A delimiter rolls keys up into common prefixes")
  func delimiter() async throws {
    try await withBucket { origin in
      let root = try origin.ask("GET", "/bucket?list-type=2&delimiter=/")
      #expect(root.elements("Key") == ["a", "b", "b+ &amp;&lt;.txt", "z"])
      #expect(Self.commonPrefixes(root) == ["a/", "c/"])
      let below = try origin.ask("GET", "/bucket?list-type=2&delimiter=%2F&prefix=a%2F")
      #expect(below.elements("Key") == ["a/1", "a/2"])
      #expect(Self.commonPrefixes(below) == ["a/3/"])
    }
  }

  @Test("A listing starts after the key that it is told")
  func startAfter() async throws {
    try await withBucket { origin in
      let answer = try origin.ask("GET", "/bucket?list-type=2&start-after=b")
      #expect(answer.elements("Key") == ["b+ &amp;&lt;.txt", "c/1", "z"])
    }
  }

  @Test("With encoding-type=url keys come in the coding of forms")
  func urlEncoding() async throws {
    try await withBucket { origin in
      let answer = try origin.ask("GET", "/bucket?list-type=2&encoding-type=url&prefix=b%2B")
      #expect(answer.elements("Key") == ["b%2B+%26%3C.txt"])
      #expect(answer.element("EncodingType") == "url")
    }
  }

  @Test("What a listing cannot do is an error")
  func errors() async throws {
    try await withBucket { origin in
      #expect(try origin.ask("GET", "/none?list-type=2").errorCode == "NoSuchBucket")
      for query in ["max-keys=x", "max-keys=-1", "continuation-token=x", "encoding-type=x"] {
        let answer = try origin.ask("GET", "/bucket?list-type=2&\(query)")
        #expect(answer.errorCode == "InvalidArgument", "query \(query)")
      }
      #expect(try origin.ask("GET", "/bucket?list-type=2&prefix=none").element("KeyCount") == "0")
      #expect(try origin.ask("GET", "/bucket?list-type=2&max-keys=0").element("KeyCount") == "0")
      #expect(try origin.ask("GET", "/bucket?list-type=2&prefix=../").element("KeyCount") == "0")
    }
  }

  @Test("A bucket tells its region, and the server its buckets")
  func buckets() async throws {
    let configuration = OriginConfiguration(region: "eu-west-1")
    try await EmbeddedS3Origin.run(configuration) { origin in
      origin.put(bucket: "bucket", key: "o", bytes: [])
      let head = try origin.ask("HEAD", "/bucket")
      #expect(head.status == 200)
      #expect(head.headers["x-amz-bucket-region"] == "eu-west-1")
      #expect(try origin.ask("HEAD", "/none").status == 404)
      #expect(try origin.ask("GET", "/bucket?location").text.contains(">eu-west-1</"))
      #expect(try origin.ask("GET", "/").elements("Name") == ["bucket"])
    }
  }

  private static func commonPrefixes(_ response: WireClient.Response) -> [String] {
    response.elements("CommonPrefixes").compactMap { part in
      part.split(separator: ">").dropFirst().first.map { String($0.prefix { $0 != "<" }) }
    }
  }

  private func withBucket(_ body: (EmbeddedS3Origin) async throws -> Void) async throws {
    try await EmbeddedS3Origin.run(OriginConfiguration()) { origin in
      for key in keys { origin.put(bucket: "bucket", key: key, bytes: Array(key.utf8)) }
      try await body(origin)
    }
  }
}
