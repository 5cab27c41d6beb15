import Glibc
import TestSupport
import Testing

@testable import inventoryfs

@Suite struct DefaultCacheFolderTests {
  private func name(_ mountpoint: String) -> String {
    DefaultCacheFolder.name(forMountpoint: mountpoint)
  }

  @Test(
    "A mountpoint's folder is named by its path",
    arguments: [
      ("/mnt/inv", "mnt%2Finv"), ("/a b", "a b"), ("/100%/x%2Fy", "100%25%2Fx%252Fy"),
      ("/é/字", "é%2F字"),
      ("/.hidden", ".hidden"), ("/a/\u{301}b", "a%2F\u{301}b"),
    ])
  func names(mountpoint: String, name: String) {
    #expect(self.name(mountpoint).unicodeScalars.elementsEqual(name.unicodeScalars))
  }

  @Test("The longest name that is not cut has 200 bytes")
  func uncut() {
    let longest = String(repeating: "a", count: 200)
    #expect(name("/" + longest) == longest)
    #expect(name("/" + longest + "a").utf8.count == 16 + 1 + 200)
  }

  @Test(
    "A folder of that name can be created, however long the path and its characters",
    arguments: ["a", "é", "字", "🙂", "%", "/x", "e\u{301}", "\u{301}", "🏳️‍🌈"])
  func creatable(piece: String) throws {
    var template = Array("/tmp/cache-folder-tests-XXXXXX".utf8CString)
    let parent = String(cString: try #require(mkdtemp(&template)))
    defer { rmdir(parent) }
    for count in Array(50...90) + [200, 255, 1000] {
      let name = name("/mnt/" + String(repeating: piece, count: count))
      #expect(!name.unicodeScalars.contains("/") && !name.utf8.contains(0) && !name.hasPrefix("."))
      try #require(name.utf8.count <= 255)
      #expect(mkdir("\(parent)/\(name)", 0o700) == 0, "\(name): \(errno)")
      #expect(rmdir("\(parent)/\(name)") == 0)
    }
  }

  @Test("No two mountpoints share a folder")
  func distinct() {
    var generator = SeededGenerator(seed: 11)
    let pieces = ["a", "b", "/x", "%", "%2F", "字", "e\u{301}", "\u{e9}", "-", "0"]
    var mountpoints: Set<[UInt8]> = []
    for count in [1, 2, 10, 60, 66, 67, 198, 199, 200, 201, 300, 1000] {
      for _ in 0..<40 {
        let random = (0..<count).map { _ in pieces.randomElement(using: &generator) ?? "" }
        // Such as differ in their beginnings only, which are cut off, and in their ends.
        for path in [random, ["a"] + random, ["b"] + random, random + ["a"]] {
          mountpoints.insert(Array(("/" + path.joined()).utf8))
        }
      }
    }
    let names = mountpoints.map { Array(name(String(decoding: $0, as: UTF8.self)).utf8) }
    #expect(Set(names).count == mountpoints.count)
  }

  @Test("A path that looks like another's cut name has another one")
  func lookalike() {
    let cut = name("/" + String(repeating: "a", count: 300))
    #expect(name("/" + cut) != cut)
  }

  @Test("A mountpoint has the same folder in every process")
  func stable() {
    let name = name("/mnt/" + String(repeating: "字", count: 80))
    #expect(name.hasPrefix("ea26d49140667b74-"))
    #expect(name.dropFirst(17).allSatisfy { $0 == "字" })
  }

  @Test("It is below XDG_CACHE_HOME, or else the home's .cache, where these are absolute")
  func places() throws {
    func path(_ environment: [String: String]) throws(Failure) -> String {
      try DefaultCacheFolder.path(forMountpoint: "/mnt/inv", environment: environment)
    }
    #expect(
      try path(["XDG_CACHE_HOME": "/c", "HOME": "/h"]) == "/c/inventoryfs/mnt%2Finv")
    for cache in ["", "relative"] {
      #expect(
        try path(["XDG_CACHE_HOME": cache, "HOME": "/h"]) == "/h/.cache/inventoryfs/mnt%2Finv")
    }
    #expect(try path(["HOME": "/h"]) == "/h/.cache/inventoryfs/mnt%2Finv")
    for environment in [[:], ["HOME": ""], ["HOME": "h"]] {
      let error = #expect(throws: Failure.self) { try path(environment) }
      #expect(error?.description.contains("--cache-dir") == true)
    }
  }
}
