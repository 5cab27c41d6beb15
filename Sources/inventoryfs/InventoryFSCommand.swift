import ArgumentParser
import FuseMount
import Glibc
import PrintableText

/// The program: `inventoryfs mount …`, `inventoryfs unmount …`.
@main
struct InventoryFSCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inventoryfs",
    abstract: "Mounts an S3 Inventory as a directory of its chunk files.",
    version: "0.1.0",
    subcommands: [MountCommand.self, UnmountCommand.self])

  static func main() {
    fillStandardDescriptors()
    // Swift's runtime reads the arguments from /proc, too, and would find none.
    guard access("/proc/self/mountinfo", R_OK) == 0 else {
      Failure(MountError.noMountTable).report()
      Glibc.exit(1)
    }
    let list = MountOptionList(Array(CommandLine.arguments.dropFirst()))
    do {
      try checkEncoding()
      try checkCommand(list.arguments.first)
      var command = try parseAsRoot(list.arguments)
      try command.run()
    } catch let failure as Failure {
      failure.report()
      Glibc.exit(1)
    } catch {
      // The error is one of ArgumentParser's: a usage error, or a request for help, which is no
      // failure.
      let text = list.inUsersWords(fullMessage(for: error))
      let isRequest = exitCode(for: error) == .success
      if !text.isEmpty {
        LogOutput.append(text + "\n", to: isRequest ? STDOUT_FILENO : STDERR_FILENO)
      }
      Glibc.exit(isRequest ? 0 : 1)
    }
  }

  /// Refuses arguments that are not UTF-8, which would otherwise name other files.
  private static func checkEncoding() throws(Failure) {
    for index in 1..<max(1, Int(CommandLine.argc)) {
      // The arguments live as long as the process.
      guard let argument = CommandLine.unsafeArgv[index] else { return }
      if String(validatingCString: argument) == nil {
        throw Failure(
          "argument \(index), '\(String(cString: argument))', has bytes that are not UTF-8; "
            + "use paths in UTF-8")
      }
    }
  }

  /// The parser calls an unknown command an unexpected argument and does not name those there are.
  private static func checkCommand(_ name: String?) throws(Failure) {
    guard let name, !name.hasPrefix("-"), !MountOptionList.commands.contains(name) else { return }
    throw Failure(
      "'\(name)' is not a command; the commands are 'mount SOURCE MOUNTPOINT', "
        + "'unmount MOUNTPOINT' (or 'umount') and 'help'; see: inventoryfs --help")
  }

  /// Opens those of the descriptors 0, 1 and 2 that the caller has closed. Otherwise the next file
  /// opened would get the number, and messages would be written to it.
  private static func fillStandardDescriptors() {
    while true {
      let descriptor = open("/dev/null", O_RDWR)
      guard (0...STDERR_FILENO).contains(descriptor) else {
        if descriptor >= 0 { close(descriptor) }
        return
      }
    }
  }
}

/// An error that ends the program with status 1 and one message.
struct Failure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }

  init(_ error: any Error) { description = "\(error)" }

  func report() {
    LogOutput.append("inventoryfs: \(printable(description, limit: .max))\n", to: STDERR_FILENO)
  }
}

/// Runs a throwing call and turns its error into the program's failure.
func failing<T>(_ body: () throws -> T) throws(Failure) -> T {
  do {
    return try body()
  } catch let failure as Failure {
    throw failure
  } catch {
    throw Failure(error)
  }
}
