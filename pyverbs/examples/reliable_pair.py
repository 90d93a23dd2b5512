# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Two connected queue pairs on one port, for the examples that move data."""
import sys
import time
from typing import List

from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.libibverbs_enums import (
    ibv_access_flags,
    ibv_qp_type,
    ibv_send_flags,
    ibv_wc_status,
)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

PORT = 1
LENGTH = 4096
REMOTE = (ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE |
          ibv_access_flags.IBV_ACCESS_REMOTE_READ)


def connected_pair(ctx: Context, pd: PD, cq: CQ) -> List[QP]:
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


def complete(qp: QP, cq: CQ, opcode: int, host: MR, rkey: int, address: int) -> None:
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
                sys.exit(f'completion with status {completions[0].status}')
            return
    sys.exit('no completion for 10 s')
