/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
 *
 * What DEVX answers later: queries of an object that were given to the device without waiting, and
 * events of the port.
 *
 *     devx_async DEVICE
 *
 * prints a line for each answer and each event, and ends after two events. Fields of the commands
 * are written by hand: big-endian, opcode first, the number of a counter set in the last byte of
 * its query and in byte 11 of the answer that made it.
 */
#include <infiniband/mlx5dv.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ALLOC_Q_COUNTER = 0x771,
	QUERY_Q_COUNTER = 0x773,
	QUERY_OUT = 0x100,
	PORT_CHANGE = 9,
	EQE = 64,
	QUERIES = 3,
	PATIENCE_MS = 120000,
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct ibv_context *open_devx(const char *name)
{
	struct mlx5dv_context_attr attr = { .flags = MLX5DV_CONTEXT_FLAGS_DEVX };
	struct ibv_device **list = ibv_get_device_list(NULL), **d;
	struct ibv_context *ctx = NULL;

	for (d = list; d && *d; d++)
		if (!strcmp(ibv_get_device_name(*d), name))
			ctx = mlx5dv_open_device(*d, &attr);
	if (!ctx)
		die("open");
	ibv_free_device_list(list);
	return ctx;
}

static int ready(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, ms);

	if (n < 0)
		die("poll");
	return n;
}

static void queries(struct ibv_context *ctx)
{
	uint8_t in[16] = { ALLOC_Q_COUNTER >> 8, ALLOC_Q_COUNTER & 0xff }, out[16] = { 0 };
	uint8_t query[32] = { QUERY_Q_COUNTER >> 8, QUERY_Q_COUNTER & 0xff };
	uint64_t buf[(sizeof(struct mlx5dv_devx_async_cmd_hdr) + QUERY_OUT) / 8];
	struct mlx5dv_devx_async_cmd_hdr *answer = (void *)buf;
	struct mlx5dv_devx_cmd_comp *comp = mlx5dv_devx_create_cmd_comp(ctx);
	struct mlx5dv_devx_obj *obj = mlx5dv_devx_obj_create(ctx, in, sizeof(in), out, sizeof(out));
	int k;

	if (!comp || !obj)
		die("counter set");
	query[31] = out[11];
	for (k = 0; k < QUERIES; k++)
		if (mlx5dv_devx_obj_query_async(obj, query, sizeof(query), QUERY_OUT, 100 + k,
						comp))
			die("query");
	printf("waiting %d\n", !ready(comp->fd, 0));
	fflush(stdout);
	for (k = 0; k < QUERIES; k++) {
		if (!ready(comp->fd, PATIENCE_MS) ||
		    mlx5dv_devx_get_async_cmd_comp(comp, answer, sizeof(buf)))
			die("answer");
		printf("answer %llu status %d\n", (unsigned long long)answer->wr_id,
		       answer->out_data[0]);
	}
	if (mlx5dv_devx_obj_destroy(obj))
		die("destroy");
	mlx5dv_devx_destroy_cmd_comp(comp);
}

static void events(struct ibv_context *ctx)
{
	uint64_t buf[(sizeof(struct mlx5dv_devx_async_event_hdr) + EQE) / 8];
	struct mlx5dv_devx_async_event_hdr *event = (void *)buf;
	struct mlx5dv_devx_event_channel *channel = mlx5dv_devx_create_event_channel(ctx, 0);
	uint16_t numbers[] = { PORT_CHANGE };
	int k;

	if (!channel || mlx5dv_devx_subscribe_devx_event(channel, NULL, sizeof(numbers), numbers,
							 0x5eed))
		die("subscribe");
	printf("subscribed\n");
	fflush(stdout);
	for (k = 0; k < 2; k++) {
		if (!ready(channel->fd, PATIENCE_MS) ||
		    mlx5dv_devx_get_event(channel, event, sizeof(buf)) < (ssize_t)sizeof(buf))
			die("event");
		printf("event %#llx type %d subtype %d\n", (unsigned long long)event->cookie,
		       event->out_data[1], event->out_data[3]);
		fflush(stdout);
	}
	mlx5dv_devx_destroy_event_channel(channel);
}

int main(int argc, char **argv)
{
	struct ibv_context *ctx = open_devx(argc > 1 ? argv[1] : "mlx5_0");

	queries(ctx);
	events(ctx);
	return ibv_close_device(ctx) ? 1 : 0;
}
