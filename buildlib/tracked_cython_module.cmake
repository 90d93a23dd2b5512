# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# rdma_cython_module depends on the .pyx alone, resolves cimports by the __init__.py files around
# it, and has no way to pass options. Ours live outside the pyverbs package that they become part
# of, cimport from it, and are rebuilt when a .pxd or .pxi that they read has changed, wherever that
# is. Compiling and linking is left to rdma-core's own rule.

# PY_MODULE: directory of the package, slashes; LIBRARIES: what to link besides libibverbs and
# librdmacm.
function(tracked_cython_module PY_MODULE LIBRARIES)
  string(REPLACE "/" "." PACKAGE "${PY_MODULE}")
  file(MAKE_DIRECTORY "${MLX5_MEM_BINARY_DIR}")
  foreach(PYX ${ARGN})
    get_filename_component(NAME "${PYX}" NAME_WE)
    set(SOURCE "${CMAKE_CURRENT_LIST_DIR}/${PYX}")
    set(CFILE "${MLX5_MEM_BINARY_DIR}/${NAME}.c")
    if (NOT EXISTS "${SOURCE}")
      message(FATAL_ERROR "pyverbs-mlx5-mem: ${SOURCE} is missing")
    endif()
    # Cython writes paths in the depfile relative to its working directory, CMake takes them
    # relative to the binary directory of the caller.
    add_custom_command(
      OUTPUT "${CFILE}"
      MAIN_DEPENDENCY "${SOURCE}"
      DEPFILE "${CFILE}.dep"
      COMMAND "${CYTHON_EXECUTABLE}" -3 -Wextra -Werror --depfile
        --module-name "${PACKAGE}.${NAME}"
        -I "${MLX5_MEM_SOURCE_DIR}" -I "${PROJECT_SOURCE_DIR}" -I "${MLX5_MEM_INCLUDE}"
        "${SOURCE}" -o "${CFILE}"
      WORKING_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}"
      COMMENT "Cythonizing ${SOURCE}"
      VERBATIM
    )
    # Left by a build from when a module could be a package.
    file(REMOVE_RECURSE "${BUILD_PYTHON}/${PY_MODULE}/${NAME}")
    build_module_from_cfiles("${PY_MODULE}" "${NAME}" "${CFILE}" "${LIBRARIES}")
    # rdma-core's rule names the target after the file that Python will look for.
    set(TARGET "${NAME}${CMAKE_PYTHON_SO_SUFFIX}")
    string(REGEX REPLACE "\\.so$" "" TARGET "${TARGET}")
    target_include_directories("${TARGET}" PRIVATE ${PYTHON_INCLUDE_DIRS} "${MLX5_MEM_INCLUDE}"
      "${CMAKE_CURRENT_LIST_DIR}")
    list(APPEND MLX5_MEM_TARGETS "${TARGET}")
  endforeach()
  set(MLX5_MEM_TARGETS ${MLX5_MEM_TARGETS} PARENT_SCOPE)
endfunction()

# Files that go beside the modules as they are: in the build directory as links, so that an edit
# shows at once.
function(beside_python_modules PY_MODULE)
  foreach(FILE ${ARGN})
    set(SOURCE "${CMAKE_CURRENT_LIST_DIR}/${FILE}")
    if (NOT EXISTS "${SOURCE}")
      message(FATAL_ERROR "pyverbs-mlx5-mem: ${SOURCE} is missing")
    endif()
    rdma_create_symlink("${SOURCE}" "${BUILD_PYTHON}/${PY_MODULE}/${FILE}")
    get_filename_component(BELOW "${PY_MODULE}/${FILE}" DIRECTORY)
    install(FILES "${SOURCE}" DESTINATION "${CMAKE_INSTALL_PYTHON_ARCH_LIB}/${BELOW}")
  endforeach()
endfunction()
