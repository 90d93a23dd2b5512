# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# Sets RDMA_CORE_SOURCE, RDMA_CORE_BUILD and RDMA_CORE_VERSION for --rdma-core VERSION|DIR.

# All versions that have a number here, on one line.
rdma_core_versions() {
  { sed -n 's/^pyverbs==\([^ ]*\).*/\1/p' "$PARTS/pyverbs_sdists.txt"; sed -n 's/^\([0-9][^ ]*\) .*/\1/p' "$PARTS/debian_origs.txt"; } | paste -sd ' '
}

fetch_sdist() {
  local version=$1 archive tree=$SCRATCH/rdma-core
  grep -F "pyverbs==$version " "$PARTS/pyverbs_sdists.txt" > "$SCRATCH/sdist.txt"
  # Only pyverbs itself as source: what its build names stays a wheel, compiled from source it takes minutes.
  "$VENV/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps --no-binary pyverbs \
    --require-hashes -r "$SCRATCH/sdist.txt" -d "$SCRATCH" || sdist_failed "$version"
  archive=("$SCRATCH"/pyverbs-*.tar.gz)
  mkdir "$tree"
  tar -xzf "${archive[0]}" -C "$tree" --strip-components=2 "pyverbs-$version/rdma-core"
  mv -T "$tree" "$RDMA_CORE_SOURCE"
}

sdist_failed() {
  local log=$BUILD/log/setup-rdma-core-source.log
  grep -q 'THESE PACKAGES DO NOT MATCH THE HASHES' "$log" &&
    stage_fails "the package index serves another pyverbs $1 than pyverbs_sdists.txt names; not used. Use another index (PIP_INDEX_URL), or --rdma-core DIR"
  grep -q 'No matching distribution found' "$log" &&
    stage_fails "the package index has no pyverbs $1: use another index (PIP_INDEX_URL), or --rdma-core DIR"
  exit 1
}

# apt-helper asks by apt's own way, proxies and all, and keeps nothing whose hash is another.
fetch_orig() {
  local version=$1 sha256 sha1 main url archive=$SCRATCH/orig.tar.gz tree=$SCRATCH/rdma-core
  local pool=pool/main/r/rdma-core/rdma-core_$version.orig.tar.gz urls=()
  [[ -x /usr/lib/apt/apt-helper ]] || stage_fails "rdma-core $version comes from Debian's archive, by apt: on this system use --rdma-core DIR"
  read -r _ sha256 sha1 <<< "$(grep "^$version " "$PARTS/debian_origs.txt")"
  while read -r main _; do urls+=("${main%/}/$pool"); done < <("$VENV/bin/python" "$PARTS/debian_mirrors.py")
  # The pool forgets a version once Debian has moved on; the snapshots never do.
  urls+=("https://deb.debian.org/debian/$pool" "https://snapshot.debian.org/file/$sha1")
  for url in "${urls[@]}"; do
    /usr/lib/apt/apt-helper download-file "$url" "$archive" "SHA256:$sha256" && break
  done
  [[ -s $archive ]] || stage_fails "no Debian archive has rdma-core $version as debian_origs.txt names it: use --rdma-core DIR with a source tree of it"
  mkdir "$tree"
  tar -xzf "$archive" -C "$tree" --strip-components=1
  mv -T "$tree" "$RDMA_CORE_SOURCE"
}

rdma_core_source() {
  if [[ -d $RDMA_CORE ]]; then
    RDMA_CORE_SOURCE=$(cd "$RDMA_CORE" && pwd -P)
    [[ -e $RDMA_CORE_SOURCE/buildlib/pyverbs_functions.cmake ]] ||
      give_up "$RDMA_CORE is no rdma-core source tree: it has no buildlib/pyverbs_functions.cmake"
    # Two trees may have the same last name.
    RDMA_CORE_BUILD=$BUILD/rdma-core-dir-$(cksum <<< "$RDMA_CORE_SOURCE" | cut -d ' ' -f 1)-build
    RDMA_CORE_VERSION=$(sed -n 's/^set(PACKAGE_VERSION "\(.*\)")$/\1/p' "$RDMA_CORE_SOURCE/CMakeLists.txt")
    return 0
  fi
  [[ " $(rdma_core_versions) " == *" $RDMA_CORE "* ]] ||
    give_up "--rdma-core $RDMA_CORE is neither a directory nor one of $(rdma_core_versions)"
  RDMA_CORE_SOURCE=$BUILD/rdma-core-$RDMA_CORE
  RDMA_CORE_BUILD=$BUILD/rdma-core-$RDMA_CORE-build
  RDMA_CORE_VERSION=$RDMA_CORE
  local fetch=fetch_sdist
  grep -qF "pyverbs==$RDMA_CORE " "$PARTS/pyverbs_sdists.txt" || fetch=fetch_orig
  [[ -d $RDMA_CORE_SOURCE ]] || run_stage rdma-core-source "rdma-core $RDMA_CORE" "$fetch" "$RDMA_CORE"
}
