# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from pyverbs.providers.mlx5.dlpack cimport mlx5_dlpack_managed, mlx5_dlpack_versioned


# Mapped for a umem.
cdef class UmemMemory:
    cdef void *start
    cdef size_t size
    cdef bint readonly
    cdef int _map(self, size_t size, size_t alignment) except -1
    cdef int _lend(self, object keeper, Py_buffer *view, int flags) except -1


# Borrowed for a umem from an exporter of the buffer protocol or of DLPack.
cdef class BorrowedMemory(UmemMemory):
    cdef Py_buffer view
    cdef bint viewed
    cdef mlx5_dlpack_versioned *versioned
    cdef mlx5_dlpack_managed *managed
    cdef object exporter
    cdef int _borrow(self, object exporter, bint writable) except -1
    cdef int _borrow_tensor(self, object exporter, bint writable) except -1
