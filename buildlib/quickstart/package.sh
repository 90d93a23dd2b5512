# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/packages: the distribution's own rdma-core as its own packages, with our modules in the one
# of pyverbs. What is built is what the distribution builds; the hook goes in by the variable that
# its rules have for more arguments of CMake.

PACKAGES=$BUILD/packages
PACKAGE_SOURCE=

hook_argument() {
  printf -- '-DCMAKE_PROJECT_rdma-core_INCLUDE=%s/buildlib/rdma_core_hook.cmake' "$TOP"
  printf ' -DMLX5_MEM_REQUIRED=1'
}

parse_package() {
  while (($#)); do
    case $1 in
      --source)
        (($# > 1)) || wrong_usage "package: --source takes a value"
        [[ -e $2 ]] || give_up "package: there is no $2"
        PACKAGE_SOURCE=$(realpath "$2")
        shift
        ;;
      *) wrong_usage "package: $1: it takes --source alone" ;;
    esac
    shift
  done
  [[ $TOP != *[[:space:]]* ]] || give_up "package: $TOP: rules and spec files split arguments at" \
    "spaces, so this tree cannot be in such a directory"
}

# The newest source that the distribution's suite has, below $SCRATCH/tree.
fetch_debian_source() {
  local suite
  suite=$(own_suite)
  RDMA_CORE=$suite each_archive open_sources || return 1
  archive source --packaging "$LISTS" "$SCRATCH" "$suite" rdma-core
  mkdir "$SCRATCH/tree"
  unpack_debian_source "$SCRATCH/tree"
}

# A version of its own: newer than the distribution's, older than its next, seen by who looks.
mark_version() {
  local changes=$1/debian/changelog version
  version=$(dpkg-parsechangelog -l "$changes" -S Version)
  {
    printf 'rdma-core (%s+mlx5mem%s) UNRELEASED; urgency=medium\n\n' "$version" \
      "$(< "$TOP/buildlib/version.txt")"
    printf '  * Built with Mlx5DM and Mlx5DevxUmem in python3-pyverbs.\n\n'
    printf ' -- %s <root@localhost>  %s\n\n' "$(id -un)" "$(date -R)"
    cat "$changes"
  } > "$SCRATCH/changelog"
  mv "$SCRATCH/changelog" "$changes"
}

debian_source() {
  if [[ -n $PACKAGE_SOURCE ]]; then
    cp -a "$PACKAGE_SOURCE" "$SCRATCH/tree"
  else
    fetch_debian_source
  fi
  mark_version "$SCRATCH/tree"
}

install_build_dependencies() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get build-dep -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$SCRATCH/tree"
}

make_debs() {
  cd "$SCRATCH/tree"
  EXTRA_CMAKE_FLAGS=$(hook_argument) DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" \
    dpkg-buildpackage -b -us -uc
  keep_packages "$SCRATCH"/*.deb
}

keep_packages() {
  mkdir "$SCRATCH/packages"
  mv "$@" "$SCRATCH/packages"
  rm -rf "$PACKAGES"
  mv -T "$SCRATCH/packages" "$PACKAGES"
}

make_rpms() {
  local rpm=$PACKAGE_SOURCE
  if [[ -z $rpm ]]; then
    dnf download --source --destdir "$SCRATCH" rdma-core
    rpm=$(ls "$SCRATCH"/rdma-core-*.src.rpm)
    ((EUID != 0)) || dnf builddep -y "$rpm"
  fi
  rpmbuild --rebuild --with pyverbs --define "_topdir $SCRATCH/rpm" \
    --define "EXTRA_CMAKE_FLAGS $(hook_argument)" "$rpm"
  keep_packages "$SCRATCH"/rpm/RPMS/*/*.rpm
}

package_debs() {
  local unmet
  system_packages
  # debian_archive.py runs in it.
  [[ -n $PACKAGE_SOURCE ]] || virtual_environment
  run_stage package-source "rdma-core's source" debian_source
  if ! unmet=$(cd "$SCRATCH/tree" && dpkg-checkbuilddeps 2>&1); then
    ((EUID == 0)) || give_up "package: $unmet. As root: apt-get build-dep rdma-core (with deb-src" \
      "in apt's sources)"
    run_stage --finish package-dependencies "what rdma-core is built with" \
      install_build_dependencies
  fi
  run_stage package-build "rdma-core's packages with our modules" make_debs
}

package() {
  take_lock
  if is_debian && [[ $PACKAGE_SOURCE != *.rpm ]]; then
    package_debs
  elif command -v rpmbuild > /dev/null; then
    run_stage package-build "rdma-core's packages with our modules" make_rpms
  else
    give_up "package: neither Debian's apt-get nor rpmbuild is here. On Fedora, as root: dnf" \
      "install rpm-build"
  fi
  say "made, in $PACKAGES: $(cd "$PACKAGES" && echo ./*pyverbs*) and those that it belongs to"
  release_lock
}
