# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/perftest/bin: Debian's perftest, which the tests run on the emulated card: over the
# libibverbs of LD_LIBRARY_PATH, with the C library that it was built for.

make_perftest() {
  local dir=$SCRATCH/perftest program
  mkdir -p "$dir/bin"
  unpack_closure '' "$dir" perftest -- "${NO_DATA[@]}"
  for program in "$dir"/usr/bin/{ib_,raw_}*; do
    write_starter "$dir/bin/$(basename "$program")" "lib=\$root/usr/lib/x86_64-linux-gnu
exec \"\$lib/ld-linux-x86-64.so.2\" --library-path \"\$LD_LIBRARY_PATH:\$lib\" \
  \"\$root/usr/bin/$(basename "$program")\" \"\$@\""
  done
  # Its status is not 0 even when it has said its version.
  [[ $(LD_LIBRARY_PATH='' "$dir/bin/ib_write_bw" --version || true) == *Version:* ]] ||
    stage_fails "the archive's perftest does not start: see $BUILD/log/setup-perftest.log"
  mv -T "$dir" "$PERFTEST"
}
