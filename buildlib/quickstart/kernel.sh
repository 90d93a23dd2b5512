# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/kernel-stable or -backports: Debian's kernel as it is, all its modules, and from its headers the mlx5 interface.

make_kernel() {
  local dir=$SCRATCH/kernel target=trixie packages=() release image package deb
  [[ $KERNEL_KIND == backports ]] && target=trixie-backports
  mkdir -p "$dir"
  # The metapackage names the newest image, from trixie or its security archive.
  image=$(trixie_apt apt-cache -t "$target" depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
  [[ $KERNEL_KIND == backports ]] && image=$(newest_backport)
  [[ -n $image ]] || stage_fails "the Debian archive names no kernel for $target: try again in some minutes, or name another archive in /etc/apt/sources.list.d"
  release=${image#linux-image-}
  echo "kernel $release"
  # Later kernels come in parts.
  for package in "linux-image-$release" "linux-binary-$release" "linux-modules-$release"; do
    trixie_apt apt-cache show "$package" > /dev/null 2>&1 && packages+=("$package")
  done
  packages+=("linux-headers-${release%-amd64}-common")
  (cd "$SCRATCH" && trixie_apt apt-get download "${packages[@]}") || archive_lacks kernel "${packages[@]}"
  for deb in "$SCRATCH"/linux-*.deb; do
    echo "unpacking $(basename "$deb")"
    case $(basename "$deb") in
      linux-headers-*) unpack_deb "$deb" "$dir" --wildcards './usr/src/*/include/linux/mlx5' ;;
      *) unpack_deb "$deb" "$dir" --exclude='./usr/share' --exclude='./boot/System.map*' ;;
    esac
    rm "$deb"
  done
  [[ -s $dir/boot/vmlinuz-$release && -d $dir/usr/lib/modules/$release &&
    -s $dir/usr/src/linux-headers-${release%-amd64}-common/include/linux/mlx5/mlx5_ifc.h ]] ||
    stage_fails "the packages of kernel $release hold no vmlinuz, modules or mlx5_ifc.h where they were expected"
  echo "$release" > "$dir/release"
  mv -T "$dir" "$KERNEL"
}

newest_backport() {
  trixie_apt apt-cache madison linux-image-amd64 | awk '$3 ~ /~bpo/ { print $3; exit }' | while read -r version; do
    trixie_apt apt-cache show "linux-image-amd64=$version" | sed -n 's/^Depends:.*\(linux-image-[0-9][^ ]*-amd64\) .*/\1/p' | head -n 1
  done
}
