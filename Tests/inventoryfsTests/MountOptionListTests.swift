import ArgumentParser
import Testing

@testable import inventoryfs

/// `-o` lists, as fstab and mount(8) give them.
@Suite struct MountOptionListTests {
  private func expanded(_ arguments: String...) -> [String] { MountOptionList(arguments).arguments }

  /// What a list becomes.
  private func flags(_ list: String) -> [String] {
    Array(expanded("source", "mountpoint", "-o", list).dropFirst(3))
  }

  @Test(
    "Options are flags without their dashes, whose names may have underscores",
    arguments: [
      ("allow_other", ["--allow-other"]), ("allow-other", ["--allow-other"]),
      ("cache-size=1GiB,uid=7", ["--cache-size=1GiB", "--uid=7"]),
      ("cache_min_free=1G,file_mode=0400", ["--cache-min-free=1G", "--file-mode=0400"]),
      ("cache-dir=/a_b", ["--cache-dir=/a_b"]),
      ("endpoint_url=http://h/?a=b", ["--endpoint-url=http://h/?a=b"]),
      ("profile=", ["--profile="]), ("", []), (",,", []),
      ("uid=1,,gid=2,", ["--uid=1", "--gid=2"]),
      ("cache-dir=/é字 x", ["--cache-dir=/é字 x"]), ("uid=1,uid=2", ["--uid=1", "--uid=2"]),
    ])
  func options(list: String, flags: [String]) {
    #expect(self.flags(list) == flags)
  }

  @Test(
    "A backslash takes the next character into the value",
    arguments: [
      (#"cache-dir=a,b"#, ["--cache-dir=a", "--b"]), (#"cache-dir=a\,b"#, ["--cache-dir=a,b"]),
      (#"cache-dir=a\\,b"#, [#"--cache-dir=a\"#, "--b"]),
      (#"cache-dir=a\\\,b"#, [#"--cache-dir=a\,b"#]),
      (#"cache-dir=\d\,e\,"#, ["--cache-dir=d,e,"]), (#"cache-dir=a\"#, ["--cache-dir=a"]),
      (#"\,"#, ["--,"]),
    ])
  func escapes(list: String, flags: [String]) {
    #expect(self.flags(list) == flags)
  }

  @Test(
    "What every file system is given is dropped",
    arguments: [
      "rw", "ro", "defaults", "nofail", "_netdev", "noauto", "user", "users", "nosuid", "nodev",
      "exec",
      "noatime", "relatime", "x-systemd.automount", "x-systemd.mount-timeout=90",
      "X-mount.mkdir=0755",
      "x-gvfs-show", "comment=a=b", "default_permissions", "user=name",
    ])
  func dropped(option: String) {
    #expect(flags(option) == [])
    #expect(flags("uid=1,\(option),gid=2") == ["--uid=1", "--gid=2"])
  }

  @Test("What is like one of those, but is not, is left for the parser to refuse")
  func notDropped() {
    for option in ["RW", "netdev", "no_fail", "nofails", "x", "xattr", "remount"] {
      #expect(flags(option) == ["--" + option.replacing("_", with: "-")])
    }
  }

  @Test("Lists may be written apart or together, and anywhere; other arguments stay in their order")
  func places() {
    #expect(
      expanded("mount", "-o", "uid=1", "s", "-ogid=2", "m", "-f")
        == ["mount", "--uid=1", "s", "--gid=2", "m", "-f"])
    #expect(expanded("s", "m", "-o", "rw") == ["mount", "s", "m"])
    #expect(expanded("-o", "rw", "s", "m") == ["s", "m"], "no command, but none is guessed either")
    for command in ["mount", "unmount", "umount", "help"] {
      #expect(expanded(command, "m", "-o", "rw") == [command, "m"])
    }
  }

  @Test("Without a list, and after two dashes, arguments stay as they are")
  func untouched() {
    #expect(expanded() == [])
    #expect(expanded("s", "m") == ["s", "m"])
    #expect(expanded("mount", "--", "-o", "rw") == ["mount", "--", "-o", "rw"])
    #expect(
      expanded("mount", "-o", "uid=1", "--", "-o", "rw") == ["mount", "--uid=1", "--", "-o", "rw"])
  }

  @Test("A -o with nothing after it is left for the parser to refuse")
  func missingList() {
    #expect(expanded("mount", "s", "m", "-o") == ["mount", "s", "m", "-o"])
    #expect(throws: (any Error).self) { try MountCommand.parse(["s", "m", "-o"]) }
    #expect(throws: (any Error).self) { try MountCommand.parse(["s", "m", "-o", "rw"]) }
  }

  @Test("A whole line of fstab is understood")
  func fstab() throws {
    let list = MountOptionList([
      "s3://b/k", "/mnt/inv", "-o",
      #"rw,_netdev,nofail,x-systemd.automount,allow_other,cache-dir=/a\,b,read_timeout=2m,max_connections=7"#,
    ])
    let command = try #require(
      try InventoryFSCommand.parseAsRoot(list.arguments) as? MountCommand)
    #expect(command.source == "s3://b/k" && command.mountpoint == "/mnt/inv")
    #expect(command.files.allowOther)
    #expect(command.resources.cacheDir == "/a,b")
    #expect(command.resources.readTimeout.duration == .seconds(120))
    #expect(command.resources.maxConnections == 7)
  }

  /// The first line of the message about arguments that are wrong.
  private func message(_ arguments: String...) -> String {
    let list = MountOptionList(arguments)
    let error = #expect(throws: (any Error).self) {
      _ = try InventoryFSCommand.parseAsRoot(list.arguments)
    }
    let text = error.map { list.inUsersWords(InventoryFSCommand.fullMessage(for: $0)) } ?? ""
    return String(text.prefix { $0 != "\n" })
  }

  @Test(
    "An option that is wrong is called what the user has called it",
    arguments: [
      ("foo_bar", "'foo_bar' in -o"), ("foo-bar", "'foo-bar' in -o"),
      ("foo_bar=1", "'foo_bar' in -o"),
      ("cache_size=x", "The value 'x' is invalid for 'cache_size' in -o"),
      ("allow_other=1", "'allow_other' in -o"),
      ("rw,remount,uid=1", "'remount' in -o"), ("read_timeout=it's", "'read_timeout' in -o"),
      ("cache_sise=1G", "Did you mean '--cache-size'?"),
    ])
  func wrongOption(list: String, part: String) {
    let text = message("s", "m", "-o", list)
    #expect(text.contains(part), "\(text)")
  }

  @Test("A flag that the user has written is called by its name, also beside a list with it")
  func wrongFlag() {
    #expect(message("mount", "s", "m", "--foo-bar", "-o", "rw").contains("'--foo-bar'"))
    #expect(
      message("mount", "s", "m", "--cache-size=x", "-o", "cache_size=1G").contains(
        "'--cache-size <size>'"))
    #expect(message("mount", "s", "m", "--foo").contains("'--foo'"))
  }

  @Test("Only the first line is changed: usage names flags")
  func otherLines() {
    let list = MountOptionList(["s", "m", "-o", "uid=x"])
    let text = "Error: '--uid' and '--uid <uid>'\nHelp: '--uid'\n"
    #expect(list.inUsersWords(text) == "Error: 'uid' in -o and 'uid' in -o\nHelp: '--uid'\n")
    #expect(list.inUsersWords("") == "")
  }
}
