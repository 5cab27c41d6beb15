import InventoryFileSystem
import ObjectStore
import Testing

@Suite(.timeLimit(.minutes(2))) struct InventorySourceTests {
  private let manifest = InventorySource.store(
    S3Location(bucket: "b", key: "inv/src/cfg/2026-11-22T01-00Z/manifest.json"))

  @Test(
    "An object is named by its URL or its ARN, and a date's folder stands for the manifest in it",
    arguments: [
      "s3://b/inv/src/cfg/2026-11-22T01-00Z/manifest.json",
      "S3://b/inv/src/cfg/2026-11-22T01-00Z/manifest.json",
      "s3://b/inv/src/cfg/2026-11-22T01-00Z/", "s3://b/inv/src/cfg/2026-11-22T01-00Z",
      "arn:aws:s3:::b/inv/src/cfg/2026-11-22T01-00Z/manifest.json",
      "arn:aws-cn:s3:::b/inv/src/cfg/2026-11-22T01-00Z",
    ])
  func stores(text: String) throws {
    #expect(try InventorySource(text) == manifest)
  }

  @Test(
    "A path is taken as it is",
    arguments: [
      ("/inv/manifest.json", "/inv/manifest.json"), ("2026-11-22T01-00Z", "2026-11-22T01-00Z"),
      ("file:///a%20b/manifest.json", "/a b/manifest.json"),
    ])
  func paths(text: String, path: String) throws {
    #expect(try InventorySource(text) == .file(path))
  }

  @Test(
    "What is no manifest is refused, with what to name instead",
    arguments: [
      ("s3://b/inv/src/cfg/", "names a folder"), ("s3://b", "names no key"),
      ("s3://b/2026-11-22T01-00Z/manifest.checksum", "manifest.json beside it"),
      ("/inv/manifest.checksum", "manifest.json beside it"),
      ("arn:aws:sns:us-east-1:123456789012:topic", "arn:aws:s3:::bucket/key"),
      ("arn:aws:s3:us-east-1:123456789012:accesspoint/a/object/k", "arn:aws:s3:::bucket/key"),
      ("file:///a%+5b", "expected file:///"), ("file:///a%00b", "expected file:///"),
      ("file:///a%4", "expected file:///"),
      ("https://b.s3.amazonaws.com/k", "expected s3://bucket/key"),
    ])
  func refused(text: String, advice: String) {
    #expect {
      _ = try InventorySource(text)
    } throws: {
      "\($0)".contains(advice) && "\($0)".contains(text)
    }
  }
}
