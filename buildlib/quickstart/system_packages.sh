# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# What has to be on the system itself: compilers and headers. Looked for by what it does, not by
# package, so that any distribution that has it all will do.

MIN_PYTHON=3.11

usable_python() {
  "$1" - 2> /dev/null << EOF
import ensurepip, os, sys, sysconfig, venv
ok = sys.version_info >= tuple(map(int, "$MIN_PYTHON".split("."))) and sys.prefix == sys.base_prefix
sys.exit(not (ok and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))))
EOF
}

# The user's Python when it can build extensions, else the distribution's.
choose_python() {
  local python
  for python in python3 /usr/bin/python3 python3.1{4,3,2,1}; do
    if command -v "$python" > /dev/null && usable_python "$python"; then
      PYTHON=$(command -v "$python")
      return 0
    fi
  done
  return 1
}

missing_packages() {
  MISSING=()
  command -v gcc > /dev/null && [[ -e /usr/include/stdio.h ]] || MISSING+=(gcc libc6-dev)
  command -v cmake > /dev/null || MISSING+=(cmake)
  command -v ninja > /dev/null || MISSING+=(ninja-build)
  command -v xz > /dev/null || MISSING+=(xz-utils)
  if ! command -v pkg-config > /dev/null; then
    MISSING+=(pkg-config libnl-3-dev libnl-route-3-dev)
  else
    pkg-config --exists libnl-3.0 || MISSING+=(libnl-3-dev)
    pkg-config --exists libnl-route-3.0 || MISSING+=(libnl-route-3-dev)
  fi
  # rdma-core's tests look by it at the devices; the guest has the host's.
  [[ $COMMAND != @(suite|test|setup) || -n $(PATH=$PATH:/usr/sbin:/sbin command -v rdma) ]] ||
    MISSING+=(iproute2)
  # pip needs the certificates of whoever it talks to.
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || MISSING+=(ca-certificates)
  choose_python || MISSING+=(python3-dev python3-venv)
  [[ $COMMAND != @(beside|package) ]] || command -v patch > /dev/null || MISSING+=(patch)
  [[ $COMMAND != package ]] || command -v dpkg-buildpackage > /dev/null || MISSING+=(dpkg-dev)
  if [[ $COMMAND == beside ]]; then
    "$BESIDE_PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
      [[ " ${MISSING[*]-} " == *" python3-dev "* ]] || MISSING+=(python3-dev)
  fi
}

# Debian, and what is made of it: the same programs, the same names of packages.
is_debian() {
  [[ -r /etc/os-release ]] && grep -qE '^ID(_LIKE)?=.*\<debian\>' /etc/os-release &&
    command -v apt-get > /dev/null
}

# What other distributions call it.
declare -A DNF=([libc6-dev]=glibc-devel [xz-utils]=xz [pkg-config]=pkgconf-pkg-config
  [libnl-3-dev]=libnl3-devel [libnl-route-3-dev]=libnl3-devel [python3-dev]=python3-devel
  [python3-venv]=python3-pip [iproute2]=iproute)
declare -A ZYPPER=([libc6-dev]=glibc-devel [ninja-build]=ninja [xz-utils]=xz
  [libnl-3-dev]=libnl3-devel [libnl-route-3-dev]=libnl3-devel [python3-dev]=python3-devel
  [python3-venv]=python3-pip)

# The line that installs what is missing, by the system's own program.
install_line() {
  local package names=()
  if is_debian; then
    echo "apt-get update && apt-get install --no-install-recommends ${MISSING[*]}"
  elif command -v dnf > /dev/null; then
    for package in "${MISSING[@]}"; do names+=("${DNF[$package]-$package}"); done
    echo "dnf install ${names[*]}"
  elif command -v zypper > /dev/null; then
    for package in "${MISSING[@]}"; do names+=("${ZYPPER[$package]-$package}"); done
    echo "zypper install ${names[*]}"
  fi
}

download_packages() {
  export DEBIAN_FRONTEND=noninteractive
  # update alone reports an archive that cannot be reached as a warning, and goes on with what it
  # had.
  apt-get update -o APT::Update::Error-Mode=any ||
    stage_fails "apt-get update failed: see to the network and to /etc/apt/sources.list*, then" \
      "run it again"
  apt-get install -y --no-install-recommends --download-only -o DPkg::Lock::Timeout=120 \
    "${MISSING[@]}"
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  [[ -z $(dpkg --audit) ]] || dpkg --configure -a
  apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 "${MISSING[@]}"
}

system_packages() {
  local line
  [[ $(uname -m) == x86_64 ]] || give_up "the emulated card runs on x86_64, this machine is" \
    "$(uname -m)"
  missing_packages
  ((${#MISSING[@]})) || return 0
  line=$(install_line)
  [[ -n $line ]] || give_up "missing, by the names of Debian's packages: ${MISSING[*]}. Install" \
    "what your distribution calls them (Python: $MIN_PYTHON or later) and run this again"
  # Only where the names were tried.
  if ! is_debian || ((EUID != 0)); then
    give_up "missing: ${MISSING[*]} (Python: $MIN_PYTHON or later). As root: $line"
  fi
  run_stage packages-download "downloading packages: ${MISSING[*]}" download_packages
  run_stage --finish packages-install "installing packages" install_packages
  hash -r
  missing_packages
  ((${#MISSING[@]} == 0)) || give_up "still missing after apt-get: ${MISSING[*]} (log:" \
    "$BUILD/log/setup-packages-install.log)"
}
