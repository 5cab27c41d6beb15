import InventoryManifest
import Testing

@Suite struct UnusableManifestTests {
  @Test(
    "What is not a manifest is called by its name",
    arguments: [
      ("", "is empty"), (" \n", "is empty"),
      ("<?xml version=\"1.0\"?><Error/>", "starts with '<?xml version"),
      ("<!DOCTYPE html>", "error page"),
      ("\"bucket\",\"key\"\n", "starts with '\"bucket\",\"key\"\\u{a}'"),
      ("PAR1\u{15}", "a Parquet file"), ("ORC\u{8}", "an ORC file"), ("PK\u{3}\u{4}", "a ZIP file"),
      ("[{\"key\":\"a\"}]", "a JSON array"), ("null", "starts with 'null'"),
      ("7", "starts with '7'"),
      (#"{"files":[{"key":"a"},"#, "ends with '{\"files\":[{\"key\":\"a\"},', as if cut off"),
      (#"{"files":[{"key" "a"}]}"#, "damaged inside"),
      (
        #"{"Format":"Report_CSV_20180820","ReportCreationDate":"2019-04-05T17:48:39.725Z","#
          + #""Results":[{"TaskExecutionStatus":"succeeded","Bucket":"b","Key":"k"}],"ReportSchema":"Bucket"}"#,
        "an S3 Batch Operations completion report"
      ),
      (
        #"{"Spec":{"Format":"S3BatchOperations_CSV_20180820","Fields":["Bucket","Key"]},"#
          + #""Location":{"ObjectArn":"arn:aws:s3:::b/k","ETag":"e"}}"#,
        "an S3 Batch Operations job manifest"
      ),
      (#"{"format-version":2,"table-uuid":"9c12d441","location":"s3://b/t"}"#, "an Iceberg table"),
      (#"{"table-uuid":"9c12d441"}"#, "an Iceberg table"),
      (#"{"entries":[{"url":"s3://b/k","mandatory":true}]}"#, "a Redshift manifest"),
      (#"{"InventoryConfiguration":{"Id":"daily"}}"#, "an inventory's configuration"),
      (#"{"b":1,"a":2}"#, #"is a JSON object with "a", "b", and lacks "files""#),
      ("{}", #"is an empty JSON object, and lacks "files""#),
      (#"{"files":{},"fileFormat":"CSV"}"#, #"has no array as "files""#),
      (#"{"files":null,"fileFormat":"CSV"}"#, #"has no array as "files""#),
      (#"{"files":[]}"#, #"lacks "fileFormat", but one of CSV, ORC, Parquet was expected"#),
      (
        #"{"files":[],"fileFormat":"Avro"}"#,
        #"has 'Avro' as "fileFormat", but one of CSV, ORC, Parquet"#
      ),
      (#"{"files":[],"fileFormat":3}"#, #"has no text as "fileFormat""#),
      (#"{"files":[{"key":"a"},{"size":1}],"fileFormat":"CSV"}"#, #"files[1] lacks "key""#),
      (#"{"files":[{"key":""}],"fileFormat":"CSV"}"#, #"files[0] has an empty "key""#),
      (#"{"files":[{"key":7}],"fileFormat":"CSV"}"#, #"files[0] has an empty "key" or one that"#),
      (#"{"files":[{"key":"a"},"b"],"fileFormat":"CSV"}"#, "files[1] is not an object"),
      (#"{"files":[null],"fileFormat":"CSV"}"#, "files[0] is not an object"),
    ])
  func unusable(content: String, found: String) {
    let error = #expect(throws: ManifestError.self) { try decode(content) }
    let description = error?.description ?? ""
    #expect(description.contains(found), "\(description)")
    #expect(description.hasPrefix("m.json: "))
    #expect(description.contains("expected") || description.contains("a manifest is"))
    #expect(
      description.hasSuffix("manifest.json.") || description.hasSuffix("another date's manifest."))
  }

  @Test("A compressed chunk is not taken for a manifest")
  func gzip() {
    let error = #expect(throws: ManifestError.self) {
      try InventoryManifest(decoding: [0x1f, 0x8b, 0x08, 0x00], from: "s3://b/data/a.csv.gz")
    }
    #expect(error?.problem == .notJSON(found: "is gzip data, as a CSV chunk is"))
  }

  @Test("Invalid UTF-8 is refused")
  func invalidText() {
    let bytes =
      Array(#"{"fileFormat":"CSV","files":[{"key":""#.utf8) + [0xff] + Array(#""}]}"#.utf8)
    #expect(throws: ManifestError.self) { try InventoryManifest(decoding: bytes, from: "m.json") }
  }

  @Test(
    "Millions of brackets are refused without recursing into them",
    arguments: ["", #"{"files":"#, #"{"fileFormat":"CSV","files":[{"key":"k","size":"#])
  func brackets(start: String) {
    let content = Array(start.utf8) + [UInt8](repeating: UInt8(ascii: "["), count: 8 << 20)
    #expect(throws: ManifestError.self) {
      try InventoryManifest(decoding: content, from: "m.json")
    }
  }

  @Test("Objects nested without end are refused too")
  func nestedObjects() {
    let content = Array(String(repeating: #"{"files":"#, count: 1 << 20).utf8)
    #expect(throws: ManifestError.self) {
      try InventoryManifest(decoding: content, from: "m.json")
    }
  }

  @Test("A manifest over the limit is refused by its size")
  func tooLarge() {
    let size = InventoryManifest.maximumSizeInBytes + 1
    let error = #expect(throws: ManifestError.self) {
      try InventoryManifest(
        decoding: [UInt8](repeating: UInt8(ascii: "["), count: size), from: "m.json")
    }
    #expect(error?.problem == .tooLarge(sizeInBytes: size))
    #expect(error?.description.contains("268435457 bytes") == true)
    #expect(error?.description.contains("at most 268435456") == true)
  }

  @Test("A message stays on one line, whatever the location and the key hold")
  func oneLine() {
    let error = ManifestError(
      location: "a\nb\u{1b}[2J",
      problem: .fileEntry(index: 3, key: "\r\u{202e}k", found: "lacks x", expected: "x"))
    #expect(
      error.description.hasPrefix(
        #"a\u{a}b\u{1b}[2J: files[3] (key '\u{d}\u{202e}k') lacks x, but x was expected."#))
  }
}
