# shellcheck shell=bash
# Named steps with the time they took, for scripts that run many. Bash turns `set -e` off
# inside a condition: a function given as COMMAND must return its own status.

failed_steps=()

# step NAME COMMAND...  runs the command, and ends the script where it fails.
step() {
  check "$@"
  finish
}

# check NAME COMMAND...  runs the command and goes on where it fails: `finish` will tell.
check() {
  local name="$1" started=$SECONDS verdict="ok"
  shift
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    verdict="FAILED"
    failed_steps+=("$name")
  fi
  printf '== %s: %s after %d s\n' "$name" "$verdict" $((SECONDS - started))
}

# Ends the script with an error if a step failed.
finish() {
  if [[ ${#failed_steps[@]} -gt 0 ]]; then
    printf '\n== failed:%s\n' "$(printf ' %s,' "${failed_steps[@]}" | sed 's/,$//')"
    exit 1
  fi
}
