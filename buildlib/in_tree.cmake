# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# Read inside rdma-core's build, after everything else in it.

if (NOT CYTHON_EXECUTABLE)
  message(FATAL_ERROR
    "pyverbs-mlx5-mem: this rdma-core builds without pyverbs. It needs Cython and Python's "
    "headers: "
    "pass -DPYTHON_EXECUTABLE=<a Python that has both> and not -DNO_PYVERBS=1.")
endif()
if (CYTHON_VERSION_STRING VERSION_LESS "3.0")
  message(FATAL_ERROR "pyverbs-mlx5-mem: Cython 3.0 or later is needed, ${PYTHON_EXECUTABLE} has "
    "${CYTHON_VERSION_STRING}.")
endif()
if (NOT HAVE_COHERENT_DMA)
  message(FATAL_ERROR
    "pyverbs-mlx5-mem: no coherent DMA on this machine, so rdma-core builds no mlx5 provider.")
endif()

set(MLX5_MEM_BUILDLIB "${CMAKE_CURRENT_LIST_DIR}")
set(MLX5_MEM_BINARY_DIR "${PROJECT_BINARY_DIR}/mlx5_mem")
set(MLX5_MEM_INCLUDE "${MLX5_MEM_BINARY_DIR}/include")

include("${MLX5_MEM_BUILDLIB}/mlx5_mem_features.cmake")
include("${MLX5_MEM_BUILDLIB}/tracked_cython_module.cmake")
set(MLX5_MEM_TARGETS "")
include("${MLX5_MEM_SOURCE_DIR}/pyverbs/providers/mlx5/CMakeLists.txt")
include("${MLX5_MEM_BUILDLIB}/run_tests.cmake")

# rdma-core's `all` builds every vendor's provider, its daemons and tools. This target is what a
# script or test on mlx5 can use: all of pyverbs, as the tests import all of it, the provider, and
# the programs to look at a device with.
set(NEEDED "")
foreach(DIR pyverbs pyverbs/providers/mlx5 pyverbs/providers/efa)
  get_property(TARGETS DIRECTORY "${PROJECT_SOURCE_DIR}/${DIR}" PROPERTY BUILDSYSTEM_TARGETS)
  list(APPEND NEEDED ${TARGETS})
endforeach()
list(APPEND NEEDED ${MLX5_MEM_TARGETS} mlx5 ibv_devices ibv_devinfo ibv_rc_pingpong ibv_uc_pingpong
  ibv_ud_pingpong
  ibv_srq_pingpong rping)
foreach(TARGET ${NEEDED})
  if (NOT TARGET "${TARGET}")
    message(FATAL_ERROR "pyverbs-mlx5-mem: rdma-core ${PACKAGE_VERSION} has no target ${TARGET}")
  endif()
endforeach()
add_custom_target(pyverbs-mlx5 DEPENDS ${NEEDED})
