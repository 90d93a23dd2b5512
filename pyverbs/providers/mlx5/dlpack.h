/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* The binary interface of DLPack, as far as memory of the host is concerned. */
#ifndef MLX5_DLPACK_H
#define MLX5_DLPACK_H

#include <stdint.h>

enum mlx5_dlpack_device {
	MLX5_DLPACK_CPU = 1,
	MLX5_DLPACK_CUDA_HOST = 3,
	MLX5_DLPACK_ROCM_HOST = 11,
};
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

#endif
