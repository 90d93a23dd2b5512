# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# Our modules beside a pyverbs that is installed: compiled in the source tree of that very version,
# so that there is nothing to know of its objects, and put where it is, or into a local .deb.

BESIDE_BUILD=$BUILD/beside-build
BESIDE_SOURCE=
BESIDE_PYTHON=python3
BESIDE_WHAT=put
# What beside.py finds.
DIRECTORY= OWNER= PACKAGE= VERSION= PYTHON_VERSION=

parse_beside() {
  while (($#)); do
    case $1 in
      deb | remove) BESIDE_WHAT=$1 ;;
      --python | --source)
        (($# > 1)) || wrong_usage "beside: $1 takes a value"
        case $1 in
          --python) BESIDE_PYTHON=$2 ;;
          --source) BESIDE_SOURCE=$2 ;;
        esac
        shift
        ;;
      *) wrong_usage "beside: $1: it is deb or remove, with --python and --source" ;;
    esac
    shift
  done
  command -v "$BESIDE_PYTHON" > /dev/null || give_up "beside: there is no $BESIDE_PYTHON"
}

# Where the installed pyverbs is, whose, and which: DIRECTORY, OWNER, PACKAGE, VERSION and
# PYTHON_VERSION.
find_pyverbs() {
  local found name value
  found=$("$BESIDE_PYTHON" "$PARTS/beside.py" find 2>&1) || give_up "beside: $found"
  while IFS='=' read -r name value; do printf -v "$name" %s "$value"; done <<< "$found"
  # What is missing in an older one is not known.
  [[ $(printf '%s\n44\n' "$VERSION" | sort -V | head -n 1) == 44 ]] ||
    give_up "beside: pyverbs $VERSION: 44 or later is needed. In a virtual environment PyPI's can" \
      "be had with ours inside: see Documentation/where_it_builds.md"
  [[ $BESIDE_WHAT != deb || $OWNER == dpkg ]] ||
    give_up "beside deb: this pyverbs is not of a .deb"
  [[ $BESIDE_WHAT == deb || -w $DIRECTORY/providers/mlx5 ]] ||
    give_up "beside: $DIRECTORY/providers/mlx5 cannot be written: run it as its owner, or make a" \
      ".deb (beside deb)"
}

# The source of what is installed; what was fetched before is there still.
beside_source() {
  local suites=() suite fetched=$BUILD/beside-$PACKAGE-$VERSION
  if [[ -n $BESIDE_SOURCE ]]; then
    [[ -e $BESIDE_SOURCE/buildlib/pyverbs_functions.cmake ]] ||
      give_up "beside: --source $BESIDE_SOURCE is no rdma-core source tree"
    [[ $VERSION == "$(version_of "$BESIDE_SOURCE")"* ]] ||
      give_up "beside: installed is pyverbs $VERSION, $BESIDE_SOURCE is rdma-core" \
        "$(version_of "$BESIDE_SOURCE")"
    return 0
  fi
  BESIDE_SOURCE=$fetched
  [[ ! -d $fetched ]] || return 0
  case $OWNER in
    pip)
      RDMA_CORE_SOURCE=$fetched
      run_stage beside-source "pyverbs $VERSION from the package index" fetch_any_sdist
      ;;
    dpkg)
      grep -q '^ID=debian$' /etc/os-release || give_up "beside: this pyverbs is not Debian's own." \
        "As root: apt-get source rdma-core=$VERSION (with deb-src in apt's sources), then name" \
        "the tree by --source"
      suite=$(own_suite)
      suites=("$suite" "$suite-updates" "$suite-backports" sid)
      run_stage beside-source "rdma-core $VERSION from Debian" fetch_installed "${suites[@]}"
      ;;
    rpm)
      give_up "beside: this pyverbs is of the package $PACKAGE. Get its source (dnf download" \
        "--source rdma-core; rpmbuild -rp rdma-core-*.src.rpm) and name the tree by --source"
      ;;
  esac
}

# The sdist of a version that pyverbs_sdists.txt may not name: what was installed was not verified
# by a hash of ours either.
fetch_any_sdist() {
  grep -qF "pyverbs==$VERSION " "$PARTS/pyverbs_sdists.txt" && { fetch_sdist "$VERSION"; return; }
  "$VENV/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps \
    --no-binary pyverbs "pyverbs==$VERSION" -d "$SCRATCH" || sdist_failed "$VERSION"
  unpack_sdist "$VERSION"
}

# fetch_installed SUITE...: the source package of the version that is installed, patched as it was.
fetch_installed() {
  local suite tree=$SCRATCH/tree found=
  for suite in "$@"; do
    rm -rf "$SCRATCH"/rdma-core_*
    RDMA_CORE=$suite each_archive open_sources || continue
    if archive source --packaging --version "$VERSION" "$LISTS" "$SCRATCH" "$suite" rdma-core; then
      found=1
      break
    fi
  done
  [[ -n $found ]] || stage_fails "the Debian archive no longer serves the source of rdma-core" \
    "$VERSION: upgrade $PACKAGE, or name a tree by --source"
  rm -f "$SCRATCH/reason"
  mkdir "$tree"
  unpack_debian_source "$tree"
  mv -T "$tree" "$BESIDE_SOURCE"
}

build_beside() {
  local cython=$VENV/lib/python$PYTHON_VERSION/site-packages
  if [[ ! -d $cython/Cython ]]; then
    # Another Python than that of our virtual environment: the wheel that is for each.
    cython=$BUILD/beside-cython
    [[ -d $cython ]] || "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
      --no-deps --only-binary :all: --platform any --require-hashes --target "$cython" \
      -r "$PARTS/beside_cython.txt"
  fi
  rm -rf "$BESIDE_BUILD"
  export PYTHONPATH=$cython
  # What it is linked with is found as the installed modules find it.
  cmake -G Ninja -S "$BESIDE_SOURCE" -B "$BESIDE_BUILD" \
    "-DCMAKE_PROJECT_rdma-core_INCLUDE=$TOP/buildlib/rdma_core_hook.cmake" -DMLX5_MEM_BESIDE=1 \
    -DMLX5_MEM_REQUIRED=1 -DIN_PLACE=1 -DNO_MAN_PAGES=1 -DCMAKE_SKIP_RPATH=1 \
    "-DPYTHON_EXECUTABLE=$(command -v "$BESIDE_PYTHON")" -DCMAKE_BUILD_TYPE=Release ||
    cmake_failed \
    beside-build
  ninja -C "$BESIDE_BUILD" pyverbs-mlx5-mem
}

put_beside() {
  local said
  if ! "$BESIDE_PYTHON" "$PARTS/beside.py" put --build "$BESIDE_BUILD"; then
    "$BESIDE_PYTHON" "$PARTS/beside.py" remove || true
    exit 1
  fi
  # Sizes of objects and types of functions are looked at by Cython when it imports.
  said=$("$BESIDE_PYTHON" -c 'import pyverbs.providers.mlx5.mlx5dv_devx_umem
import pyverbs.providers.mlx5.mlx5dv_dm' 2>&1) && return 0
  echo "$said"
  "$BESIDE_PYTHON" "$PARTS/beside.py" remove
  stage_fails "what was built does not fit the pyverbs in $DIRECTORY, and was taken out again:" \
    "$(tail -n 1 <<< "$said")"
}

# A package for dpkg, which lets neither be changed without the other.
beside_deb() {
  local tree=$SCRATCH/deb package=$PACKAGE-mlx5-mem file
  "$BESIDE_PYTHON" "$PARTS/beside.py" put --build "$BESIDE_BUILD" \
    --to "$tree$DIRECTORY/providers/mlx5"
  mkdir "$tree/DEBIAN"
  cat > "$tree/DEBIAN/control" << EOF
Package: $package
Version: $(our_version)
Architecture: $(dpkg --print-architecture)
Maintainer: $(id -un) <root@localhost>
Depends: $PACKAGE (= $(dpkg-query -W -f '${Version}' "$PACKAGE"))
Section: python
Priority: optional
Description: typed mlx5 device memory and DEVX user memory for pyverbs
 Mlx5DM and Mlx5DevxUmem, made for the $PACKAGE that it depends on.
EOF
  file=$BUILD/${package}_$(our_version)_$(dpkg --print-architecture).deb
  dpkg-deb --root-owner-group --build "$tree" "$SCRATCH/deb.deb"
  mv "$SCRATCH/deb.deb" "$file"
  echo "$file" > "$BUILD/beside.deb"
}

our_version() {
  # Which commit of it, where that is known: between releases several have one number.
  printf '%s%s' "$(< "$TOP/buildlib/version.txt")" \
    "$(git -C "$TOP" log -1 --format=+%cd.%h --date=format:%Y%m%d 2> /dev/null || true)"
}

beside() {
  local said
  if [[ $BESIDE_WHAT == remove ]]; then
    said=$("$BESIDE_PYTHON" "$PARTS/beside.py" remove 2>&1) || give_up "beside: $said"
    return
  fi
  find_pyverbs
  take_lock
  system_packages
  virtual_environment
  beside_source
  run_stage beside-build "building the modules for pyverbs $VERSION" build_beside
  if [[ $BESIDE_WHAT == deb ]]; then
    run_stage beside-deb "a package of them" beside_deb
    say "made $(< "$BUILD/beside.deb"). As root: apt-get install $(< "$BUILD/beside.deb")"
    rm "$BUILD/beside.deb"
  else
    run_stage beside-put "putting them beside pyverbs" put_beside
    say "Mlx5DM and Mlx5DevxUmem are in $DIRECTORY/providers/mlx5;" \
      "'beside remove' takes them out again"
  fi
  release_lock
}
