/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
 *
 * Verbs messages a second through driver and device: two connected RC queue pairs of one process,
 * messages posted singly or in batches with one doorbell each, every one signalled, and both
 * completion queues polled until all are there.
 *
 *     verbs_messages [seconds a row]      prints a line a row: operation, bytes, batch, messages,
 *                                         seconds
 */
#include <infiniband/verbs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 64

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static struct ibv_port_attr port;
static union ibv_gid gid;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static struct ibv_qp *make(struct ibv_cq *cq)
{
	struct ibv_qp_init_attr init = {
		.send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC, .sq_sig_all = 1,
		.cap = { .max_send_wr = BATCH, .max_recv_wr = 2 * BATCH, .max_send_sge = 1,
			.max_recv_sge = 1 },
	};
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT, .port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE,
	};
	struct ibv_qp *qp = ibv_create_qp(pd, &init);

	if (!qp || ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				 IBV_QP_ACCESS_FLAGS))
		die("queue pair");
	return qp;
}

static void join(struct ibv_qp *qp, uint32_t peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .dest_qp_num = peer,
		.max_dest_rd_atomic = 1, .min_rnr_timer = 12,
		.ah_attr = { .dlid = port.lid, .port_num = 1 },
		.timeout = 14, .retry_cnt = 7, .rnr_retry = 7, .max_rd_atomic = 1,
	};

	if (port.link_layer == IBV_LINK_LAYER_ETHERNET) {
		attr.ah_attr.is_global = 1;
		attr.ah_attr.grh.dgid = gid;
		attr.ah_attr.grh.hop_limit = 1;
	}
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			  IBV_QP_RQ_PSN |
			  IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		die("to RTR");
	attr.qp_state = IBV_QPS_RTS;
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			  IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
			  IBV_QP_MAX_QP_RD_ATOMIC))
		die("to RTS");
}

static void drain(struct ibv_cq *cq, int n)
{
	struct ibv_wc wc[BATCH];

	while (n) {
		int got = ibv_poll_cq(cq, BATCH, wc);

		if (got < 0)
			die("poll");
		for (int k = 0; k < got; k++)
			if (wc[k].status) {
				fprintf(stderr, "completion: %s\n",
					ibv_wc_status_str(wc[k].status));
				exit(1);
			}
		n -= got;
	}
}

static void row(const char *name, enum ibv_wr_opcode op, uint32_t size, int batch, double seconds)
{
	struct ibv_cq *scq = ibv_create_cq(ctx, 2 * BATCH, NULL, NULL, 0);
	struct ibv_cq *rcq = ibv_create_cq(ctx, 2 * BATCH, NULL, NULL, 0);
	char *buf = aligned_alloc(4096, 2 * 65536);
	struct ibv_mr *mr = ibv_reg_mr(pd, buf, 2 * 65536, IBV_ACCESS_LOCAL_WRITE |
				       IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE);
	struct ibv_send_wr send[BATCH], *bad_send;
	struct ibv_recv_wr recv[BATCH], *bad_recv;
	struct ibv_qp *a, *b;
	struct ibv_sge from, to;
	long done = 0;
	double start, end;

	if (!scq || !rcq || !mr)
		die(name);
	/* No byte is where it is to arrive already. */
	for (int k = 0; k < 65536; k++) {
		buf[k] = 7 * k + k / 256;
		buf[65536 + k] = ~buf[k];
	}
	a = make(scq);
	b = make(rcq);
	join(a, b->qp_num);
	join(b, a->qp_num);
	from = (struct ibv_sge){ .addr = (uintptr_t)buf, .length = size, .lkey = mr->lkey };
	to = (struct ibv_sge){ .addr = (uintptr_t)buf + 65536, .length = size, .lkey = mr->lkey };
	memset(send, 0, sizeof(send));
	memset(recv, 0, sizeof(recv));
	for (int k = 0; k < batch; k++) {
		send[k] = (struct ibv_send_wr){ .next = k + 1 < batch ? &send[k + 1] : NULL,
					       .sg_list = &from, .num_sge = 1, .opcode = op };
		send[k].wr.rdma.remote_addr = to.addr;
		send[k].wr.rdma.rkey = mr->rkey;
		recv[k] = (struct ibv_recv_wr){ .next = k + 1 < batch ? &recv[k + 1] : NULL,
					       .sg_list = &to, .num_sge = 1 };
	}
	start = end = now();
	while (end - start < seconds) {
		buf[0] = done / batch;
		if (op == IBV_WR_SEND && ibv_post_recv(b, recv, &bad_recv))
			die("receive");
		if (ibv_post_send(a, send, &bad_send))
			die("send");
		drain(scq, batch);
		if (op == IBV_WR_SEND)
			drain(rcq, batch);
		done += batch;
		end = now();
	}
	if (memcmp(buf, buf + 65536, size)) {
		fprintf(stderr, "%s: other data arrived\n", name);
		exit(1);
	}
	printf("%s %u %d %ld %.3f\n", name, size, batch, done, end - start);
	fflush(stdout);
	ibv_destroy_qp(a);
	ibv_destroy_qp(b);
	ibv_dereg_mr(mr);
	ibv_destroy_cq(scq);
	ibv_destroy_cq(rcq);
	free(buf);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 2;
	struct ibv_device **list = ibv_get_device_list(NULL);

	if (!list || !*list)
		die("no RDMA device");
	ctx = ibv_open_device(*list);
	if (!ctx || ibv_query_port(ctx, 1, &port) || ibv_query_gid(ctx, 1, 0, &gid))
		die("device");
	pd = ibv_alloc_pd(ctx);
	if (!pd)
		die("protection domain");
	row("send", IBV_WR_SEND, 4096, BATCH, seconds);
	row("send", IBV_WR_SEND, 64, BATCH, seconds);
	row("write", IBV_WR_RDMA_WRITE, 4096, BATCH, seconds);
	row("read", IBV_WR_RDMA_READ, 4096, BATCH, seconds);
	row("send", IBV_WR_SEND, 4096, 1, seconds);
	row("write", IBV_WR_RDMA_WRITE, 64, 1, seconds);
	return 0;
}
