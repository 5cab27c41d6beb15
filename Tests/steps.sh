# shellcheck shell=bash
# Sourced by scripts of several steps: says which one has begun, and at the end what each took.

step_titles=()
step_starts=()

# step TITLE: begins a step, and ends the one before.
step() {
  step_titles+=("$*")
  step_starts+=("$SECONDS")
  printf '\n== %s\n' "$*"
}

# print_steps: the seconds of each step so far. To be called when the script ends, however it ends.
print_steps() {
  local ends=("${step_starts[@]:1}" "$SECONDS") i
  printf '\n%8s  step of %s\n' seconds "$(basename "$0")"
  for i in "${!step_titles[@]}"; do
    printf '%8d  %s\n' $((ends[i] - step_starts[i])) "${step_titles[i]}"
  done
  printf '%8d  in all\n' "$SECONDS"
}
