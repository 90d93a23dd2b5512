/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* What mlx5dv_dm.pyx needs of C. */
#ifndef MLX5_DM_ACCESS_H
#define MLX5_DM_ACCESS_H

#include "mlx5_mem_features.h"
#include <stdlib.h>
#include <unistd.h>

/* What a mapping of so many bytes takes. */
static size_t mlx5_dm_whole_pages(size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (length + page - 1) & ~(page - 1);
}

static int mlx5_dm_refuse_to(struct ibv_dm *dm, uint64_t offset, const void *host, size_t length)
{
	(void)dm; (void)offset; (void)host; (void)length;
	return EOPNOTSUPP;
}

static int mlx5_dm_refuse_from(void *host, struct ibv_dm *dm, uint64_t offset, size_t length)
{
	(void)host; (void)dm; (void)offset; (void)length;
	return EOPNOTSUPP;
}

/* What a closed Mlx5DM points at. pyverbs' own classes, DMMR for one, use the pointer of a DM
 * without asking whether it is open; the kernel knows no object of this number, so they are
 * refused instead of following NULL. The number is where libibverbs' providers look for it too,
 * behind the public structure. */
static struct {
	struct ibv_dm dm;
	uint32_t handle;
	char zero[256];
} mlx5_dm_tombstone = {
	.dm = {
		.memcpy_to_dm = mlx5_dm_refuse_to,
		.memcpy_from_dm = mlx5_dm_refuse_from,
		.handle = UINT32_MAX,
	},
	.handle = UINT32_MAX,
};

static inline struct ibv_dm *mlx5_dm_closed(void)
{
	return &mlx5_dm_tombstone.dm;
}

/* libmlx5 leaves the copy functions of SW ICM NULL, and libibverbs jumps through them. */
static inline int mlx5_dm_describe(struct ibv_dm *dm, void **buf, uint64_t *length,
				   uint64_t *remote_va)
{
	struct mlx5dv_dm out = { .comp_mask = MLX5DV_DM_MASK_REMOTE_VA };
	struct mlx5dv_obj obj = { .dm = { .in = dm, .out = &out } };
	int rc = mlx5dv_init_obj(&obj, MLX5DV_OBJ_DM);

	if (rc)
		return rc;
	if (!dm->memcpy_to_dm)
		dm->memcpy_to_dm = mlx5_dm_refuse_to;
	if (!dm->memcpy_from_dm)
		dm->memcpy_from_dm = mlx5_dm_refuse_from;
	*buf = out.buf;
	*length = out.length;
	*remote_va = out.remote_va;
	return 0;
}

/* An operation address carries out an operation per access, so each must be exactly one access
 * of that width. */
static inline void mlx5_dm_access(volatile void *dm, void *host, size_t width, int store)
{
	switch (width) {
	case 1:
		if (store) *(volatile uint8_t *)dm = *(uint8_t *)host;
		else *(uint8_t *)host = *(volatile uint8_t *)dm;
		break;
	case 2:
		if (store) *(volatile uint16_t *)dm = *(uint16_t *)host;
		else *(uint16_t *)host = *(volatile uint16_t *)dm;
		break;
	case 4:
		if (store) *(volatile uint32_t *)dm = *(uint32_t *)host;
		else *(uint32_t *)host = *(volatile uint32_t *)dm;
		break;
	default:
		if (store) *(volatile uint64_t *)dm = *(uint64_t *)host;
		else *(uint64_t *)host = *(volatile uint64_t *)dm;
	}
}

enum { MLX5_HCA_CAP_LENGTH = 16 + 4096 };

/* QUERY_HCA_CAP, current values of a page: its number is in the last two bytes of the head,
 * above bit 0. Returns 0 or an errno; the first byte of out is the firmware's status. */
static inline int mlx5_dm_query_hca_cap(struct ibv_context *context, unsigned int page,
					uint8_t *out)
{
	const uint8_t in[16] = { 0x01, 0x00, [6] = page >> 7, [7] = page << 1 | 1 };

	return mlx5dv_devx_general_cmd(context, in, sizeof(in), out, MLX5_HCA_CAP_LENGTH);
}

/* The longest MEMIC that libmlx5 takes, or an errno. */
static inline int mlx5_dm_max_length(struct ibv_context *context, uint64_t *length)
{
	struct ibv_device_attr_ex attr = {};
	int rc = ibv_query_device_ex(context, NULL, &attr);

	*length = attr.max_dm_size;
	return rc;
}

/* Widths in bytes, one bit each, that an operation takes; 0 where the device does not tell or
 * cannot be asked. Where they are in the device memory capabilities is in mlx5dv_dm_caps.py,
 * too. */
static inline uint8_t mlx5_dm_op_widths(struct ibv_context *context, uint8_t op)
{
	uint8_t *out = op > 1 ? NULL : calloc(1, MLX5_HCA_CAP_LENGTH);
	uint8_t widths = 0;

	if (out && !mlx5_dm_query_hca_cap(context, 0xf, out) && !out[0])
		widths = out[16 + (op ? 6 : 4)];
	free(out);
	return widths;
}

#endif
