import InventoryManifest
import Testing

@Suite struct ChunkTableTests {
  @Test("A chunk takes 32 bytes beside the manifest's text")
  func size() { #expect(ChunkTable.bytesPerChunk == 32) }

  @Test("Keys with and without escapes are the same whether they come from a manifest or not")
  func keys() throws {
    let keys = ["a/b", "ü", "\0", "", "\"\\/", "a/b", "😀"].filter { !$0.isEmpty }
    let entries = [
      #"{"key":"a/b"}"#, #"{"key":"ü"}"#, #"{"key":"\u0000"}"#, #"{"key":"\"\\\/"}"#,
      #"{"key":"a\/b"}"#, #"{"key":"\ud83d\ude00"}"#,
    ]
    let read = try decode(#"{"fileFormat":"CSV","files":[\#(entries.joined(separator: ","))]}"#)
    #expect(read.chunks.map(\.key) == keys)
    #expect(read.chunks == ChunkTable(keys.map { InventoryManifest.Chunk(key: $0) }))
  }

  @Test(
    "What is no JSON is refused",
    arguments: [
      #"{"fileFormat":"CSV","files":[]}}"#, #"{"fileFormat":"CSV","files":[],}"#,
      #"{"fileFormat":"CSV","files":[]"#, #"{"fileFormat":"CSV","files":[{}{}]}"#,
      #"{"fileFormat":"CSV","files":[],"a":01}"#, #"{"fileFormat":"CSV","files":[],"a":-}"#,
      #"{"fileFormat":"CSV","files":[],"a":1.}"#, #"{"fileFormat":"CSV","files":[],"a":1e}"#,
      #"{"fileFormat":"CSV","files":[],"a":nul}"#, #"{"fileFormat":"CSV","files":[],a:1}"#,
      #"{"fileFormat":"CSV","files":[{"key":"\ud83d"}]}"#,
      #"{"fileFormat":"CSV","files":[{"key":"\udc00"}]}"#,
      #"{"fileFormat":"CSV","files":[{"key":"\x"}]}"#,
      #"{"fileFormat":"CSV","files":[{"key":"\u12"}]}"#,
      #"{"fileFormat":"CSV","files":[{"key":"a"#, #"{"fileFormat":"CSV","files":[{"key":"a\"#,
      "{\"fileFormat\":\"CSV\",\"files\":[{\"key\":\"a\nb\"}]}",
    ])
  func invalid(text: String) {
    #expect(throws: ManifestError.self) { try decode(text) }
  }
}
