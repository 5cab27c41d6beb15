import InventoryManifest
import TestSupport
import Testing

@Suite struct ChunkNamesTests {
  private func names(_ keys: String...) -> [String] { ChunkNames.names(forKeys: keys) }

  @Test("A clean and unique basename stays as it is")
  func untouched() {
    #expect(
      names("inv/data/a.csv.gz", "b.parquet", "/x/c", "../d.orc", "e//.hidden", "f/ü 1.gz", "g\\h")
        == ["a.csv.gz", "b.parquet", "c", "d.orc", ".hidden", "ü 1.gz", "g\\h"])
  }

  // The tags are the first digits of the whole key's SHA-256, from `printf %s a/part.csv.gz |
  // sha256sum`.
  @Test("Keys with one basename all get a tag, before an extension that globs still match")
  func sharedBasename() {
    #expect(
      names("a/part.csv.gz", "b/part.csv.gz", "c/other.csv.gz")
        == ["part.b75db7cf.csv.gz", "part.df554cbb.csv.gz", "other.csv.gz"])
    #expect(
      names("a/p.parquet", "b/p.parquet").allSatisfy {
        $0.hasPrefix("p.") && $0.hasSuffix(".parquet")
      })
    #expect(names("a/p", "b/p").allSatisfy { $0.hasPrefix("p.") && $0.count == 10 })
  }

  @Test("A tagged name does not depend on the order or the number of the other keys")
  func independence() {
    let few = names("a/part.gz", "b/part.gz")
    let more = names("c/part.gz", "z.gz", "b/part.gz", "a/part.gz")
    #expect(few == [more[3], more[2]])
  }

  @Test("A key that occurs again gets further names")
  func sameKey() {
    let three = names("a/p.gz", "a/p.gz", "a/p.gz")
    #expect(Set(three).count == 3)
    #expect(three.allSatisfy { $0.hasPrefix("p.") && $0.hasSuffix(".gz") })
    #expect(three[1].hasPrefix(three[0].dropLast(3)))
  }

  @Test("A clean name wins over a tagged one that equals it, whatever the order")
  func cleanNameWins() {
    let tagged = names("a/p.gz", "b/p.gz")[0]
    let both = names("a/p.gz", "b/p.gz", "c/\(tagged)")
    #expect(both[2] == tagged)
    #expect(Set(both).count == 3)
  }

  @Test(
    "A basename that is no safe name is cleaned and tagged",
    arguments: [
      ("..", "chunk."), (".", "chunk."), ("a/..", "chunk."), ("/", "chunk."), ("///", "chunk."),
      ("", "chunk."), ("a/b/", "b."), ("a/x\0y.csv.gz", "x_y."), ("a\nb", "a_b."),
      ("\u{7f}\u{85}\u{2028}", "___."), ("a/\r\n", "__."),
    ])
  func unsafe(key: String, prefix: String) {
    let name = names(key)[0]
    #expect(name.hasPrefix(prefix), "\(name)")
    #expect(name.utf8.count >= prefix.utf8.count + 8)
  }

  @Test("A long name is cut between characters, and keeps its tag and extension")
  func longName() {
    for stem in ["x", "é", "日本", "👩‍👩‍👧‍👦", "e\u{301}"] {
      let name = names("a/" + String(repeating: stem, count: 300) + ".csv.gz")[0]
      #expect(name.utf8.count <= 255 && name.utf8.count > 255 - stem.utf8.count, "\(name)")
      #expect(name.hasSuffix(".csv.gz"))
      let kept = name.dropLast("12345678.csv.gz".count + 1)
      #expect(String(repeating: stem, count: 300).hasPrefix(kept), "\(name)")
    }
    // 255 bytes fit.
    let longest = String(repeating: "x", count: 255)
    #expect(names(longest) == [longest])
  }

  @Test("One character that is longer than a name gives way to a word")
  func endlessCharacter() {
    let name = names("e" + String(repeating: "\u{301}", count: 200) + ".gz")[0]
    #expect(name.hasPrefix("chunk.") && name.hasSuffix(".gz"))
  }

  @Test("Names that differ only in Unicode's normal form are kept apart")
  func canonicalEquivalence() {
    let both = names("a/\u{e9}", "a/e\u{301}")
    #expect(Set(both).count == 2)
    #expect(Set(both.map { Array($0.utf8) }).count == 2)
  }

  @Test("Whatever the keys, the names are safe, distinct and the same again")
  func anyKeys() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("ChunkNames: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    for _ in 0..<200 {
      var keys: [String] = []
      for _ in 0..<Int.random(in: 0...60, using: &random) {
        // A name already given, or a key again, is the likeliest to clash.
        let source = Int.random(in: 0..<10, using: &random)
        if source == 0, let key = keys.randomElement(using: &random) {
          keys.append(key)
        } else if source == 1,
          let name = ChunkNames.names(forKeys: keys).randomElement(using: &random)
        {
          keys.append("again/" + name)
        } else {
          keys.append(nastyKey(using: &random))
        }
      }
      let names = ChunkNames.names(forKeys: keys)
      #expect(names.count == keys.count)
      #expect(Set(names).count == names.count, "seed \(seed)")
      #expect(names == ChunkNames.names(forKeys: keys), "seed \(seed)")
      for name in names { #expect(isSafe(name), "seed \(seed): \(name.debugDescription)") }
    }
  }

  @Test("A hundred thousand keys that share everything they can get names in one pass")
  func manyKeys() {
    let sameBasename = (0..<100_000).map { "\($0)/part-00000.csv.gz" }
    #expect(Set(ChunkNames.names(forKeys: sameBasename)).count == 100_000)
    // Trying every name for each key would take hours.
    let sameKey = Array(repeating: "a/part-00000.csv.gz", count: 100_000)
    #expect(Set(ChunkNames.names(forKeys: sameKey)).count == 100_000)
  }

  private func isSafe(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && name.utf8.count <= 255
      && !name.unicodeScalars.contains { $0 == "/" || $0.properties.generalCategory == .control }
  }

  private func nastyKey(using random: inout SeededGenerator) -> String {
    let pieces = [
      "/", "/", "..", ".", "\0", "\n", "\r", "\u{1b}", "\u{85}", "a", "part", ".csv", ".gz", "é",
      "e\u{301}", "👩‍👩‍👧‍👦", "\u{200d}", "\u{301}", " ", "\\", String(repeating: "x", count: 100),
      String(repeating: "日", count: 50), String(repeating: "\u{301}", count: 140), ".12345678",
    ]
    return (0..<Int.random(in: 0...6, using: &random))
      .compactMap { _ in pieces.randomElement(using: &random) }.joined()
  }
}
