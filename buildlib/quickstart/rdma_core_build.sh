# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# rdma-core with our modules in it, for use from the build directory.

# What the tests run on the card besides: rdma-core's own programs, and the libraries that perftest
# was linked with.
CLIENTS=(ibv_{rc,uc,ud,srq,xsrq}_pingpong rping ucmatose udaddy efa hns)

build_key() { printf '%s %s' "$RDMA_CORE_SOURCE" "$(venv_key)"; }

# After a configuration that was cut off CMake would believe the checks that it had not finished.
is_configured() {
  [[ -e $RDMA_CORE_BUILD/.configured && $(< "$RDMA_CORE_BUILD/.configured") == "$(build_key)" ]]
}

build_targets() {
  TARGETS=(pyverbs-mlx5)
  [[ $COMMAND != test || -n $DEVICE ]] || TARGETS+=("${CLIENTS[@]}")
}

is_built() {
  build_targets
  is_configured && [[ $(ninja -n -C "$RDMA_CORE_BUILD" "${TARGETS[@]}" 2>&1) == *'no work to do.' ]]
}

# configure_and_build [ARGUMENTS of cmake]
configure_and_build() {
  if ! is_configured; then
    rm -rf "$RDMA_CORE_BUILD"
    # -O1 and no debug information: under a third less to wait for, and what Python calls is not
    # where the time goes.
    cmake -G Ninja -S "$RDMA_CORE_SOURCE" -B "$RDMA_CORE_BUILD" \
      "-DCMAKE_PROJECT_rdma-core_INCLUDE=$TOP/buildlib/rdma_core_hook.cmake" \
      -DMLX5_MEM_REQUIRED=1 -DIN_PLACE=1 -DNO_MAN_PAGES=1 "-DPYTHON_EXECUTABLE=$VENV/bin/python" \
      -DCMAKE_BUILD_TYPE=Release "-DCMAKE_C_FLAGS_RELEASE=-O1 -g0" "$@" || cmake_failed \
      rdma-core-build
    build_key > "$RDMA_CORE_BUILD/.configured"
  fi
  build_targets
  ninja -C "$RDMA_CORE_BUILD" "${TARGETS[@]}"
}

# cmake_failed STAGE
cmake_failed() {
  local ours
  ours=$(sed -n '/pyverbs-mlx5-mem:/,/^$/p' "$BUILD/log/setup-$1.log" |
    tr -s ' \n' ' ')
  [[ -z $ours ]] || stage_fails "$ours"
  exit 1
}

rdma_core_build() {
  # Every time: Ninja knows what is out of date, and takes a tenth of a second to see that nothing
  # is.
  run_stage rdma-core-build "building rdma-core $RDMA_CORE_VERSION with our modules" \
    configure_and_build
}
