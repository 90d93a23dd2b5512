# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# Read inside rdma-core's build, after everything else in it: by the hook, or by the line that
# into_tree.sh adds to its CMakeLists.txt.

cmake_minimum_required(VERSION 3.10...3.31)

# Where rdma-core builds no pyverbs, ours steps aside, as pyverbs does; MLX5_MEM_REQUIRED is for
# those who came for it.
set(MLX5_MEM_ABSENT "")
if (NOT CYTHON_EXECUTABLE)
  string(CONCAT MLX5_MEM_ABSENT "this rdma-core builds without pyverbs. It needs Cython and "
    "Python's headers: pass -DPYTHON_EXECUTABLE=<a Python that has both> and not -DNO_PYVERBS=1")
elseif (NOT HAVE_COHERENT_DMA)
  set(MLX5_MEM_ABSENT "no coherent DMA on this machine, so rdma-core builds no mlx5 provider")
endif()
if (MLX5_MEM_ABSENT)
  if (MLX5_MEM_REQUIRED)
    message(FATAL_ERROR "pyverbs-mlx5-mem: ${MLX5_MEM_ABSENT}.")
  endif()
  message(STATUS "pyverbs-mlx5-mem: not built: ${MLX5_MEM_ABSENT}")
  return()
endif()
if (CYTHON_VERSION_STRING VERSION_LESS "0.26")
  message(FATAL_ERROR "pyverbs-mlx5-mem: Cython 0.26 or later is needed, ${PYTHON_EXECUTABLE} has "
    "${CYTHON_VERSION_STRING}.")
endif()
# Upstream's mlx5dv_flow.pyx lacked a parenthesis that Cython did not miss before 3.2.
if (PACKAGE_VERSION VERSION_LESS "60" AND NOT CYTHON_VERSION_STRING VERSION_LESS "3.2")
  message(FATAL_ERROR "pyverbs-mlx5-mem: pyverbs of rdma-core ${PACKAGE_VERSION} does not compile "
    "with Cython ${CYTHON_VERSION_STRING}: take a Python with Cython before 3.2 "
    "(pip install 'cython<3.2'), or rdma-core 60 or later.")
endif()

set(MLX5_MEM_BUILDLIB "${CMAKE_CURRENT_LIST_DIR}")
get_filename_component(MLX5_MEM_SOURCE_DIR "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
set(MLX5_MEM_BINARY_DIR "${PROJECT_BINARY_DIR}/mlx5_mem")
set(MLX5_MEM_INCLUDE "${MLX5_MEM_BINARY_DIR}/include")

include("${MLX5_MEM_BUILDLIB}/mlx5_mem_features.cmake")
include("${MLX5_MEM_BUILDLIB}/tracked_cython_module.cmake")
include("${MLX5_MEM_BUILDLIB}/documented_stubs.cmake")
set(MLX5_MEM_TARGETS "")
set(MLX5_MEM_STUBS "")
include("${MLX5_MEM_SOURCE_DIR}/pyverbs/providers/mlx5/CMakeLists.txt")
include("${MLX5_MEM_BUILDLIB}/run_tests.cmake")
if (SKBUILD)
  include("${MLX5_MEM_BUILDLIB}/wheel.cmake")
endif()

# rdma-core's `all` builds every vendor's provider, its daemons and tools. This target is what a
# script or test on mlx5 can use: all of pyverbs, as the tests import all of it, the provider, and
# the programs to look at a device with.
set(NEEDED "")
foreach(DIR pyverbs pyverbs/providers/mlx5 pyverbs/providers/efa)
  get_property(TARGETS DIRECTORY "${PROJECT_SOURCE_DIR}/${DIR}" PROPERTY BUILDSYSTEM_TARGETS)
  list(APPEND NEEDED ${TARGETS})
endforeach()
list(APPEND NEEDED ${MLX5_MEM_TARGETS} pyverbs-mlx5-stubs mlx5 ibv_devices ibv_devinfo
  ibv_rc_pingpong ibv_uc_pingpong ibv_ud_pingpong ibv_srq_pingpong rping)
foreach(TARGET ${NEEDED})
  if (NOT TARGET "${TARGET}")
    message(FATAL_ERROR "pyverbs-mlx5-mem: rdma-core ${PACKAGE_VERSION} has no target ${TARGET}")
  endif()
endforeach()
add_custom_target(pyverbs-mlx5 DEPENDS ${NEEDED})

# For who puts ours beside a pyverbs that is there already: the modules alone, and what goes with
# them.
add_custom_target(pyverbs-mlx5-mem DEPENDS ${MLX5_MEM_TARGETS} pyverbs-mlx5-stubs)
set(BESIDE "")
foreach(TARGET ${MLX5_MEM_TARGETS})
  list(APPEND BESIDE "${TARGET}.so")
endforeach()
string(REPLACE ";" "\n" BESIDE "${BESIDE};${MLX5_MEM_BESIDE_MODULES};")
file(WRITE "${MLX5_MEM_BINARY_DIR}/files.txt" "${BESIDE}")
