# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""RDMA traffic for the tests of device memory and umems: a reliable connection of a device with
itself."""
import time

from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.libibverbs_enums import ibv_access_flags, ibv_qp_type, ibv_send_flags, ibv_wr_opcode
from pyverbs.mr import MR
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

PORT = 1
#: Seconds after which a completion counts as lost.
PATIENCE = 120
REMOTE = (ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE |
          ibv_access_flags.IBV_ACCESS_REMOTE_READ)


class Loopback:
    """Two connected queue pairs and host memory; a context manager that closes what it made."""

    def __init__(self, ctx, pd, length):
        """
        :param ctx: Open context of an mlx5 device with an active port
        :param pd: Protection domain of it that the keys belong to
        :param length: Bytes of host memory
        """
        self.length = length
        self.cq = CQ(ctx, 16)
        self.host = MR(pd, length, REMOTE)
        self.pair = self._connected(ctx, pd)

    def _connected(self, ctx, pd):
        pair = [
            QP(pd, QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RC, scq=self.cq, rcq=self.cq,
                              cap=QPCap())) for _ in range(2)]
        port = ctx.query_port(PORT)
        for qp, peer in (pair, pair[::-1]):
            attr = QPAttr(port_num=PORT)
            attr.dest_qp_num = peer.qp_num
            attr.path_mtu = port.active_mtu
            attr.qp_access_flags = REMOTE
            attr.max_rd_atomic = attr.max_dest_rd_atomic = 1
            attr.timeout, attr.retry_cnt, attr.rnr_retry, attr.min_rnr_timer = 14, 7, 7, 12
            route = GlobalRoute(dgid=ctx.query_gid(PORT, 0), sgid_index=0)
            # LIDs are InfiniBand's; on Ethernet the GID says where to.
            attr.ah_attr = AHAttr(dlid=port.lid, port_num=PORT, is_global=int(not port.lid),
                                  gr=route)
            qp.to_rts(attr)
        return pair

    def _complete(self, opcode, rkey, address):
        wr = SendWR(num_sge=1, sg=[SGE(self.host.buf, self.length, self.host.lkey)], opcode=opcode,
                    send_flags=ibv_send_flags.IBV_SEND_SIGNALED)
        wr.set_wr_rdma(rkey, address)
        self.pair[0].post_send(wr)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            count, completions = self.cq.poll()
            if count:
                return completions[0].status
        raise TimeoutError(f'no completion for {PATIENCE} s')

    def write(self, rkey, address, data):
        """
        RDMA WRITE of data, as long as the host memory.
        :return: Status of the completion
        """
        self.host.write(data, self.length)
        return self._complete(ibv_wr_opcode.IBV_WR_RDMA_WRITE, rkey, address)

    def read(self, rkey, address):
        """
        RDMA READ of as many bytes as the host memory has.
        :return: Status of the completion, and the bytes
        """
        self.host.write(bytes(self.length), self.length)
        status = self._complete(ibv_wr_opcode.IBV_WR_RDMA_READ, rkey, address)
        return status, self.host.read(self.length, 0)

    def close(self):
        """Close all of it."""
        for obj in (*self.pair, self.host, self.cq):
            obj.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
