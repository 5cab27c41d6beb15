# shellcheck shell=bash
# Sourced by the other scripts in this folder: the Python environment of the tests, in $venv, outside the checkout.

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${INVENTORYFS_TEST_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/inventoryfs-tests/venv}

# Makes $venv with the packages in requirements.txt, unless it exists for these requirements and this Python.
make_venv() {
  local wanted
  wanted=$(cat "$tests/requirements.txt"; python3 --version)
  [ "$(cat "$venv/made-for" 2>/dev/null)" != "$wanted" ] || return 0
  rm -rf "$venv"
  mkdir -p "$(dirname "$venv")"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$tests/requirements.txt"
  printf '%s\n' "$wanted" >"$venv/made-for"
}
