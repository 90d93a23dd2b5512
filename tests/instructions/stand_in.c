/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* Answers the calls of libibverbs and libmlx5 that making and closing an object comes down to, at
 * once and without a device, so that what is counted around them is the Python classes' own. For
 * counting only: it is preloaded by counted.py and by nothing else.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>
#include <valgrind/callgrind.h>

enum { DM_LENGTH = 4096 };

/* The memory on a page of its own, as libmlx5 maps it. */
struct stand_in_dm {
	uint64_t memory[DM_LENGTH / 8];
	struct ibv_dm dm;
};

static struct stand_in_dm *container(struct ibv_dm *dm)
{
	return (struct stand_in_dm *)((char *)dm - offsetof(struct stand_in_dm, dm));
}

static struct ibv_device device = { .name = "mlx5_0", .dev_name = "uverbs0" };
static struct ibv_device *devices[] = { &device, NULL };

struct ibv_device **ibv_get_device_list(int *count)
{
	if (count)
		*count = 1;
	return devices;
}

void ibv_free_device_list(struct ibv_device **list)
{
	(void)list;
}

const char *ibv_get_device_name(struct ibv_device *which)
{
	return which->name;
}

static int query_device_ex(struct ibv_context *context, const struct ibv_query_device_ex_input *in,
			   struct ibv_device_attr_ex *attr, size_t length)
{
	(void)context; (void)in;
	memset(attr, 0, length);
	attr->max_dm_size = DM_LENGTH;
	return 0;
}

static int to_dm(struct ibv_dm *dm, uint64_t offset, const void *host, size_t length)
{
	memcpy((char *)container(dm)->memory + offset, host, length);
	return 0;
}

static int from_dm(void *host, struct ibv_dm *dm, uint64_t offset, size_t length)
{
	memcpy(host, (char *)container(dm)->memory + offset, length);
	return 0;
}

static struct ibv_dm *alloc_dm(struct ibv_context *context, struct ibv_alloc_dm_attr *attr)
{
	struct stand_in_dm *dm = aligned_alloc(DM_LENGTH, 2 * DM_LENGTH);

	(void)attr;
	dm->dm = (struct ibv_dm){ .context = context, .handle = 1,
				  .memcpy_to_dm = to_dm, .memcpy_from_dm = from_dm };
	return &dm->dm;
}

static int free_dm(struct ibv_dm *dm)
{
	free(container(dm));
	return 0;
}

static struct ibv_mr *reg_dm_mr(struct ibv_pd *pd, struct ibv_dm *dm, uint64_t offset,
				size_t length, unsigned int access)
{
	struct ibv_mr *mr = calloc(1, sizeof(*mr));

	(void)offset; (void)access; (void)dm;
	mr->context = pd->context;
	mr->pd = pd;
	mr->length = length;
	return mr;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	(void)addr; (void)iova;
	return reg_dm_mr(pd, NULL, 0, length, access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	free(mr);
	return 0;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	pd->context = context;
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	free(pd);
	return 0;
}

struct ibv_context *ibv_open_device(struct ibv_device *which)
{
	struct verbs_context *verbs = calloc(1, sizeof(*verbs));

	verbs->sz = sizeof(*verbs);
	verbs->query_device_ex = query_device_ex;
	verbs->alloc_dm = alloc_dm;
	verbs->free_dm = free_dm;
	verbs->reg_dm_mr = reg_dm_mr;
	verbs->context.device = which;
	verbs->context.cmd_fd = -1;
	verbs->context.async_fd = -1;
	verbs->context.abi_compat = __VERBS_ABI_IS_EXTENDED;
	return &verbs->context;
}

bool mlx5dv_is_supported(struct ibv_device *which)
{
	(void)which;
	return true;
}

struct ibv_context *mlx5dv_open_device(struct ibv_device *which, struct mlx5dv_context_attr *attr)
{
	(void)attr;
	return ibv_open_device(which);
}

int ibv_close_device(struct ibv_context *context)
{
	free(verbs_get_ctx(context));
	return 0;
}

struct ibv_dm *mlx5dv_alloc_dm(struct ibv_context *context, struct ibv_alloc_dm_attr *attr,
			       struct mlx5dv_alloc_dm_attr *mlx5_attr)
{
	(void)mlx5_attr;
	return alloc_dm(context, attr);
}

int mlx5dv_init_obj(struct mlx5dv_obj *obj, uint64_t type)
{
	(void)type;
	obj->dm.out->buf = container(obj->dm.in)->memory;
	obj->dm.out->length = DM_LENGTH;
	obj->dm.out->remote_va = 0;
	return 0;
}

struct mlx5dv_devx_umem *mlx5dv_devx_umem_reg(struct ibv_context *context, void *addr, size_t size,
					      uint32_t access)
{
	struct mlx5dv_devx_umem *umem = malloc(sizeof(*umem));

	(void)context; (void)addr; (void)size; (void)access;
	umem->umem_id = 1;
	return umem;
}

struct mlx5dv_devx_umem *mlx5dv_devx_umem_reg_ex(struct ibv_context *context,
						 struct mlx5dv_devx_umem_in *in)
{
	return mlx5dv_devx_umem_reg(context, in->addr, in->size, in->access);
}

int mlx5dv_devx_umem_dereg(struct mlx5dv_devx_umem *umem)
{
	free(umem);
	return 0;
}

/* What the counting program calls around what is to be counted. */
void stand_in_begin(void)
{
	CALLGRIND_ZERO_STATS;
}

void stand_in_end(const char *what)
{
	CALLGRIND_DUMP_STATS_AT(what);
}
