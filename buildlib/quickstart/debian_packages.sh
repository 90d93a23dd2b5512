# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# Packages of Debian 13 (trixie) for use under build/ on any distribution: debian_archive.py fetches
# and verifies them, without anything of the system's, and they run with the C library that they
# were built for. The archive is the one that this machine's apt is configured for, DEBIAN_ARCHIVE,
# or deb.debian.org.

LISTS=$BUILD/lists

archive() {
  REASON=$SCRATCH/reason "$VENV/bin/python" "$PARTS/debian_archive.py" "$@"
}

# each_archive COMMAND...: the command with each main archive and its security archive (or -), until
# it succeeds.
each_archive() {
  local main security
  # Who has told only apt of the proxy has one all the same.
  if [[ -z ${http_proxy-} ]] && command -v apt-config > /dev/null; then
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    [[ -z ${http_proxy-} || $http_proxy == DIRECT ]] || export http_proxy
  fi
  while read -r main security; do
    rm -rf "$LISTS" "$SCRATCH/reason"
    "$@" "$main" "$security" && return 0
  done < <("$VENV/bin/python" "$PARTS/debian_mirrors.py")
  return 1
}

open_lists() {
  local suites=(trixie trixie-updates trixie-backports)
  [[ $KERNEL_KIND != oldstable && $COMMAND != foreign ]] || suites+=(bookworm)
  archive open "$LISTS" "$1" "${suites[@]}" || return 1
  [[ $2 == - ]] || archive open "$LISTS" "$2" trixie-security
}

# unpack_closure RELEASE DIRECTORY PACKAGE... -- [tar arguments]: packages and all that they need.
# Without a release ('') the newest of trixie and its security archive wins.
unpack_closure() {
  local release=$1 directory=$2 packages=() debs=$SCRATCH/debs
  shift 2
  while [[ $1 != -- ]]; do
    packages+=("$1")
    shift
  done
  shift
  mkdir "$debs"
  archive closure ${release:+--target "$release"} "$LISTS" "$debs" "${packages[@]}"
  archive files "$debs"/*.deb |
    tar -x -C "$directory" --no-same-owner --ignore-zeros --exclude=./etc --exclude=./var "$@"
  rm -rf "$debs"
}

# What a program runs by that has the C library that it was built for.
NO_DATA=(--exclude=./usr/share --exclude='./usr/lib/x86_64-linux-gnu/gconv'
  --exclude='./usr/lib/x86_64-linux-gnu/perl-base')

# unpack DEB DIRECTORY [tar arguments]
unpack_deb() {
  local deb=$1 directory=$2
  shift 2
  archive files "$deb" | tar -x -C "$directory" --no-same-owner "$@"
}
