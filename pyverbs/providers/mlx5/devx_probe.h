/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* What mlx5dv_devx_umem.pyx needs of C. */
#ifndef MLX5_DEVX_PROBE_H
#define MLX5_DEVX_PROBE_H

#include "mlx5_mem_features.h"
#include <errno.h>

/* Whether a refusal is due to the context: asked by QUERY_ISSI, a command that changes nothing and
 * that the kernel, unlike QUERY_HCA_CAP, only takes from a context with DEVX. */
static int mlx5_devx_is_missing(struct ibv_context *context)
{
	const uint8_t in[16] = { 0x01, 0x0a };
	uint8_t out[112];

	return mlx5dv_devx_general_cmd(context, in, sizeof(in), out, sizeof(out)) != 0 &&
	       errno == EINVAL;
}

#endif
