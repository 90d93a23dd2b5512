# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A receive queue that steering can send frames to."""
import sys
import time
from typing import List

from devx_object import create
from pyverbs.cq import CQ
from pyverbs.libibverbs_enums import (
    ibv_access_flags,
    ibv_wq_attr_mask,
    ibv_wq_state,
)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context
from pyverbs.wq import WQ, WQAttr, WQInitAttr
from pyverbs.wr import SGE, RecvWR

HEAD, FRAME, FRAMES = 14, 2048, 8
LOCAL_WRITE = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE


class ReceiveQueue:
    """A receive queue and the TIR by which steering finds it."""

    def __init__(self, ctx: Mlx5Context, pd: PD) -> None:
        self.cq, self.mr = CQ(ctx, FRAMES), MR(pd, FRAME * FRAMES, LOCAL_WRITE)
        self.wq = WQ(ctx, WQInitAttr(wq_pd=pd, wq_cq=self.cq, max_wr=FRAMES))
        self.wq.modify(WQAttr(attr_mask=ibv_wq_attr_mask.IBV_WQ_ATTR_STATE,
                              wq_state=ibv_wq_state.IBV_WQS_RDY))
        for k in range(FRAMES):
            self.wq.post_recv(RecvWR(num_sge=1, wr_id=k, sg=[
                SGE(self.mr.buf + k * FRAME, FRAME, self.mr.lkey)]))
        self.domain, told = create(ctx, 'ALLOC_TRANSPORT_DOMAIN', {})
        self.tir, told = create(ctx, 'CREATE_TIR', {
            'ctx.inline_rqn': self.wq.wqn, 'ctx.transport_domain': told['transport_domain']})
        #: ICM address of the TIR.
        self.address = (told['icm_address_63_40'] << 40 | told['icm_address_39_32'] << 32 |
                        told['icm_address_31_0'])

    def frame(self) -> bytes:
        """The head of the next frame that arrived; nothing if there is none."""
        count, completions = self.cq.poll()
        return self.mr.read(HEAD, completions[0].wr_id * FRAME) if count else b''

    def close(self) -> None:
        """What uses a thing goes first."""
        for obj in (self.tir, self.domain, self.wq, self.cq, self.mr):
            obj.close()


def arrival(queues: List[ReceiveQueue], head: bytes) -> int:
    """Wait for a frame with this head: the number of the queue that it gets to."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for k, queue in enumerate(queues):
            if queue.frame() == head:
                return k
    sys.exit('no frame for 10 s')
