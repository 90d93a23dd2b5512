# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# Stubs of compiled modules, with the modules' docstrings in them: editors read neither from the
# module itself.

# PY_MODULE: directory of the package, slashes; then the modules' names.
function(documented_stubs PY_MODULE)
  set(SCRIPT "${MLX5_MEM_BUILDLIB}/documented_stub.py")
  foreach(NAME ${ARGN})
    set(SOURCE "${CMAKE_CURRENT_LIST_DIR}/${NAME}")
    set(STUB "${BUILD_PYTHON}/${PY_MODULE}/${NAME}.pyi")
    add_custom_command(
      OUTPUT "${STUB}"
      DEPENDS "${SOURCE}.pyx" "${SOURCE}.pyi" "${SCRIPT}"
      COMMAND "${PYTHON_EXECUTABLE}" "${SCRIPT}" "${SOURCE}.pyx" "${SOURCE}.pyi" "${STUB}"
      VERBATIM
    )
    install(FILES "${STUB}" DESTINATION "${CMAKE_INSTALL_PYTHON_ARCH_LIB}/${PY_MODULE}")
    list(APPEND MLX5_MEM_STUBS "${STUB}")
    list(APPEND MLX5_MEM_BESIDE_MODULES "${NAME}.pyi")
  endforeach()
  add_custom_target(pyverbs-mlx5-stubs ALL DEPENDS ${MLX5_MEM_STUBS})
  set(MLX5_MEM_STUBS ${MLX5_MEM_STUBS} PARENT_SCOPE)
  set(MLX5_MEM_BESIDE_MODULES ${MLX5_MEM_BESIDE_MODULES} PARENT_SCOPE)
endfunction()
