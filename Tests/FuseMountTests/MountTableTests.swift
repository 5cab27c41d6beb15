import Testing

@testable import FuseMount

/// Tables as /proc/self/mountinfo has them.
@Suite struct MountTableTests {
  private func find(_ path: String, _ lines: String...) -> MountTable.Mount? {
    find(path, in: Array((lines.joined(separator: "\n") + "\n").utf8))
  }

  private func find(_ path: String, in table: [UInt8]) -> MountTable.Mount? {
    MountTable(parsing: table).topmost(at: path)
  }

  private let usual =
    "98 36 0:45 / /mnt/inv ro,nosuid,nodev,noatime shared:52 - fuse.inventoryfs s3://b/k rw,user_id=1000,group_id=7"

  @Test("A mount is told by its type, source, user and device")
  func fields() throws {
    let mount = try #require(find("/mnt/inv", usual))
    #expect(mount.type == "fuse.inventoryfs")
    #expect(mount.source == "s3://b/k")
    #expect(mount.userID == 1000)
    #expect(mount.device == "0:45")
  }

  @Test(
    "Any number of optional fields may come before the dash",
    arguments: [
      "", "shared:1 ", "shared:1 master:2 ", "shared:1 master:2 propagate_from:3 unbindable ",
    ])
  func optionalFields(fields: String) {
    let mount = find("/m", "1 2 0:3 / /m rw \(fields)- tmpfs - rw")
    #expect(mount?.type == "tmpfs" && mount?.source == "-" && mount?.userID == nil)
  }

  @Test("Space, tab, newline and backslash are three octal digits, in mountpoint and source")
  func escapes() {
    let line = #"1 2 0:3 / /a\040b\011c\012d\134e rw - fuse.x s3://b/k\040l\1340\134 rw"#
    let mount = find("/a b\tc\nd\\e", line)
    #expect(mount?.source == #"s3://b/k l\0\"#)
    #expect(find(#"/a\040b\011c\012d\134e"#, line) == nil)
  }

  @Test(
    "What only looks like an escape is text",
    arguments: [#"\"#, #"\04"#, #"\999"#, #"\400"#, #"\+40"#, #"\x40"#])
  func noEscapes(text: String) {
    #expect(find("/a" + text, "1 2 0:3 / /a\(text) rw - t s rw") != nil)
  }

  @Test("Of mounts on one point the one that is mounted on the other is on top, in any order")
  func stacked() {
    let other = "99 98 0:46 / /mnt/inv rw - tmpfs scratch rw"
    #expect(find("/mnt/inv", usual, other)?.device == "0:46")
    #expect(find("/mnt/inv", other, usual)?.device == "0:46", "as after mount --move")
  }

  @Test("A mount on a folder hides the mounts below it that were there before, in any order")
  func hidden() throws {
    let root = "36 1 0:1 / / rw - ext4 disk rw"
    let above = "99 36 0:46 / /mnt rw - tmpfs scratch rw"
    for lines in [[root, usual, above], [above, usual, root], [usual, above, root]] {
      let table = MountTable(parsing: Array(lines.joined(separator: "\n").utf8))
      #expect(table.topmost(at: "/mnt/inv") == nil)
      #expect(table.topmost(at: "/mnt")?.device == "0:46")
      let found = try #require(table.mount(hiding: "/mnt/inv"))
      #expect(found.hidden.device == "0:45" && found.above.device == "0:46")
      #expect(table.mount(holding: "/mnt/inv/data")?.device == "0:46")
    }
    let again = "100 99 0:47 / /mnt/inv rw - tmpfs scratch rw"
    #expect(find("/mnt/inv", root, usual, above, again)?.device == "0:47")
  }

  @Test("The way to a path leads into the mount of a folder above it, and not of one beside it")
  func holding() {
    let root = "36 1 0:1 / / rw - ext4 disk rw"
    let table = MountTable(parsing: Array([root, usual].joined(separator: "\n").utf8))
    #expect(table.mount(holding: "/mnt/inv/data/x")?.device == "0:45")
    #expect(table.mount(holding: "/mnt/inventory")?.device == "0:1")
    #expect(table.mount(hiding: "/mnt/inv") == nil, "it is to be seen")
    #expect(table.mount(hiding: "/mnt/other") == nil)
  }

  @Test("Only the whole path is the mountpoint")
  func prefixes() {
    let longer = "97 36 0:46 / /mnt/inventory rw - tmpfs scratch rw"
    let deeper = "99 98 0:47 / /mnt/inv/data rw - tmpfs scratch rw"
    #expect(find("/mnt/inv", usual, longer, deeper)?.device == "0:45")
    #expect(find("/mnt/inventory", usual, longer, deeper)?.device == "0:46")
    for path in ["/mnt", "/mnt/inv/", "/mnt/in", "/", "", "mnt/inv"] {
      #expect(find(path, usual, longer, deeper) == nil)
    }
  }

  @Test("Names that look alike but have other bytes are two mountpoints")
  func normalization() {
    let (composed, decomposed) = ("/mnt/\u{e9}", "/mnt/e\u{301}")
    #expect(find(decomposed, "1 2 0:3 / \(composed) rw - t s rw") == nil)
    #expect(find(composed, "1 2 0:3 / \(composed) rw - t s rw") != nil)
  }

  @Test("Fields are told apart by bytes: a mark after a space or a line's end joins nothing")
  func combiningMarks() {
    let mount = find("/n", "1 2 0:3 / /m rw - t \u{301}s rw,x=\r", "1 2 0:4 / /n rw - t s rw")
    #expect(mount?.device == "0:4")
    #expect(find("/m", "1 2 0:3 / /m rw - t \u{301}s rw")?.source == "\u{301}s")
  }

  @Test(
    "A line of another shape is passed over",
    arguments: [
      "", " ", "1 2 0:3 / /m", "1 2 0:3 / /m rw -", "1 2 0:3 / /m rw - t",
      "1 2 0:3 / /m rw shared:1 t s", "1  2 0:3 / /m rw - t s rw", " 1 2 0:3 / /m rw - t s rw",
    ])
  func oddLines(line: String) {
    #expect(find("/m", line) == nil)
    #expect(find("/m", line, "1 2 0:9 / /m rw - t s rw", line)?.device == "0:9")
  }

  @Test("A source may be empty, options may be missing, bytes need not be UTF-8, the end no line's")
  func oddFields() {
    #expect(find("/m", "1 2 0:3 / /m rw - t  rw")?.source == "")
    #expect(find("/m", "1 2 0:3 / /m rw - t s")?.userID == nil)
    #expect(find("/m", "1 2 0:3 / /m rw - t s rw,user_id=x,user_id=")?.userID == nil)
    let bytes = Array("1 2 0:3 / /m rw - t ".utf8) + [0xff, 0x20, 0x72, 0x77]
    #expect(find("/m", in: bytes)?.source == "\u{fffd}")
    #expect(find("/m", in: []) == nil)
  }

  @Test("The real table has the root")
  func real() { #expect(MountTable()?.topmost(at: "/") != nil) }
}
