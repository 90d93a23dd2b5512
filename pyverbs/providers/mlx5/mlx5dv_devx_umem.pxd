# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from libc.stdint cimport uint32_t, uint64_t

from pyverbs.base cimport PyverbsCM
from pyverbs.device cimport Context
cimport pyverbs.libibverbs as v
cimport pyverbs.providers.mlx5.libmlx5 as dv
from pyverbs.providers.mlx5.lifetime cimport Lifetime
from pyverbs.providers.mlx5.umem_memory cimport UmemMemory


cdef class Mlx5DevxUmem(PyverbsCM):
    cdef Lifetime life
    cdef dv.mlx5dv_devx_umem *umem
    cdef UmemMemory memory
    cdef uint32_t number
    cdef size_t registered
    cdef uint64_t start
    cdef object noted
    cdef uint32_t access_flags
    cdef uint64_t bitmap
    cdef bint imported
    cdef bint is_dmabuf
    cpdef close(self)
    cdef _register(self, Context context, dv.mlx5dv_devx_umem_in *umem_in, bint extended,
                   UmemMemory memory)
    cdef _raise_refused(self, dv.mlx5dv_devx_umem_in *umem_in, int err, bint no_devx)
    cdef _import(self, Context context, bytes data)
    cdef int _release(self)
