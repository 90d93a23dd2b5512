# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# Sets RDMA_CORE_SOURCE, RDMA_CORE_BUILD and RDMA_CORE_VERSION for --rdma-core VERSION|DIR.

# Debian's suites whose rdma-core can be had: 56.1, and the newest.
SUITES=(trixie sid)

# All that --rdma-core takes but directories, on one line.
rdma_core_versions() {
  { sed -n 's/^pyverbs==\([^ ]*\).*/\1/p' "$PARTS/pyverbs_sdists.txt"; printf '%s\n' \
    "${SUITES[@]}"; } | paste -sd ' '
}

fetch_sdist() {
  local version=$1
  grep -F "pyverbs==$version " "$PARTS/pyverbs_sdists.txt" > "$SCRATCH/sdist.txt"
  # Only pyverbs itself as source: what its build names stays a wheel, compiled from source it takes
  # minutes.
  "$VENV/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps \
    --no-binary pyverbs \
    --require-hashes -r "$SCRATCH/sdist.txt" -d "$SCRATCH" || sdist_failed "$version"
  unpack_sdist "$version"
}

unpack_sdist() {
  local sdist=("$SCRATCH"/pyverbs-*.tar.gz) tree=$SCRATCH/rdma-core
  mkdir "$tree"
  tar -xzf "${sdist[0]}" -C "$tree" --strip-components=2 "pyverbs-$1/rdma-core"
  mv -T "$tree" "$RDMA_CORE_SOURCE"
}

sdist_failed() {
  local log=$BUILD/log/setup-rdma-core-source.log
  grep -q 'THESE PACKAGES DO NOT MATCH THE HASHES' "$log" &&
    stage_fails "the package index serves another pyverbs $1 than pyverbs_sdists.txt names; not" \
      "used. Use another index (PIP_INDEX_URL), or --rdma-core DIR"
  grep -q 'No matching distribution found' "$log" &&
    stage_fails "the package index has no pyverbs $1: use another index (PIP_INDEX_URL), or" \
      "--rdma-core DIR"
  exit 1
}

# The released tree of what a suite of Debian has now: its archive keeps no former versions.
fetch_suite() {
  local tree=$SCRATCH/rdma-core released
  each_archive open_sources
  archive source "$LISTS" "$SCRATCH" "$1" rdma-core
  released=("$SCRATCH"/rdma-core_*.orig.tar.*)
  mkdir "$tree"
  tar -xf "${released[0]}" -C "$tree" --strip-components=1
  rm -rf "$LISTS"
  mv -T "$tree" "$RDMA_CORE_SOURCE"
}

# The suite that this Debian is.
own_suite() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# unpack_debian_source DIRECTORY: what `archive source --packaging` has put into $SCRATCH, patched.
unpack_debian_source() {
  local patch patches=$1/debian/patches
  tar -xf "$SCRATCH"/rdma-core_*.orig.tar.* -C "$1" --strip-components=1
  # Released trees have one of their own.
  rm -rf "$1/debian"
  tar -xf "$SCRATCH"/rdma-core_*.debian.tar.* -C "$1"
  [[ -e $patches/series ]] || return 0
  while read -r patch _; do
    [[ -z $patch || $patch == \#* ]] || patch -d "$1" -p1 < "$patches/$patch"
  done < "$patches/series"
}

open_sources() { archive open --sources "$LISTS" "$1" "$RDMA_CORE"; }

# The version that a source tree says it is.
version_of() {
  sed -n 's/^set(PACKAGE_VERSION "\(.*\)")$/\1/p' "$1/CMakeLists.txt"
}

FETCH=fetch_sdist

choose_rdma_core() {
  if [[ -d $RDMA_CORE ]]; then
    RDMA_CORE_SOURCE=$(cd "$RDMA_CORE" && pwd -P)
    [[ -e $RDMA_CORE_SOURCE/buildlib/pyverbs_functions.cmake ]] ||
      give_up "$RDMA_CORE is no rdma-core source tree: it has no buildlib/pyverbs_functions.cmake"
    # Two trees may have the same last name.
    RDMA_CORE_BUILD=$BUILD/rdma-core-dir-$(cksum <<< "$RDMA_CORE_SOURCE" | cut -d ' ' -f 1)-build
    RDMA_CORE_VERSION=$(version_of "$RDMA_CORE_SOURCE")
    return 0
  fi
  [[ " $(rdma_core_versions) " == *" $RDMA_CORE "* ]] ||
    give_up "--rdma-core $RDMA_CORE is neither a directory nor one of $(rdma_core_versions)"
  RDMA_CORE_SOURCE=$BUILD/rdma-core-$RDMA_CORE
  RDMA_CORE_BUILD=$BUILD/rdma-core-$RDMA_CORE-build
  RDMA_CORE_VERSION=$RDMA_CORE
  [[ " ${SUITES[*]} " != *" $RDMA_CORE "* ]] || FETCH=fetch_suite
}

rdma_core_source() {
  [[ -d $RDMA_CORE_SOURCE ]] || run_stage rdma-core-source "rdma-core $RDMA_CORE" "$FETCH" \
    "$RDMA_CORE"
  [[ $FETCH == fetch_sdist ]] || RDMA_CORE_VERSION=$(version_of "$RDMA_CORE_SOURCE")
}
