import ArgumentParser
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
    let list = MountOptionList(Array(CommandLine.arguments.dropFirst()))
    do {
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
