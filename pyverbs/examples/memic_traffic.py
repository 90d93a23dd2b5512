# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
RDMA traffic from and to MEMIC: a WRITE from host memory into memory on the card, and a READ back
out of it.

    memic_traffic.py [DEVICE]

The payload of the target never crosses PCIe: it stays on the card until somebody reads it.
"""
import sys

import pyverbs.device as d
from choose_device import choose_device
from pyverbs.cq import CQ
from pyverbs.libibverbs_enums import ibv_wr_opcode
from pyverbs.mr import MR
from pyverbs.pd import PD
from reliable_pair import LENGTH, REMOTE, complete, connected_pair

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM


def main() -> int:
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
