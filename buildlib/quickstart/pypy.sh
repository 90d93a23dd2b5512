# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/pypy/bin/pypy3: Debian's PyPy, which runs the emulated card several times faster than
# CPython, with the C library that it was built for. The card needs nothing that is not in it.

make_pypy() {
  local dir=$SCRATCH/pypy
  mkdir -p "$dir/bin"
  unpack_closure '' "$dir" pypy3 -- "${NO_DATA[@]}"
  write_starter "$dir/bin/pypy3" "lib=\$root/usr/lib/x86_64-linux-gnu
exec \"\$lib/ld-linux-x86-64.so.2\" --library-path \"\$lib\" \"\$root/usr/bin/pypy3\" \"\$@\""
  # The parts that the card takes of it; a layout of the kernel's, which the card reads at its
  # start, need not be here yet.
  "$dir/bin/pypy3" -c 'import ctypes, mmap, socket, struct, sys
print(sys.version)' || stage_fails "the archive's pypy3 cannot run the card: see" \
    "$BUILD/log/setup-pypy.log"
  mv -T "$dir" "$PYPY"
}
