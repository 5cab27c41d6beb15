import ArgumentParser

/// The `-o` of mount(8), so that a mount can be a line of /etc/fstab with the type `fuse.inventoryfs`.
///
/// For such a line mount.fuse(8) calls the program without a command, and with everything in one list:
/// `inventoryfs SOURCE MOUNTPOINT -o rw,allow_other,cache-size=1GiB`. An option that is ours becomes the flag of that
/// name, `--allow-other`; those that every file system is given (mount(8), "Filesystem-independent mount options") are
/// dropped, because an inventory is read-only, and has neither devices nor set-user-ID programs, whatever they say.
enum MountOptionList {
  /// The arguments after the program's name, with `mount` in front where there is no command, and each `-o LIST` taken
  /// apart. Without a `-o` they stay as they are. What is wrong with them is left for the parser to say.
  static func expanded(_ arguments: [String]) -> [String] {
    let options = arguments.prefix { $0 != "--" }
    guard let first = arguments.first, options.contains(where: { $0.hasPrefix("-o") }) else {
      return arguments
    }
    let hasCommand = first.hasPrefix("-") || commands.contains(first)
    var expanded = hasCommand ? [] : ["mount"]
    var rest = options[...]
    while let argument = rest.popFirst() {
      if argument == "-o", let list = rest.popFirst() {
        expanded += flags(of: list)
      } else if argument.hasPrefix("-o"), argument.count > 2 {
        expanded += flags(of: argument.dropFirst(2))
      } else {
        expanded.append(argument)
      }
    }
    return expanded + arguments[options.endIndex...]
  }

  private static let commands = Set(
    InventoryFSCommand.configuration.subcommands.flatMap { command in
      [command.configuration.commandName ?? ""] + command.configuration.aliases
    } + ["help"])

  private static func flags(of list: some StringProtocol) -> [String] {
    elements(of: list).compactMap { option in
      let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard !option.isEmpty, !isForEveryFileSystem(String(parts[0])) else { return nil }
      let name = "--" + parts[0].replacing("_", with: "-")
      return parts.count == 1 ? name : "\(name)=\(parts[1])"
    }
  }

  /// Separated by commas; one that a backslash precedes belongs to the value, as in libfuse's lists.
  private static func elements(of list: some StringProtocol) -> [String] {
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

  /// mount(8)'s, and `default_permissions`, which is always on.
  private static let forEveryFileSystem: Set = [
    "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async",
    "dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
    "strictatime", "nostrictatime", "lazytime", "nolazytime", "mand", "nomand", "iversion",
    "noiversion", "silent", "loud", "auto", "noauto", "user", "nouser", "users", "nousers",
    "owner", "noowner", "group", "nogroup", "nofail", "_netdev", "comment", "default_permissions",
  ]
}
