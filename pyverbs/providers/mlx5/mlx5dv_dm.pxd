# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from libc.stdint cimport uint32_t, uint64_t

from pyverbs.base cimport PyverbsCM, PyverbsObject
from pyverbs.device cimport Context, DM
cimport pyverbs.libibverbs as v
cimport pyverbs.providers.mlx5.libmlx5_mem as mem
from pyverbs.providers.mlx5.lifetime cimport Children, Lifetime


cdef class Mlx5AllocDmAttr(PyverbsObject):
    cdef mem.mlx5dv_alloc_dm_attr attr

cdef class Mlx5DM(DM):
    cdef Lifetime life
    cdef Children children
    cdef unsigned int dm_type
    cdef bint imported
    cdef size_t dm_length
    cdef size_t reachable
    cdef unsigned int log_align
    cdef uint32_t dm_handle
    cdef void *mapped
    cdef uint64_t icm_address
    cdef add_ref(self, obj)
    cpdef close(self)
    cdef bint _is_dead(self)
    cdef int _check_open(self) except -1
    cdef int _check_mapped(self, str action) except -1
    cdef _create(self, Context context, v.ibv_alloc_dm_attr *attr,
                 mem.mlx5dv_alloc_dm_attr *mlx5_attr,
                 uint32_t handle)
    cdef _release_children(self)
    cdef void _unmap(self)
    cdef int _release(self)

cdef class Mlx5DMOpAddr(PyverbsCM):
    cdef Mlx5DM dm
    cdef Lifetime life
    cdef void *address
    cdef void *mapping
    cdef size_t mapping_length
    cdef size_t reachable
    cdef unsigned int operation
    cdef unsigned int width_bits
    cpdef close(self)
    cdef int _access(self, void *host, size_t length, object offset, bint store) except -1
