# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/qemu/bin: qemu-system-x86_64 with vfio-user-pci (10.1 or later), virtiofsd and a static
# busybox. The system's QEMU when it will do, else Debian's packages unpacked beside it, run with
# the C library that they were built for.

fit_qemu() {
  local version
  version=$("$1" --version 2> /dev/null |
    sed -n 's/^QEMU emulator version \([0-9]*\.[0-9]*\).*/\1/p')
  [[ -n $version && $(printf '%s\n10.1\n' "$version" | sort -V | head -n 1) == 10.1 ]] &&
    "$1" -device help 2> /dev/null | grep -q '"vfio-user-pci"'
}

# Scripts that find the rest from where they are, so that the directory can be renamed.
write_starter() {
  cat > "$1" << EOF
#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
root=\$(dirname "\$0")/..
$2
EOF
  chmod 755 "$1"
}

make_qemu() {
  local dir=$SCRATCH/qemu system libs=\$root/usr/lib/x86_64-linux-gnu
  local packages=(virtiofsd busybox-static)
  mkdir -p "$dir/bin"
  system=$(command -v qemu-system-x86_64 || true)
  if [[ -n $system ]] && fit_qemu "$system"; then
    write_starter "$dir/bin/qemu-system-x86_64" "exec '$system' \"\$@\""
  else
    packages+=(qemu-system-x86)
    write_starter "$dir/bin/qemu-system-x86_64" "lib=$libs
exec \"\$lib/ld-linux-x86-64.so.2\" --library-path \"\$lib:\$lib/pulseaudio\" \
  \"\$root/usr/bin/qemu-system-x86_64\" \\
  -L \"\$root/usr/share/qemu\" -L \"\$root/usr/share/seabios\" \"\$@\""
  fi
  unpack_closure trixie-backports "$dir" "${packages[@]}" -- \
    --exclude=./usr/share/{doc,man,locale,icons,lintian,perl5}
  write_starter "$dir/bin/virtiofsd" "lib=$libs
exec \"\$lib/ld-linux-x86-64.so.2\" --library-path \"\$lib\" \"\$root/usr/libexec/virtiofsd\" \
  \"\$@\""
  cp "$dir/usr/bin/busybox" "$dir/bin/busybox"
  fit_qemu "$dir/bin/qemu-system-x86_64" || stage_fails "the archive's QEMU has no" \
    "vfio-user-pci: QEMU 10.1 or later is needed"
  "$dir/bin/virtiofsd" --version
  "$dir/bin/busybox" true
  mv -T "$dir" "$QEMU"
}
