# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A queue pair that sends Ethernet frames."""
from port_address import gid_and_mac
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.libibverbs_enums import ibv_access_flags, ibv_qp_type, ibv_send_flags
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

FRAME, FRAMES = 60, 8


class Sender:
    """
    Sends frames to the port's own address.
    :param ctx: Not the receiver's context: Linux lets a port's own frames back to it when more
                than one context is open
    """

    def __init__(self, ctx: Context) -> None:
        _gid, self.own = gid_and_mac(ctx)
        self.pd, self.cq = PD(ctx), CQ(ctx, FRAMES)
        self.mr = MR(self.pd, FRAME, ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
        self.qp = QP(self.pd, QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RAW_PACKET, scq=self.cq,
                                         rcq=self.cq, cap=QPCap()), QPAttr())

    def send(self, source: bytes, ethertype: int) -> bytes:
        """Send a frame from an address and wait until it is out; its head."""
        head = self.own + source + ethertype.to_bytes(2, 'big')
        self.mr.write(head, len(head))
        self.qp.post_send(SendWR(num_sge=1, sg=[SGE(self.mr.buf, FRAME, self.mr.lkey)],
                                 send_flags=ibv_send_flags.IBV_SEND_SIGNALED))
        while not self.cq.poll()[0]:
            pass
        return head
