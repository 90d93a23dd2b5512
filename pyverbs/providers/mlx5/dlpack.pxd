# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

"""
The binary interface of DLPack, as far as memory of the host is concerned: what a capsule from __dlpack__() points to.
Version 1 put a version and flags before the tensor; older producers give the plain struct.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from *:
    """
    #include <stdint.h>

    enum mlx5_dlpack_device { MLX5_DLPACK_CPU = 1, MLX5_DLPACK_CUDA_HOST = 3, MLX5_DLPACK_ROCM_HOST = 11 };
    enum mlx5_dlpack_flag { MLX5_DLPACK_READ_ONLY = 1 };

    struct mlx5_dlpack_tensor {
        void *data;
        int32_t device_type;
        int32_t device_id;
        int32_t ndim;
        uint8_t type_code;
        uint8_t type_bits;
        uint16_t type_lanes;
        int64_t *shape;         /* in elements, as are the strides; no strides: C-contiguous */
        int64_t *strides;
        uint64_t byte_offset;
    };

    struct mlx5_dlpack_managed {
        struct mlx5_dlpack_tensor tensor;
        void *manager;
        void (*deleter)(struct mlx5_dlpack_managed *self);
    };

    struct mlx5_dlpack_versioned {
        uint32_t major;
        uint32_t minor;
        void *manager;
        void (*deleter)(struct mlx5_dlpack_versioned *self);
        uint64_t flags;
        struct mlx5_dlpack_tensor tensor;
    };
    """
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
        void (*deleter)(mlx5_dlpack_managed *managed) noexcept

    cdef struct mlx5_dlpack_versioned:
        uint32_t major
        void (*deleter)(mlx5_dlpack_versioned *managed) noexcept
        uint64_t flags
        mlx5_dlpack_tensor tensor
