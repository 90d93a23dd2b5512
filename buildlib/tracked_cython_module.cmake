# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# rdma_cython_module depends on the .pyx alone, and has no way to pass options. Ours live outside
# the pyverbs package that they become part of, cimport from it, and are rebuilt when a .pxd or
# .pxi that they read has changed, wherever that is. Which package they are of, Cython takes from
# the __init__.pxd files around them: its option for that came with 0.29.33. Compiling and linking
# is left to rdma-core's own rule.

# Cython 3.0 tells what it read; before, and where CMake would not listen, everything that it might
# read counts. The option that lets extensions from other files be warned of is 0.29's.
set(MLX5_MEM_CYTHON -3 -Wextra -Werror)
set(MLX5_MEM_DEPFILES TRUE)
if (CYTHON_VERSION_STRING VERSION_LESS "3.0" OR CMAKE_VERSION VERSION_LESS "3.20")
  set(MLX5_MEM_DEPFILES FALSE)
  set(MLX5_MEM_CYTHON -3)
endif()

# PY_MODULE: directory of the package, slashes; LIBRARIES: what to link besides libibverbs and
# librdmacm.
function(tracked_cython_module PY_MODULE LIBRARIES)
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
    if (MLX5_MEM_DEPFILES)
      set(READ DEPFILE "${CFILE}.dep")
      set(TELL --depfile)
    else()
      file(GLOB_RECURSE READ "${PROJECT_SOURCE_DIR}/pyverbs/*.pxd"
        "${CMAKE_CURRENT_LIST_DIR}/*.pxd" "${MLX5_MEM_INCLUDE}/*.pxi")
      set(READ DEPENDS ${READ})
      set(TELL "")
    endif()
    add_custom_command(
      OUTPUT "${CFILE}"
      MAIN_DEPENDENCY "${SOURCE}"
      ${READ}
      COMMAND "${CYTHON_EXECUTABLE}" ${MLX5_MEM_CYTHON} ${TELL}
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
    if (MLX5_MEM_SANITIZE)
      # A finding ends the process, so that no test can overlook it.
      target_compile_options("${TARGET}" PRIVATE "-fsanitize=${MLX5_MEM_SANITIZE}"
        -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
      set_property(TARGET "${TARGET}" APPEND_STRING PROPERTY
        LINK_FLAGS " -fsanitize=${MLX5_MEM_SANITIZE}")
    endif()
    list(APPEND MLX5_MEM_TARGETS "${TARGET}")
  endforeach()
  set(MLX5_MEM_TARGETS ${MLX5_MEM_TARGETS} PARENT_SCOPE)
endfunction()

# Files that go beside the modules as they are: in the build directory as links, so that an edit
# shows at once.
function(beside_python_modules PY_MODULE)
  set(MLX5_MEM_BESIDE_MODULES ${ARGN} PARENT_SCOPE)
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
