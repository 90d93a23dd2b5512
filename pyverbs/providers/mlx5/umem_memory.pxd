# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from pyverbs.providers.mlx5.dlpack cimport mlx5_dlpack_managed, mlx5_dlpack_versioned


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
