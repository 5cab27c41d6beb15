# shellcheck shell=bash
# Sourced by the scripts beside it: the options of each kind of build, the same wherever it is used, because
# SwiftPM builds everything anew when an option changes; and how the unit tests run on each.

strict=(-Xswiftc -warnings-as-errors --explicit-target-dependency-import-check error)

# The unit tests' build: what AddressSanitizer finds is worth more than the time that it costs.
address_build=(--sanitize=address --scratch-path .build-address "${strict[@]}")

# Sources/Locks needs the condition to use a lock that ThreadSanitizer knows.
thread_build=(--sanitize=thread --scratch-path .build-thread -Xswiftc -DTHREAD_SANITIZER "${strict[@]}")

# sanitizer_options [PATH]: what sanitizers find ends the process with status 66 and is written to PATH.PID, or without
# PATH to standard error. Leaks are not looked for: what lives until the process ends is still reachable for
# Swift, but not for the sanitizer. Its report says more than Swift's own backtrace, and takes less time.
sanitizer_options() {
  local common="exitcode=66${1:+ log_path=$1}"
  export TSAN_OPTIONS="$common" ASAN_OPTIONS="$common detect_leaks=0" SWIFT_BACKTRACE=enable=no
}

# targets NAME...: the names as a regular expression; a name without a folder of tests ends the run.
targets() {
  local name
  for name in "$@"; do
    [ -d "Tests/${name}Tests" ] || { echo "Tests/builds.sh: there is no Tests/${name}Tests" >&2; exit 1; }
  done
  (IFS='|'; echo "$*")
}

# unit_tests address|thread [all]: runs the unit tests once they are built. Under ThreadSanitizer only those of targets
# that have threads, unless all are wanted.
#
# Each of two processes runs its tests one at a time: tests that block, or compute for long, would keep others of the
# same process, which share as few threads as there are cores, for longer than their waits last.
unit_tests() {
  local options=(--skip-build --no-parallel --ignore-lock) one other log part status=0
  # The two take about as long as each other.
  one=(--filter '^(BlockCache|EmbeddedS3Origin)Tests\.')
  other=(--skip '^(BlockCache|EmbeddedS3Origin)Tests\.')
  case "$*" in
    address*) options+=("${address_build[@]}") ;;
    "thread all") options+=("${thread_build[@]}") ;;
    *)
      # CrashStepTests are one thread's writing, killed at each step, and take most of their time to start processes.
      options+=("${thread_build[@]}" --skip CrashStepTests)
      one=(--filter "^($(targets BlockCache HTTPTransfer AWSCredentials ObjectStore))Tests\.")
      other=(--filter "^($(targets Locks Posix InventoryFileSystem FuseMount))Tests\.")
      ;;
  esac
  log=$(mktemp -d)
  # A suite's time limit does not end a test that blocks its thread; some three minutes are usual.
  timeout --foreground --signal=INT --kill-after=60 900 swift test "${options[@]}" "${other[@]}" >"$log/other" 2>&1 &
  timeout --foreground --signal=INT --kill-after=60 900 swift test "${options[@]}" "${one[@]}" 2>&1 | tee "$log/one" || status=1
  wait $! || status=1
  cat "$log/other"
  # A filter that matches nothing would pass.
  for part in one other; do
    grep -qE 'Test run with [1-9][0-9]* tests' "$log/$part" || status=1
  done
  rm -r "$log"
  return $status
}
