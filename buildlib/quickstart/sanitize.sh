# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# The modules' C without a warning by two compilers, and the tests of the classes with both modules
# under ASan and UBSan. A finding ends the process, and with it the test.

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

strict_compilers() {
  [[ -d $CLANG ]] || run_stage clang "clang" make_clang
  run_stage strict-compilers "the modules by gcc and clang, every warning an error" compile_strictly
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
  ARGUMENTS+=("--under=env ${environment[*]}" "--card-args=--memory 3072 ${PROFILE:+--profile
    $PROFILE}")
}
