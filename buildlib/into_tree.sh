#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# Puts the modules and their tests into an rdma-core tree, for a CMake that is too old for
# rdma_core_hook.cmake (before 3.19), and takes them out again:
#
#   sh buildlib/into_tree.sh add DIRECTORY
#   sh buildlib/into_tree.sh remove DIRECTORY
#
# That is one directory, mlx5_mem, and one line at the end of rdma-core's CMakeLists.txt.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd -P)
line='include(mlx5_mem/buildlib/in_tree.cmake)'

give_up() {
  echo "into_tree.sh: $*" >&2
  exit 2
}

usage() {
  give_up "usage: sh buildlib/into_tree.sh add|remove DIRECTORY, DIRECTORY being an rdma-core tree"
}

[ $# -eq 2 ] || usage
tree=$2
lists=$tree/CMakeLists.txt
[ -e "$tree/buildlib/pyverbs_functions.cmake" ] || give_up "$tree is no rdma-core tree"

case $1 in
  add)
    [ ! -e "$tree/mlx5_mem" ] || give_up "$tree/mlx5_mem is there already: remove it first"
    mkdir -p "$tree/mlx5_mem/tests"
    cp -R "$top/pyverbs" "$top/COPYING.md" "$tree/mlx5_mem/"
    mkdir "$tree/mlx5_mem/buildlib" "$tree/mlx5_mem/tests/classes"
    cp "$top"/buildlib/*.cmake "$top"/buildlib/*.in "$top"/buildlib/*.py "$tree/mlx5_mem/buildlib/"
    cp "$top"/tests/classes/*.py "$top"/tests/classes/*.c "$tree/mlx5_mem/tests/classes/"
    printf '%s\n' "$line" >> "$lists"
    ;;
  remove)
    [ -e "$tree/mlx5_mem" ] || give_up "$tree has nothing of ours"
    grep -vxF "$line" "$lists" > "$tree/mlx5_mem/CMakeLists.txt"
    # The file itself is written, not replaced: its mode and links stay.
    cat "$tree/mlx5_mem/CMakeLists.txt" > "$lists"
    rm -rf "${tree:?}/mlx5_mem"
    ;;
  *) usage ;;
esac
