import InventoryManifest
import Testing

@Suite struct KeyPrefixTests {
  @Test(
    "Keys that begin with the old prefix begin with the new one instead, and others stay",
    arguments: [
      ("a/=b/", "a/x", "b/x"), ("a/=b/", "c/a/x", "c/a/x"), ("=b/", "x", "b/x"),
      ("a/=", "a/x", "x"), ("=", "a/x", "a/x"), ("a=b=c", "ax", "b=cx"), ("é/=b/", "é/x", "b/x"),
    ])
  func applied(text: String, key: String, result: String) throws {
    let prefix = try #require(KeyPrefix(parsing: text))
    #expect(prefix.applied(to: key) == result)
    #expect(prefix.description == text)
  }

  @Test("Text without an equals sign is no prefix")
  func unreadable() { #expect(KeyPrefix(parsing: "a/") == nil) }

  @Test("A prefix that a copy may have lost ends behind a slash, and never behind two dots")
  func droppable() {
    #expect(KeyPrefix.droppable(from: "a/b/c") == ["", "a/", "a/b/"])
    #expect(KeyPrefix.droppable(from: "c") == [""])
    #expect(KeyPrefix.droppable(from: "../c") == [""])
    #expect(KeyPrefix.droppable(from: "a/../c") == ["", "a/"])
    #expect(KeyPrefix.droppable(from: "a//c") == ["", "a/"])
  }

  @Test("A key of a thousand slashes has a bounded number of folders")
  func bounded() {
    let key = String(repeating: "a/", count: 500) + "b"
    #expect(KeyPrefix.folders(of: key).count <= 25 && KeyPrefix.droppable(from: key).count <= 25)
  }
}
