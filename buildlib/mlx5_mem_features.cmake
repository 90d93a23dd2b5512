# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# What the rdma-core at hand offers to our modules, in two generated files:
#
#   mlx5_mem_features.h    MLX5_MEM_HAVE_* as 0 or 1, and for each function that is absent a
#                          stand-in that fails with EOPNOTSUPP, so that one .pyx compiles against
#                          every version. From Cython:
#                            cdef extern from "mlx5_mem_features.h" nogil:
#                                bint MLX5_MEM_HAVE_DEVX_UMEM_EXPORT
#                                int mlx5dv_devx_umem_export(mlx5dv_devx_umem *umem, void *data)
#                          The header includes verbs.h and mlx5dv.h itself.
#   mlx5_mem_upstream.pxi  what differs in pyverbs' own cdef classes, which no C macro can hide, for
#                          lifetime.pyx:
#                            include "mlx5_mem_upstream.pxi"
#
# The headers are read rather than compiled against: results are not cached, so the same build
# directory may be pointed at another version, and whenever one of the files read changes, CMake
# runs again by itself.

function(mlx5_mem_look_for RESULT FILE WORD)
  set(PATH "${PROJECT_SOURCE_DIR}/${FILE}")
  if (NOT EXISTS "${PATH}")
    message(FATAL_ERROR
      "pyverbs-mlx5-mem: ${PROJECT_SOURCE_DIR} has no ${FILE}; rdma-core 56.1 or later is needed")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${PATH}")
  file(STRINGS "${PATH}" LINES REGEX "(^|[^A-Za-z0-9_])${WORD}([^A-Za-z0-9_]|$)")
  if (LINES)
    set(${RESULT} 1 PARENT_SCOPE)
  else()
    set(${RESULT} 0 PARENT_SCOPE)
  endif()
  list(APPEND MLX5_MEM_FEATURES ${RESULT})
  set(MLX5_MEM_FEATURES ${MLX5_MEM_FEATURES} PARENT_SCOPE)
endfunction()

set(MLX5_MEM_FEATURES "")
mlx5_mem_look_for(MLX5_MEM_HAVE_DM_TYPE_HEADER_MODIFY_PATTERN providers/mlx5/mlx5_api.h
  MLX5DV_DM_TYPE_HEADER_MODIFY_PATTERN_SW_ICM)
mlx5_mem_look_for(MLX5_MEM_HAVE_DM_TYPE_ENCAP providers/mlx5/mlx5_api.h MLX5DV_DM_TYPE_ENCAP_SW_ICM)
mlx5_mem_look_for(MLX5_MEM_HAVE_DM_EXPORT_DMABUF_FD libibverbs/verbs.h ibv_dm_export_dmabuf_fd)
mlx5_mem_look_for(MLX5_MEM_HAVE_DEVX_UMEM_EXPORT providers/mlx5/mlx5dv.h mlx5dv_devx_umem_export)
mlx5_mem_look_for(MLX5_MEM_HAVE_EXPORT_SIZES providers/mlx5/mlx5dv.h mlx5dv_get_export_sizes)
# From 64 on every Context tracks its umems; before, Mlx5Context alone does.
mlx5_mem_look_for(MLX5_MEM_CONTEXT_HAS_DEVX_UMEMS pyverbs/device.pxd devx_umems)

# What these modules cannot do without: better said here than by a compiler error in generated code.
foreach(NEEDED "libibverbs/verbs.h;ibv_import_dm" "providers/mlx5/mlx5dv.h;mlx5dv_alloc_dm"
    "providers/mlx5/mlx5dv.h;mlx5dv_devx_umem_reg_ex"
    "providers/mlx5/mlx5dv.h;mlx5dv_dm_map_op_addr")
  list(GET NEEDED 0 FILE)
  list(GET NEEDED 1 WORD)
  mlx5_mem_look_for(FOUND "${FILE}" "${WORD}")
  list(REMOVE_ITEM MLX5_MEM_FEATURES FOUND)
  if (NOT FOUND)
    message(FATAL_ERROR "pyverbs-mlx5-mem: rdma-core ${PACKAGE_VERSION} has no ${WORD} in ${FILE}; "
      "56.1 or later is needed")
  endif()
endforeach()

if (MLX5_MEM_CONTEXT_HAS_DEVX_UMEMS)
  set(MLX5_MEM_CONTEXT_UMEMS "    return context.devx_umems")
else()
  set(MLX5_MEM_CONTEXT_UMEMS "    if isinstance(context, Mlx5Context):
        return (<Mlx5Context>context).devx_umems
    return None")
endif()

# The members of a context that hold its children differ by version. Each Python object in it is
# looked at; what is no WeakSet when a context is met stays as it is.
function(mlx5_mem_members RESULT FILE CLASS)
  set(PATH "${PROJECT_SOURCE_DIR}/${FILE}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${PATH}")
  file(STRINGS "${PATH}" LINES)
  set(INSIDE FALSE)
  set(FOUND "")
  foreach(LINE IN LISTS LINES)
    if (LINE MATCHES "^cdef class ")
      set(INSIDE FALSE)
      if (LINE MATCHES "^cdef class ${CLASS}[(:]")
        set(INSIDE TRUE)
      endif()
    elseif (INSIDE AND LINE MATCHES "^    cdef object ([a-z_]+)$")
      list(APPEND FOUND "${CMAKE_MATCH_1}")
    endif()
  endforeach()
  if (NOT FOUND)
    message(FATAL_ERROR "pyverbs-mlx5-mem: ${PATH} has no class ${CLASS} with children: "
      "this rdma-core is not known")
  endif()
  set(${RESULT} "${FOUND}" PARENT_SCOPE)
endfunction()

set(MLX5_MEM_READ "")
set(MLX5_MEM_WRITE "")
mlx5_mem_members(MEMBERS pyverbs/device.pxd Context)
foreach(MEMBER ${MEMBERS})
  string(APPEND MLX5_MEM_READ "    sets['${MEMBER}'] = context.${MEMBER}\n")
  string(APPEND MLX5_MEM_WRITE "    context.${MEMBER} = sets['${MEMBER}']\n")
endforeach()
set(MLX5_MEM_READ_DERIVED "")
set(MLX5_MEM_WRITE_DERIVED "")
mlx5_mem_members(MEMBERS pyverbs/providers/mlx5/mlx5dv.pxd Mlx5Context)
foreach(MEMBER ${MEMBERS})
  string(APPEND MLX5_MEM_READ_DERIVED
    "        sets['${MEMBER}'] = (<Mlx5Context> context).${MEMBER}\n")
  string(APPEND MLX5_MEM_WRITE_DERIVED
    "        (<Mlx5Context> context).${MEMBER} = sets['${MEMBER}']\n")
endforeach()

# Put beside a pyverbs that was built before, the modules ask whether it is still that one.
set(MLX5_MEM_CHECK "")
if (MLX5_MEM_BESIDE)
  set(MLX5_MEM_CHECK "import pyverbs.providers.mlx5.mlx5_mem_beside\n")
endif()

# configure_file leaves a file whose content stays the same alone, so nothing is rebuilt without
# need.
configure_file("${MLX5_MEM_BUILDLIB}/mlx5_mem_features.h.in"
  "${MLX5_MEM_INCLUDE}/mlx5_mem_features.h" @ONLY)
configure_file("${MLX5_MEM_BUILDLIB}/mlx5_mem_upstream.pxi.in"
  "${MLX5_MEM_INCLUDE}/mlx5_mem_upstream.pxi" @ONLY)

message(STATUS "pyverbs-mlx5-mem in rdma-core ${PACKAGE_VERSION}:")
foreach(FEATURE ${MLX5_MEM_FEATURES})
  message(STATUS "  ${FEATURE} ${${FEATURE}}")
endforeach()
