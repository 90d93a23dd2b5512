# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# rdma-core's run_tests.py loads every test_*.py beside itself, and bin/run_tests.py starts it in
# the source tree, which we leave alone. So: a directory of links to all of rdma-core's tests and to
# ours, and bin/run_tests.py starts it there. The directory above it is one to put in PYTHONPATH for
# `import tests`.
#
# Ours are tests/classes/test_mlx5_*.py: those that are written on rdma-core's test classes.
# tests/classes/mlx5_mem_*.py is for what several of them share.

set(TESTS_DIR "${PROJECT_BINARY_DIR}/run_tests/tests")
# Before 3.12 who adds a test configures again.
set(AGAIN CONFIGURE_DEPENDS)
if (CMAKE_VERSION VERSION_LESS "3.12")
  set(AGAIN "")
endif()
file(GLOB UPSTREAM_TESTS ${AGAIN} "${PROJECT_SOURCE_DIR}/tests/*.py")
file(GLOB OUR_TESTS ${AGAIN}
  "${MLX5_MEM_SOURCE_DIR}/tests/classes/test_mlx5_*.py"
  "${MLX5_MEM_SOURCE_DIR}/tests/classes/mlx5_mem_*.py")

set(LINKS "")
foreach(TEST ${UPSTREAM_TESTS} ${OUR_TESTS})
  get_filename_component(NAME "${TEST}" NAME)
  if (NAME IN_LIST LINKS)
    message(FATAL_ERROR "pyverbs-mlx5-mem: rdma-core ${PACKAGE_VERSION} has a test ${NAME} too")
  endif()
  list(APPEND LINKS "${NAME}")
  rdma_create_symlink("${TEST}" "${TESTS_DIR}/${NAME}")
endforeach()

# A test that is gone or renamed must not stay as a dangling link: the loader would fail on it.
file(GLOB PRESENT RELATIVE "${TESTS_DIR}" "${TESTS_DIR}/*.py")
foreach(NAME ${PRESENT})
  if (NOT NAME IN_LIST LINKS)
    file(REMOVE "${TESTS_DIR}/${NAME}")
  endif()
endforeach()

install(FILES ${OUR_TESTS} DESTINATION "${CMAKE_INSTALL_DOCDIR}/tests")

file(WRITE "${BUILD_BIN}/run_tests.py" "#!/bin/sh
PYTHONPATH='${BUILD_PYTHON}' exec '${PYTHON_EXECUTABLE}' '${TESTS_DIR}/run_tests.py' \"$@\"
")
execute_process(COMMAND chmod a+x "${BUILD_BIN}/run_tests.py")
