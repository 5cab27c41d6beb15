# shellcheck shell=bash
# Sourced by the scripts beside it: the options of each kind of build, the same wherever it is used, because
# SwiftPM builds everything anew when an option changes; and how the unit tests run on each.

strict=(-Xswiftc -warnings-as-errors --explicit-target-dependency-import-check error)

# The unit tests' build: what AddressSanitizer finds is worth more than the time that it costs.
address_build=(--sanitize=address --scratch-path .build-address "${strict[@]}")

# Sources/Locks needs the condition to use a lock that ThreadSanitizer knows.
thread_build=(--sanitize=thread --scratch-path .build-thread -Xswiftc -DTHREAD_SANITIZER "${strict[@]}")

# Under ThreadSanitizer only the tests of targets that have threads.
threaded_tests='^(Locks|PosixThreads|BlockCache|HTTPTransfer|AWSCredentials|ObjectStore|InventoryFileSystem|FuseMount)Tests\.'

# sanitizer_options [PATH]: what sanitizers find ends the process with status 66 and is written to PATH.PID, or without
# PATH to standard error. Leaks are not looked for: what lives until the process ends is still reachable for
# Swift, but not for the sanitizer. Its report says more than Swift's own backtrace, and takes less time.
sanitizer_options() {
  local common="exitcode=66${1:+ log_path=$1}"
  export TSAN_OPTIONS="$common" ASAN_OPTIONS="$common detect_leaks=0" SWIFT_BACKTRACE=enable=no
}

# unit_tests address|thread: runs the unit tests that say something under this sanitizer, once they are built.
unit_tests() {
  if [ "$1" = address ]; then
    swift test "${address_build[@]}" --skip-build
  else
    # What is killed at each step of one thread's writing takes most of its time to start.
    swift test "${thread_build[@]}" --skip-build --filter "$threaded_tests" --skip CrashStepTests
  fi
}
