/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* The calls that the Python classes stand on, by C alone: what they are compared with. Each does
 * its work times over; 0, or an errno.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>

/* NULL if there is no such device. It stays open until the process ends. */
struct ibv_context *plain_open(const char *name)
{
	struct mlx5dv_context_attr attr = { .flags = MLX5DV_CONTEXT_FLAGS_DEVX };
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = NULL;

	for (int i = 0; list && list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			context = mlx5dv_open_device(list[i], &attr);
	if (list)
		ibv_free_device_list(list);
	return context;
}

int plain_umem(struct ibv_context *context, size_t size, unsigned int access, int times)
{
	void *memory = aligned_alloc(4096, size);
	int rc = memory ? 0 : ENOMEM;

	if (memory)
		memset(memory, 0, size);
	while (!rc && times--) {
		struct mlx5dv_devx_umem *umem = mlx5dv_devx_umem_reg(context, memory, size, access);

		rc = umem ? mlx5dv_devx_umem_dereg(umem) : errno;
	}
	free(memory);
	return rc;
}

static struct ibv_dm *allocate(struct ibv_context *context, size_t size)
{
	struct ibv_alloc_dm_attr attr = { .length = size };
	struct mlx5dv_alloc_dm_attr type = { .type = MLX5DV_DM_TYPE_MEMIC };

	return mlx5dv_alloc_dm(context, &attr, &type);
}

int plain_dm(struct ibv_context *context, size_t size, int times)
{
	int rc = 0;

	while (!rc && times--) {
		struct ibv_dm *dm = allocate(context, size);

		rc = dm ? ibv_free_dm(dm) : errno;
	}
	return rc;
}

struct ibv_dm *plain_dm_alloc(struct ibv_context *context, size_t size)
{
	return allocate(context, size);
}

int plain_copy(struct ibv_dm *dm, char *host, size_t size, int to_dm, int times)
{
	int rc = 0;

	while (!rc && times--)
		rc = to_dm ? ibv_memcpy_to_dm(dm, 0, host, size) :
			     ibv_memcpy_from_dm(host, dm, 0, size);
	return rc;
}
