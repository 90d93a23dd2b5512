# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/valgrind/bin: Debian's valgrind, by whose callgrind a test counts instructions. It is linked
# statically: of its package nothing else is needed.

make_valgrind() {
  local dir=$SCRATCH/valgrind
  mkdir -p "$dir/bin"
  archive download "$LISTS" "$SCRATCH" valgrind
  unpack_deb "$SCRATCH"/valgrind_*.deb "$dir" --exclude=./usr/share
  rm -f "$SCRATCH"/valgrind_*.deb
  write_starter "$dir/bin/valgrind" "export VALGRIND_LIB=\$root/usr/libexec/valgrind
exec \"\$root/usr/bin/valgrind.bin\" \"\$@\""
  "$dir/bin/valgrind" --tool=callgrind --callgrind-out-file=/dev/null true ||
    stage_fails "the archive's valgrind does not start: see $BUILD/log/setup-valgrind.log"
  mv -T "$dir" "$VALGRIND"
}
