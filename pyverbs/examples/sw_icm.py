# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" SW ICM: what the device has of it, and a steering entry's worth of bytes written into it by
RDMA, as software steering does.

    sw_icm.py [DEVICE]

SW ICM is not mapped: only the device reaches it, by an ICM address in steering objects, or through
an MR. It needs CAP_SYS_RAWIO and CAP_NET_RAW.
"""
import sys

import pyverbs.device as d
from choose_device import choose_device
from pyverbs.cq import CQ
from pyverbs.libibverbs_enums import ibv_wr_opcode
from pyverbs.mr import MR
from pyverbs.pd import PD
from reliable_pair import LENGTH, REMOTE, complete, connected_pair

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5AllocDmAttr, Mlx5DM, mlx5dv_alloc_dm_type

STEERING = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    entry = bytes(i * 11 & 0xff for i in range(64))
    with d.Context(name=name) as ctx, PD(ctx) as pd, CQ(ctx, 16) as cq:
        caps = Mlx5DM.query_caps(ctx)
        print(caps)
        if caps.missing(STEERING):
            print(f'sw_icm: {caps.missing(STEERING)}', file=sys.stderr)
            return 2
        qp, _peer = connected_pair(ctx, pd, cq)
        with Mlx5DM(ctx, d.AllocDmAttr(length=LENGTH), Mlx5AllocDmAttr(STEERING)) as icm, MR(
                pd, LENGTH, REMOTE) as host:
            print(f'ICM address {icm.remote_va:#x}, {icm.length} bytes: {icm!r}')
            with icm.reg_mr(pd, REMOTE) as window:
                host.write(entry * (LENGTH // len(entry)), LENGTH)
                complete(qp, cq, ibv_wr_opcode.IBV_WR_RDMA_WRITE, host, window.rkey, 0)
                host.write(bytes(LENGTH), LENGTH)
                complete(qp, cq, ibv_wr_opcode.IBV_WR_RDMA_READ, host, window.rkey, 0)
                if host.read(LENGTH, 0) != entry * (LENGTH // len(entry)):
                    sys.exit('sw_icm: the READ brought something else')
    print('written and read back by RDMA')
    return 0


if __name__ == '__main__':
    sys.exit(main())
