# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from libc.stdint cimport uint32_t, uint64_t

from pyverbs.base cimport PyverbsCM
from pyverbs.device cimport Context
cimport pyverbs.libibverbs as v
cimport pyverbs.providers.mlx5.libmlx5 as dv
from pyverbs.providers.mlx5.dlpack cimport mlx5_dlpack_managed, mlx5_dlpack_versioned
from pyverbs.providers.mlx5.object_gate cimport mlx5_gate


cdef class UmemMemory:
    cdef void *start
    cdef size_t size
    cdef void *mapping
    cdef size_t mapping_length
    cdef Py_buffer view
    cdef mlx5_dlpack_versioned *versioned
    cdef mlx5_dlpack_managed *managed
    cdef object exporter
    cdef bint borrowed
    cdef bint readonly
    cdef Py_ssize_t shape
    cdef Py_ssize_t stride
    cdef _map(self, size_t size, size_t alignment)
    cdef _borrow(self, object exporter, bint writable)
    cdef _borrow_tensor(self, object exporter, bint writable)
    cdef _lend(self, object keeper, Py_buffer *view, int flags)

cdef class Mlx5DevxUmem(PyverbsCM):
    cdef mlx5_gate gate
    cdef dv.mlx5dv_devx_umem *umem
    cdef v.ibv_context *owner
    cdef Context context
    cdef UmemMemory memory
    cdef uint32_t number
    cdef size_t registered
    cdef uint64_t start
    cdef uint32_t access_flags
    cdef uint64_t bitmap
    cdef bint closed_early
    cdef bint imported
    cdef bint is_dmabuf
    cpdef close(self)
    cdef bint _context_gone(self)
    cdef _check_open(self)
    cdef _track(self, Context context)
    cdef _untrack(self, Context context)
    cdef bint _begin_create(self, Context context, v.ibv_context *owner) except -1
    cdef _register(self, Context context, dv.mlx5dv_devx_umem_in *umem_in, bint extended, UmemMemory memory)
    cdef _raise_refused(self, dv.mlx5dv_devx_umem_in *umem_in, int err, bint no_devx)
    cdef _import(self, Context context, bytes data)
    cdef int _release(self)
