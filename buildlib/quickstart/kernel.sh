# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/kernel-stable, -backports or -oldstable: Debian's kernel as it is, all its modules, and from
# its headers the mlx5 interface.

has_kernel() {
  # Set-ups before left none of these lists.
  [[ -d $BUILD/kernel-$1 && -n $(compgen -G "$BUILD/kernel-$1/usr/lib/modules/*/modules.dep") ]]
}

# make_kernel stable|backports|oldstable
make_kernel() {
  local kind=$1 dir=$SCRATCH/kernel target=() packages=() release image deb headers served
  # Without a target the newest of trixie and its security archive wins.
  case $kind in
    backports) target=(--target trixie-backports) ;;
    oldstable) target=(--target bookworm) ;;
  esac
  mkdir -p "$dir"
  image=$(archive depends "${target[@]}" "$LISTS" linux-image-amd64 |
    grep '^linux-image-[0-9].*-amd64$') || stage_fails "the Debian archive names no $kind kernel:" \
    "try again in some minutes, or name another by DEBIAN_ARCHIVE"
  release=${image#linux-image-}
  echo "kernel $release"
  # Later kernels come in parts.
  served=$(archive serves "${target[@]}" "$LISTS" "linux-image-$release" \
    "linux-binary-$release" "linux-modules-$release")
  read -ra packages <<< "$served"
  headers=linux-headers-${release%-amd64}-common
  if [[ $kind == oldstable ]]; then
    # The card is newer than this kernel and has what it does not know: its layouts are those of the
    # current one.
    headers=$(archive depends "$LISTS" linux-headers-amd64 |
      sed -n 's/^\(linux-headers-[0-9].*\)-amd64$/\1-common/p')
    archive download "$LISTS" "$SCRATCH" "$headers"
  else
    packages+=("$headers")
  fi
  archive download "${target[@]}" "$LISTS" "$SCRATCH" "${packages[@]}"
  for deb in "$SCRATCH"/linux-*.deb; do
    echo "unpacking $(basename "$deb")"
    case $(basename "$deb") in
      linux-headers-*) unpack_deb "$deb" "$dir" --wildcards './usr/src/*/include/linux/mlx5' ;;
      *) unpack_deb "$deb" "$dir" --exclude='./usr/share' --exclude='./boot/System.map*' ;;
    esac
    rm "$deb"
  done
  mv -T "$dir/usr/src/$headers" "$dir/usr/src/linux-headers-${release%-amd64}-common" \
    2> /dev/null || true
  # Until Debian 12 modules were outside of /usr.
  [[ ! -d $dir/lib ]] || cp -a --link "$dir/lib" "$dir/usr/" && rm -rf "${dir:?}/lib"
  if [[ -e $dir/usr/lib/modules/$release/vmlinuz ]]; then
    mkdir -p "$dir/boot"
    mv "$dir/usr/lib/modules/$release/vmlinuz" "$dir/boot/vmlinuz-$release"
  fi
  [[ -s $dir/boot/vmlinuz-$release && -d $dir/usr/lib/modules/$release &&
    -s $dir/usr/src/linux-headers-${release%-amd64}-common/include/linux/mlx5/mlx5_ifc.h ]] ||
    stage_fails "the packages of kernel $release hold no vmlinuz, modules or mlx5_ifc.h where" \
      "they were expected"
  # What needs what, for modprobe in the guest.
  mkdir -p "$SCRATCH/base"
  ln -sfn "$dir/usr/lib" "$SCRATCH/base/lib"
  "$QEMU/bin/busybox" depmod -b "$SCRATCH/base" "$release"
  echo "$release" > "$dir/release"
  rm -rf "$BUILD/kernel-$kind"
  mv -T "$dir" "$BUILD/kernel-$kind"
}
