# shellcheck shell=bash
# How scripts speak: progress and errors on stderr, so that stdout carries results only.

# A line of progress.
say() {
  printf '%s\n' "$*" >&2
}

# One paragraph that says what is wrong and what to do, then the end.
die() {
  printf 'error: %s\n' "$*" | fold -s -w 100 >&2
  exit 1
}
