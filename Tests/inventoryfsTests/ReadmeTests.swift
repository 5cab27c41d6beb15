import ArgumentParser
import FoundationEssentials
import Testing

@testable import inventoryfs

/// README.md says what the program says.
@Suite struct ReadmeTests {
  private struct Option: Equatable {
    /// `-f, --foreground`: with all its dashes.
    let names: String
    /// Empty where none is stated.
    let usual: String
  }

  /// This file is in a folder of Tests.
  private static let repository = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  private static func text(_ path: URL) throws -> String {
    String(decoding: try Data(contentsOf: path), as: UTF8.self)
  }

  private static func readme() throws -> String {
    try text(repository.appending(path: "README.md"))
  }

  /// The rows of the table below "Options of `mount`".
  private func optionsOfReadme() throws -> [Option] {
    let readme = try Self.readme()
    let title = try #require(readme.firstRange(of: "\n### Options of `mount`\n"))
    return readme[title.upperBound...].split(separator: "\n", omittingEmptySubsequences: false)
      .drop { !$0.hasPrefix("|") }.prefix { $0.hasPrefix("|") }.dropFirst(2)
      .map { row in
        let cells = row.split(separator: "|").map { $0.replacing("`", with: "") }
        let names = cells[0].split(whereSeparator: { $0 == " " || $0 == "," })
          .filter { $0.hasPrefix("-") }.joined(separator: ", ")
        return Option(names: names, usual: Self.trimmed(cells.count > 1 ? cells[1] : ""))
      }
  }

  /// Of `--help`, each option with the `(default: …)` or `(values: …; default: …)` at its end.
  private func optionsOfHelp() -> [Option] {
    let help = InventoryFSCommand.helpMessage(for: MountCommand.self, columns: 10_000)
    var entries: [String] = []
    for line in help.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("  -") {
        entries.append(line.dropFirst(2) + "  ")
      } else if line.hasPrefix("   "), !entries.isEmpty {
        // An option that leaves no room has its text on the next line.
        entries[entries.count - 1] += line
      }
    }
    return entries.map { entry in
      let label = entry[..<(entry.firstRange(of: "  ")?.lowerBound ?? entry.endIndex)]
      let names = label.split(whereSeparator: { $0 == " " || $0 == "," })
        .filter { $0.hasPrefix("-") }.joined(separator: ", ")
      let usual = entry.firstRange(of: "default: ").map { entry[$0.upperBound...] } ?? ""
      return Option(names: names, usual: Self.trimmed(usual.prefix { $0 != ")" }))
    }
  }

  private static func trimmed(_ text: some StringProtocol) -> String {
    text.split(separator: " ").joined(separator: " ")
  }

  @Test("The table has the options of --help, no others, with the same defaults")
  func options() throws {
    let readme = try optionsOfReadme()
    // ArgumentParser's own are said where they are.
    let help = optionsOfHelp().filter { !["--version", "-h, --help"].contains($0.names) }
    #expect(help.count >= 20, "or the help was not understood")
    let names = readme.map(\.names)
    #expect(Set(names).count == names.count, "an option is in the table twice")
    for option in help where !readme.contains(option) {
      Issue.record("--help has \(option), README.md \(readme.filter { $0.names == option.names })")
    }
    for option in readme where !help.contains(option) {
      Issue.record("README.md has \(option), --help \(help.filter { $0.names == option.names })")
    }
  }

  @Test("The commands in README.md use only options that there are")
  func commands() throws {
    let known = Set(
      optionsOfHelp().flatMap { $0.names.split(separator: ", ") } + ["--lazy", "--root"])
    for line in try Self.readme().split(separator: "\n") {
      guard let command = line.firstRange(of: "inventoryfs mount ") else { continue }
      for word in line[command.upperBound...].split(whereSeparator: { " =`".contains($0) })
      where word.hasPrefix("--") && word.dropFirst(2).allSatisfy({ $0.isLetter || $0 == "-" }) {
        #expect(known.contains(word), "\(line)")
      }
    }
  }

  @Test("The environment variables that README.md names are those that the program reads")
  func variables() throws {
    // `"AWS_REGION"`, but not the parts of a longer text.
    let literal = /"((?:AWS|XDG|INVENTORYFS)_[A-Z0-9_]+)"/
    let sources = Self.repository.appending(path: "Sources")
    var read: Set<String> = []
    for path in try FileManager.default.subpathsOfDirectory(atPath: sources.path)
    where path.hasSuffix(".swift") && !path.hasPrefix("EmbeddedS3Origin/") {
      for match in try Self.text(sources.appending(path: path)).matches(of: literal) {
        read.insert(String(match.1))
      }
    }
    let word = /\b(?:AWS|XDG|INVENTORYFS)_[A-Z0-9_]+/
    let named = Set(try Self.readme().matches(of: word).map { String($0.output) })
    #expect(read.count >= 20, "or the sources were not understood")
    #expect(named.subtracting(read).sorted() == [], "README.md names what nobody reads")
    #expect(read.subtracting(named).sorted() == [], "README.md does not name these")

    let help = InventoryFSCommand.helpMessage(for: MountCommand.self, columns: 10_000)
    let inHelp = Set(help.matches(of: word).map { String($0.output) })
    #expect(inHelp.count >= 4 && inHelp.isSubset(of: named))
  }
}
