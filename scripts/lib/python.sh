# shellcheck shell=bash
# Python programs of pinned packages, in folders of the cache. Needs say.sh and wheel.sh.
#
# pip does the download, as in wheel.sh, and accepts only what the pins hold the digests of.
# Nothing is installed into the Python that runs this.

# python_environment NAME REQUIREMENTS
#
# Prints the path of a `python` with the packages of a requirements file. The folder is named after
# the pins and the Python that it is made with: other pins make a new one. It appears whole or
# not at all, by its name.
python_environment() {
  local name="$1" requirements="$2" pins folder work lock
  need_pip
  pins="$(cat "$requirements" <(python3 --version) | sha256sum | cut -c1-12)"
  folder="$(cache_folder)/python/$name-$pins"
  if [[ ! -x "$folder/bin/python" ]]; then
    mkdir -p "$(dirname "$folder")"
    exec {lock}>"$(cache_folder)/python/lock"
    flock "$lock"
    if [[ ! -x "$folder/bin/python" ]]; then
      say "installing the Python packages of $requirements"
      work="$(mktemp -d "$folder.XXXXXX")"
      # Without pip of its own, which Debian would want another package for.
      python3 -m venv --without-pip "$work/python"
      pip_install --python "$work/python/bin/python" --requirement "$requirements" ||
        { rm -rf "$work" && die "the Python packages could not be installed; see pip's message above."; }
      # The folder's own place stands in none of the files that are used: python -m, no scripts.
      mv -T "$work/python" "$folder"
      rmdir "$work"
    fi
    exec {lock}>&-
  fi
  printf '%s\n' "$folder/bin/python"
}

# pip_install [--python PYTHON] OPTIONS...
#
# Installs pinned wheels, and nothing that would be compiled.
pip_install() {
  local -a where=()
  if [[ "$1" == --python ]]; then
    where=(--python "$2")
    shift 2
  fi
  # The packages' own warnings about the running user and Python's folders do not apply.
  python3 -m pip "${where[@]}" install --quiet --disable-pip-version-check --no-warn-script-location \
    --root-user-action=ignore --only-binary=:all: --require-hashes "$@" >&2
}
