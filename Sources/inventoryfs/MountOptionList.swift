import ArgumentParser

/// The `-o` of mount(8), so that a mount can be a line of /etc/fstab with the type
/// `fuse.inventoryfs`.
///
/// For such a line mount.fuse(8) calls the program without a command, and with all options in one
/// list: `inventoryfs SOURCE MOUNTPOINT -o rw,allow_other,cache-size=1GiB`. An option of this
/// program becomes the flag of that name, `--allow-other`; the options of every file system
/// (mount(8), "Filesystem-independent mount options") are dropped, because an inventory is
/// read-only and has neither devices nor set-user-ID programs, whatever the options say.
struct MountOptionList {
  /// The arguments after the program's name, with `mount` in front where there is no command, and
  /// each `-o LIST` taken apart. Without a `-o` they stay unchanged. The parser reports wrong
  /// arguments.
  let arguments: [String]
  /// The names of flags in the lists that they came from, for flags that only a list has.
  private let namesInLists: [String: String]

  init(_ given: [String]) {
    let options = given.prefix { $0 != "--" }
    guard let first = given.first, options.contains(where: { $0.hasPrefix("-o") }) else {
      arguments = given
      namesInLists = [:]
      return
    }
    let hasCommand = first.hasPrefix("-") || Self.commands.contains(first)
    var expanded = hasCommand ? [] : ["mount"]
    var names: [String: String] = [:]
    var others: [String] = []
    var rest = options[...]
    while let argument = rest.popFirst() {
      let list: Substring
      if argument == "-o", let next = rest.popFirst() {
        list = next[...]
      } else if argument.hasPrefix("-o"), argument.count > 2 {
        list = argument.dropFirst(2)
      } else {
        expanded.append(argument)
        others.append(argument)
        continue
      }
      for option in Self.options(of: list) {
        expanded.append(option.flag + option.value)
        names[option.flag] = option.name
      }
    }
    arguments = expanded + given[options.endIndex...]
    namesInLists = names.filter { flag, _ in
      !others.contains { $0 == flag || $0.hasPrefix(flag + "=") }
    }
  }

  /// The parser's message about the arguments, whose first line names flags that came from a list
  /// as the list does.
  func inUsersWords(_ message: String) -> String {
    let end = message.firstIndex(of: "\n") ?? message.endIndex
    var line = String(message[..<end])
    for (flag, name) in namesInLists {
      // The message quotes the flag, perhaps with its value or its value's name: '--uid',
      // '--uid=x', '--uid <uid>'.
      for follower in ["'", "=", " "] {
        guard let found = line.firstRange(of: "'" + flag + follower),
          let quote = line[found.lowerBound...].dropFirst().firstIndex(of: "'")
        else { continue }
        line.replaceSubrange(found.lowerBound...quote, with: "'\(name)' in -o")
      }
    }
    return line + message[end...]
  }

  /// The names of all commands.
  static let commands = Set(
    InventoryFSCommand.configuration.subcommands.flatMap { command in
      [command.configuration.commandName ?? ""] + command.configuration.aliases
    } + ["help"])

  private static func options(
    of list: Substring
  ) -> [(name: String, flag: String, value: String)] {
    elements(of: list).compactMap { option in
      let name = option.prefix { $0 != "=" }
      guard !option.isEmpty, !isForEveryFileSystem(String(name)) else { return nil }
      return (
        String(name), "--" + name.replacing("_", with: "-"), String(option.dropFirst(name.count))
      )
    }
  }

  /// Splits a list at its commas. A comma after a backslash belongs to the value, as in libfuse's
  /// lists.
  private static func elements(of list: Substring) -> [String] {
    var elements = [""]
    var isEscaped = false
    for character in list {
      if isEscaped || (character != "," && character != "\\") {
        elements[elements.count - 1].append(character)
        isEscaped = false
      } else if character == "," {
        elements.append("")
      } else {
        isEscaped = true
      }
    }
    return elements
  }

  private static func isForEveryFileSystem(_ name: String) -> Bool {
    forEveryFileSystem.contains(name) || name.hasPrefix("x-") || name.hasPrefix("X-")
  }

  /// The options of mount(8) that are dropped, and `default_permissions`, which is always on.
  private static let forEveryFileSystem: Set = [
    "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async",
    "dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
    "strictatime", "nostrictatime", "lazytime", "nolazytime", "mand", "nomand", "iversion",
    "noiversion", "silent", "loud", "auto", "noauto", "user", "nouser", "users", "nousers",
    "owner", "noowner", "group", "nogroup", "nofail", "_netdev", "comment", "default_permissions",
  ]
}
