# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

"""
The binary interface of DLPack, as far as memory of the host is concerned: what a capsule from
__dlpack__() points to. Version 1 put a version and flags before the tensor; older producers give
the plain struct.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from 'dlpack.h':
    enum: MLX5_DLPACK_CPU
    enum: MLX5_DLPACK_CUDA_HOST
    enum: MLX5_DLPACK_ROCM_HOST
    enum: MLX5_DLPACK_READ_ONLY

    cdef struct mlx5_dlpack_tensor:
        void *data
        int32_t device_type
        int32_t ndim
        uint8_t type_bits
        uint16_t type_lanes
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset

    cdef struct mlx5_dlpack_managed:
        mlx5_dlpack_tensor tensor
        void (*deleter)(mlx5_dlpack_managed *managed)

    cdef struct mlx5_dlpack_versioned:
        uint32_t major
        void (*deleter)(mlx5_dlpack_versioned *managed)
        uint64_t flags
        mlx5_dlpack_tensor tensor
