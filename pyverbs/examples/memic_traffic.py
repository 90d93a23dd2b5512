# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" RDMA traffic from and to MEMIC: a WRITE from host memory into memory on the card, and a READ
back out of it.

    memic_traffic.py [DEVICE]

The payload of the target never crosses PCIe: it stays on the card until somebody reads it.
"""
import sys
import time

import pyverbs.device as d
from choose_device import choose_device
from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.libibverbs_enums import (
    ibv_access_flags,
    ibv_qp_type,
    ibv_send_flags,
    ibv_wc_status,
    ibv_wr_opcode,
)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM

PORT = 1
LENGTH = 4096
REMOTE = (ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE |
          ibv_access_flags.IBV_ACCESS_REMOTE_READ)


def connected_pair(ctx, pd, cq):
    """Two reliable queue pairs, each the other's peer, on the same port."""
    pair = [
        QP(pd, QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RC, scq=cq, rcq=cq, cap=QPCap()))
        for _ in range(2)]
    port = ctx.query_port(PORT)
    for qp, peer in (pair, pair[::-1]):
        attr = QPAttr(port_num=PORT)
        attr.dest_qp_num = peer.qp_num
        attr.path_mtu = port.active_mtu
        attr.qp_access_flags = REMOTE
        attr.max_rd_atomic = attr.max_dest_rd_atomic = 1
        attr.timeout, attr.retry_cnt, attr.rnr_retry, attr.min_rnr_timer = 14, 7, 7, 12
        # LIDs are InfiniBand's; on Ethernet the GID says where to.
        route = GlobalRoute(dgid=ctx.query_gid(PORT, 0), sgid_index=0)
        attr.ah_attr = AHAttr(dlid=port.lid, port_num=PORT, is_global=int(not port.lid), gr=route)
        qp.to_rts(attr)
    return pair


def complete(qp, cq, opcode, host, rkey, address):
    """Post one work request and wait for its completion."""
    wr = SendWR(num_sge=1, sg=[SGE(host.buf, LENGTH, host.lkey)], opcode=opcode,
                send_flags=ibv_send_flags.IBV_SEND_SIGNALED)
    wr.set_wr_rdma(rkey, address)
    qp.post_send(wr)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        count, completions = cq.poll()
        if count:
            if completions[0].status != ibv_wc_status.IBV_WC_SUCCESS:
                sys.exit(f'memic_traffic: completion with status {completions[0].status}')
            return
    sys.exit('memic_traffic: no completion for 10 s')


def main():
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    data = bytes(i * 7 & 0xff for i in range(LENGTH))
    with d.Context(name=name) as ctx, PD(ctx) as pd, CQ(ctx, 16) as cq:
        qp, _peer = connected_pair(ctx, pd, cq)
        with Mlx5DM(ctx, d.AllocDmAttr(length=LENGTH)) as dm, MR(pd, LENGTH, REMOTE) as host:
            # MRs on device memory are addressed from 0.
            with dm.reg_mr(pd, REMOTE) as memic:
                host.write(data, LENGTH)
                complete(qp, cq, ibv_wr_opcode.IBV_WR_RDMA_WRITE, host, memic.rkey, 0)
                print(f'RDMA WRITE of {LENGTH} bytes into {dm!r}')
                if dm.copy_from_dm(0, LENGTH) != data:
                    sys.exit('memic_traffic: MEMIC does not hold what was written')
                dm.copy_to_dm(0, data[::-1])
                complete(qp, cq, ibv_wr_opcode.IBV_WR_RDMA_READ, host, memic.rkey, 0)
                print(f'RDMA READ of {LENGTH} bytes out of it')
                if host.read(LENGTH, 0) != data[::-1]:
                    sys.exit('memic_traffic: the READ brought something else')
    print('same bytes both ways')
    return 0


if __name__ == '__main__':
    sys.exit(main())
