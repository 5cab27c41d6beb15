import CFuzzer
import Glibc

/// Feeds one decoder with what libFuzzer makes up: `fuzzing TARGET [libFuzzer's options and
/// folders]`.
///
/// Each target is a function that must return for any bytes: a trap, a sanitizer's report or a
/// broken `check` ends the program, and libFuzzer leaves the input in a file. `Tests/fuzz` builds
/// and runs it; the package has it only while INVENTORYFS_FUZZING is set, because everything
/// beneath has to be instrumented.
@main struct FuzzCommand {
  // Set once, before libFuzzer's loop, which has one thread.
  private nonisolated(unsafe) static var target: FuzzTargets.Target = { _ in }

  static func main() {
    guard CommandLine.arguments.count > 1, let chosen = FuzzTargets.all[CommandLine.arguments[1]]
    else {
      print(FuzzTargets.all.keys.sorted().joined(separator: "\n"))
      exit(CommandLine.arguments.count > 1 ? 1 : 0)
    }
    target = chosen
    // The name is taken out: libFuzzer takes what is no option for a folder.
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv + 1
    var count = CommandLine.argc - 1
    arguments?[0] = CommandLine.unsafeArgv[0]
    exit(
      LLVMFuzzerRunDriver(&count, &arguments) { data, size in
        FuzzCommand.target(Array(UnsafeBufferPointer(start: data, count: size)))
        return 0
      })
  }
}

/// Ends the run as a crash would, also in a release build.
func check(_ condition: Bool, _ message: @autoclosure () -> String) {
  if !condition { fatalError(message()) }
}
