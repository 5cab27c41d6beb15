# shellcheck shell=bash
# The prerequisites of quickstart and the test scripts, which source this file; for bash.
# Each function is silent if nothing is missing. If it cannot help, it prints what to do and exits with status 1.

# The packages of Debian and Ubuntu that building and mounting need.
# shellcheck disable=SC2034
BUILD_PACKAGES=(libfuse3-dev fuse3 libcurl4-openssl-dev libexpat1-dev libssl-dev zlib1g-dev pkg-config)

give_up() {
  printf '%s\n' "$@" >&2
  exit 1
}

# install_packages NAME...: installs missing packages, as root or with a sudo that asks no password.
install_packages() {
  local missing=() package sudo=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    give_up "This is not Debian or Ubuntu. Install the equivalents of these packages of theirs: $*" \
      "and then follow the README, which needs neither apt nor this script."
  fi
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      give_up "Missing system packages. Install them, then run this again:" "" \
        "    sudo apt-get update && sudo apt-get install -y ${missing[*]}"
    fi
    sudo=(sudo -n)
  fi
  echo "Installing system packages: ${missing[*]}"
  if ! "${sudo[@]}" apt-get update -qq || ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
    give_up "apt-get could not install ${missing[*]} (see above)."
  fi
}

require_swift() {
  command -v swift >/dev/null ||
    give_up "No swift on the PATH. Install a Swift 6.1 toolchain or newer (https://www.swift.org/install/linux/)."
}

require_fuse() {
  [ -c /dev/fuse ] || give_up "/dev/fuse is missing." \
    "  on a machine:     sudo modprobe fuse" \
    "  in a container:   docker run --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined ..."
  { : <>/dev/fuse; } 2>/dev/null || give_up "/dev/fuse cannot be opened by $(id -un): $(ls -l /dev/fuse)" \
    "  on a machine:     sudo chmod 0666 /dev/fuse     (the default of most distributions)" \
    "  in a container:   docker run --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined ..."
}
