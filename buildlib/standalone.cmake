# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# Configures rdma-core at once, so that what it misses is reported by the cmake command that was
# typed, and builds in it the modules and what they need. Nothing is installed: to install,
# configure rdma-core itself with the hook.

set(RDMA_CORE_SOURCE_DIR "" CACHE PATH "Source tree of rdma-core, 56.1 or later")
if (NOT EXISTS "${RDMA_CORE_SOURCE_DIR}/buildlib/pyverbs_functions.cmake")
  message(FATAL_ERROR
    "RDMA_CORE_SOURCE_DIR='${RDMA_CORE_SOURCE_DIR}' is no rdma-core source tree: pass "
    "-DRDMA_CORE_SOURCE_DIR=<directory>, relative ones are taken from ${CMAKE_CURRENT_SOURCE_DIR}.")
endif()
get_filename_component(RDMA_CORE "${RDMA_CORE_SOURCE_DIR}" ABSOLUTE)

set(FORWARDED "")
foreach(VARIABLE CMAKE_BUILD_TYPE CMAKE_C_COMPILER CMAKE_C_FLAGS CMAKE_MAKE_PROGRAM
    PYTHON_EXECUTABLE)
  if (DEFINED ${VARIABLE})
    list(APPEND FORWARDED "-D${VARIABLE}=${${VARIABLE}}")
  endif()
endforeach()

set(RDMA_CORE_BUILD "${CMAKE_CURRENT_BINARY_DIR}/rdma-core")
execute_process(
  COMMAND "${CMAKE_COMMAND}" -G "${CMAKE_GENERATOR}" -S "${RDMA_CORE}" -B "${RDMA_CORE_BUILD}"
    "-DCMAKE_PROJECT_rdma-core_INCLUDE=${CMAKE_CURRENT_LIST_DIR}/rdma_core_hook.cmake"
    -DMLX5_MEM_REQUIRED=1 -DIN_PLACE=1 -DNO_MAN_PAGES=1 ${FORWARDED}
  RESULT_VARIABLE RESULT)
if (NOT RESULT EQUAL 0)
  message(FATAL_ERROR "rdma-core in ${RDMA_CORE} could not be configured, see above")
endif()

# The inner build knows what is out of date, the outer one always asks it.
add_custom_target(rdma-core ALL
  COMMAND "${CMAKE_COMMAND}" --build "${RDMA_CORE_BUILD}" --target pyverbs-mlx5
  USES_TERMINAL VERBATIM)
message(STATUS "rdma-core with pyverbs-mlx5-mem: ${RDMA_CORE_BUILD}")
