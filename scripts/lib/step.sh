# shellcheck shell=bash
# Named steps with the time they took, for scripts that run many.

# step NAME COMMAND...  runs the command and ends the script where it fails. Bash turns
# `set -e` off inside a condition: a function given as COMMAND must return its own status.
step() {
  local name="$1" started=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - started))
    exit 1
  fi
  printf '== %s: %d s\n' "$name" $((SECONDS - started))
}
