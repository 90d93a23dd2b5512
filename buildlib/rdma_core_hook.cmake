# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# Adds this tree to an unmodified rdma-core, 56.1 or later:
#
#   cmake -S rdma-core -B build \
#     -DCMAKE_PROJECT_rdma-core_INCLUDE=<here>/buildlib/rdma_core_hook.cmake
#
# CMake reads this file at rdma-core's project() line, when none of its variables and functions
# exist yet. So ours is only noted here, and included when the last line of rdma-core's
# CMakeLists.txt has been executed: it then has the flags, include directories and functions that
# rdma-core's own pyverbs/ had. Subdirectories may not be added that late, so everything of ours
# belongs to rdma-core's top directory, and our rules go by the directory of the file that calls
# them.
#
# What it adds to that build:
#   in_tree.cmake                order of the steps below, target `pyverbs-mlx5`: all that these
#                                modules need to run
#   mlx5_mem_features.cmake      what this rdma-core has, as mlx5_mem_features.h and
#                                mlx5_mem_upstream.pxi, for the .pyx
#   tracked_cython_module.cmake  a module rule as rdma_cython_module, with dependencies and warnings
#                                as errors
#   documented_stubs.cmake       stubs with docstrings, for editors
#   run_tests.cmake              our tests beside rdma-core's for bin/run_tests.py
#   wheel.cmake                  stubs and a command, in a wheel only

get_filename_component(MLX5_MEM_SOURCE_DIR "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
if (CMAKE_VERSION VERSION_LESS "3.19")
  message(FATAL_ERROR "pyverbs-mlx5-mem: this CMake is ${CMAKE_VERSION}; before 3.19 it cannot put "
    "anything behind rdma-core's own lines. For a build without the hook:\n"
    "  sh ${CMAKE_CURRENT_LIST_DIR}/into_tree.sh add ${CMAKE_SOURCE_DIR}\n"
    "puts the files into that tree, and `remove` takes them out again.")
endif()
# Arguments of a deferred call are expanded when it runs; EVAL fixes them now.
cmake_language(EVAL CODE "cmake_language(DEFER CALL
  include [[${MLX5_MEM_SOURCE_DIR}/CMakeLists.txt]])")
