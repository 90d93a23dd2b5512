# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/foreign/trixie and bookworm: roots for chroot with Debian's programs that use RDMA, which
# tests/foreign runs in the guest. Nothing in them is configured by dpkg: what a program needs of
# that is done here.

FOREIGN=$BUILD/foreign
# What every root has, for scripts in it.
FOREIGN_BASE=(base-files bash coreutils dash grep sed)

# foreign_suites: those that the command needs.
foreign_suites() {
  case $COMMAND in
    foreign) echo trixie bookworm ;;
    test) echo trixie ;;
  esac
}

has_foreign() {
  local suite
  for suite in $(foreign_suites); do
    # The list of packages is of this very script.
    [[ -e $FOREIGN/$suite/made-by && $(< "$FOREIGN/$suite/made-by") == "$(foreign_key)" ]] ||
      return 1
  done
}

foreign_key() {
  cat "$PARTS"/foreign{.sh,_pypi.txt} | sha256sum | cut -d' ' -f1
}

# make_foreign SUITE
make_foreign() {
  local suite=$1 root=$SCRATCH/$1/root debs=$SCRATCH/$1/debs release=() packages
  packages=(ucx-utils openmpi-bin python3-mpi4py libfabric-bin)
  if [[ $suite == trixie ]]; then
    packages+=(librte-meta-all nvme-cli nfs-kernel-server open-iscsi infiniband-diags iproute2
      ethtool mstflint)
  else
    release=(--target "$suite")
  fi
  mkdir -p "$root" "$debs"
  archive closure "${release[@]}" "$LISTS" "$debs" "${FOREIGN_BASE[@]}" "${packages[@]}"
  # testpmd is in a package whose other files, and what they need, are for compiling.
  if [[ $suite == trixie ]]; then
    mkdir "$SCRATCH/$suite/dev"
    archive download "$LISTS" "$SCRATCH/$suite/dev" dpdk-dev
    unpack_deb "$SCRATCH/$suite"/dev/dpdk-dev_*.deb "$root" ./usr/bin/dpdk-testpmd
  fi
  archive files "$debs"/*.deb | tar -x -C "$root" --no-same-owner --ignore-zeros \
    --exclude=./usr/share/{doc,man,locale,info}
  # Until Debian 12 some files are outside of /usr: base-files has made the links.
  (cd "$debs" && printf '%s\n' *.deb | sed 's/_[^_]*$//; s/_/ /; s/%3a/:/' > "$root/versions")
  ln -sf dash "$root/usr/bin/sh"
  mkdir -p "$root"/{proc,sys,dev,tmp,run,mnt}
  echo '127.0.0.1 localhost' > "$root/etc/hosts"
  echo 'root:x:0:0:root:/root:/bin/bash' > "$root/etc/passwd"
  echo 'root:x:0:' > "$root/etc/group"
  touch "$root/etc/exports"
  # In the place of an alternative.
  [[ ! -d $root/usr/lib/libpsm1 ]] ||
    ln -s ../libpsm1/libpsm_infinipath.so.1.16 \
      "$root/usr/lib/x86_64-linux-gnu/libpsm_infinipath.so.1"
  rm -rf "$root/var/run" "$root/var/lock"
  ln -s /run "$root/var/run"
  ln -s /run/lock "$root/var/lock"
  chroot "$root" ucx_info -v
  # Of the package index, for the root's own Python.
  if [[ $suite == trixie ]]; then
    install_alone "$root/opt/pypi" "$PARTS/foreign_pypi.txt"
    sed -n 's/^\([a-z]*\)==\([^ ]*\) .*/\1 \2/p' "$PARTS/foreign_pypi.txt" >> "$root/versions"
  fi
  foreign_key > "$root/made-by"
  rm -rf "${FOREIGN:?}/$suite"
  mkdir -p "$FOREIGN"
  mv -T "$root" "$FOREIGN/$suite"
}
