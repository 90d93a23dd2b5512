# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Steering by entries in SW ICM: which of two receive queues a frame gets to stands in memory of
Mlx5DM, and is changed by an RDMA WRITE.

    sw_icm.py [DEVICE]

SW ICM is not mapped: only the device reaches it, by ICM addresses and through MRs. It needs an
Ethernet port, CAP_SYS_RAWIO and CAP_NET_RAW.
"""
import sys
from contextlib import ExitStack, closing

import pyverbs.device as d
from choose_device import choose_device
from frame_sender import Sender
from pyverbs.cq import CQ
from pyverbs.libibverbs_enums import ibv_wr_opcode
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr
from receive_queue import ReceiveQueue, arrival
from reliable_pair import LENGTH, REMOTE, complete, connected_pair
from steering_entry import SIZE, SteeringEntries
from sw_flow_table import SwFlowTable, steering_caps

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5AllocDmAttr, Mlx5DM, mlx5dv_alloc_dm_type

STEERING = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM
#: An EtherType for experiments, and two source addresses that are nobody's.
ETHERNET, ETHERTYPE, ONE, TWO = 2, 0x88b5, b'\x02\0\0\0\0\x01', b'\x02\0\0\0\0\x02'


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
    with Mlx5Context(attr, name) as ctx, d.Context(name=name) as other, PD(ctx) as pd:
        missing = Mlx5DM.query_caps(ctx).missing(STEERING)
        if missing or ctx.query_port(1).link_layer != ETHERNET:
            print(f'sw_icm: {missing or "not an Ethernet port"}', file=sys.stderr)
            return 2
        cq, host = CQ(ctx, 16), MR(pd, LENGTH, REMOTE)
        writer, _peer = connected_pair(ctx, pd, cq)
        with Mlx5DM(ctx, d.AllocDmAttr(length=LENGTH), Mlx5AllocDmAttr(STEERING)) as icm, \
                icm.reg_mr(pd, REMOTE) as window, closing(ReceiveQueue(ctx, pd)) as first, \
                closing(ReceiveQueue(ctx, pd)) as second, ExitStack() as table:
            sender, at = Sender(other), icm.remote_va
            print(f'{icm!r}, ICM address {at:#x}')
            entry, right = SteeringEntries(**steering_caps(ctx)), True
            for mac in (ONE, TWO):
                # One that leads to the next, one that compares, and one for all other frames.
                entries = (entry.every_frame(at + SIZE, then_by_mac=True) +
                           entry.source_mac(mac, hit=first.address, miss=at + 2 * SIZE) +
                           entry.every_frame(second.address))
                host.write(entries, len(entries))
                complete(writer, cq, ibv_wr_opcode.IBV_WR_RDMA_WRITE, host, window.rkey, 0)
                if mac == ONE:
                    table.enter_context(closing(SwFlowTable(ctx, at, ETHERTYPE)))
                found = [arrival([first, second], sender.send(source, ETHERTYPE))
                         for source in (ONE, TWO)]
                print(f'{mac.hex()} is in the entry: frames of the two get to queues {found}')
                right &= found == [int(source != mac) for source in (ONE, TWO)]
    return 0 if right else 1


if __name__ == '__main__':
    sys.exit(main())
