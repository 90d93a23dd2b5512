# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# The modules' C without a warning by two compilers, the demo under memcheck, and the tests of the
# classes with both modules under ASan and UBSan. A finding ends the process, and with it the test.

CLANG=$BUILD/clang

make_clang() {
  local dir=$SCRATCH/clang
  "$VENV/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps \
    --require-hashes -r "$PARTS/clang.txt" -d "$SCRATCH"
  "$VENV/bin/python" -m zipfile -e "$SCRATCH"/ziglang-*.whl "$dir"
  chmod +x "$dir/ziglang/zig"
  rm -f "$SCRATCH"/ziglang-*.whl
  mv -T "$dir" "$CLANG"
}

# Cython's own functions take arguments that they do not use; ours do not.
compile_strictly() {
  local source compiler
  local headers=("-I$TOP/pyverbs/providers/mlx5" "-I$RDMA_CORE_BUILD/mlx5_mem/include"
    "-I$RDMA_CORE_BUILD/include"
    "-I$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')")
  export ZIG_GLOBAL_CACHE_DIR=$SCRATCH/zig ZIG_LOCAL_CACHE_DIR=$SCRATCH/zig
  for source in "$RDMA_CORE_BUILD"/mlx5_mem/*.c "$TOP"/tests/classes/*.c; do
    for compiler in gcc "$CLANG/ziglang/zig cc"; do
      # shellcheck disable=SC2086  # words
      $compiler -c -O2 -Wall -Wextra -Werror -Wno-unused-parameter "${headers[@]}" \
        -o "$SCRATCH/strict.o" \
        "$source" || stage_fails "$compiler warns of $source: see" \
        "$BUILD/log/setup-strict-compilers.log"
    done
  done
  rm -rf "$SCRATCH/zig"
}

# Beside the usual build: neither is made anew for the other. PLAIN_MACHINE tells of that.
sanitized_build() {
  PLAIN_MACHINE=$MACHINE
  RDMA_CORE_BUILD=${RDMA_CORE_BUILD%-build}-sanitized-build
  run_stage rdma-core-build "building it again for ASan and UBSan" configure_and_build \
    "-DMLX5_MEM_SANITIZE=address,undefined"
  describe_machine
  [[ -d $CLANG ]] || run_stage clang "clang" make_clang
  run_stage strict-compilers "the modules by gcc and clang, every warning an error" \
    compile_strictly
}

# memcheck COMMAND...: the demo under memcheck, by a command that runs another one where the device
# is. No test: on a translated CPU an interpreter alone takes half a minute to start under it.
memcheck() {
  local log=$BUILD/log/memcheck.log
  say "the demo under memcheck ..."
  env "MLX5EMU_MACHINE=$PLAIN_MACHINE" PYTHONMALLOC=malloc "$@" \
    "$VALGRIND/bin/valgrind" --quiet --error-exitcode=9 "--suppressions=$PARTS/memcheck.supp" \
    "$VENV/bin/python" "$TOP/pyverbs/examples/demo.py" \
    > "$log" 2>&1 || give_up "the demo under memcheck failed: see $log"
}

# Sets what goes before the command and behind its arguments.
sanitizers() {
  local asan environment
  asan=$(gcc -print-file-name=libasan.so)
  [[ -e $asan ]] || give_up "gcc has no libasan: install its package (libasan8 on Debian 12)"
  # Leaks are looked for by the tests themselves; the interpreter keeps too much to the end. Its own
  # allocator would hide the ends of small objects.
  environment=("LD_PRELOAD=$asan" PYTHONMALLOC=malloc UBSAN_OPTIONS=print_stacktrace=1
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 MLX5_MACHINE_EXAMPLES=20)
  # Here the tests are only collected, which loads the modules too.
  UNDER=(env "${environment[@]}")
  ARGUMENTS+=("--under=env ${environment[*]}")
}
