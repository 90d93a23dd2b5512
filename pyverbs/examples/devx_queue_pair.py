# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
A queue pair made by DEVX commands, with its queues and doorbell records in umems: it connects to
itself and does an RDMA WRITE. Work request, doorbell and completion are read and written through
the umems' memory.

    devx_queue_pair.py [DEVICE]
"""
import struct
import sys
import time

import pyverbs.dma_util as dma
from choose_device import choose_device
from devx_connection import BLOCK, CQE, Connection
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr

TEXT = b'written by a queue pair that lives in umems'
ACCESS = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE
RDMA_WRITE, CQ_UPDATE = 0x08, 0x08
CQE_OK, CQE_INVALID = 0, 0xf


def rdma_write(index: int, qpn: int, target: MR, source: MR, length: int) -> bytes:
    """
    A work request as the card reads it: control, remote address and data segment.
    :param index: Number of its first 64-byte block in the send queue
    """
    return (struct.pack('>IIII', index << 8 | RDMA_WRITE, qpn << 8 | 3, CQ_UPDATE, 0) +
            struct.pack('>QII', target.buf, target.rkey, 0) +
            struct.pack('>IIQ', length, source.lkey, source.buf))


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
    with Mlx5Context(attr, name) as ctx, PD(ctx) as pd:
        qp = Connection(ctx, pd)
        source, target = MR(pd, 4096, ACCESS), MR(pd, 4096, ACCESS)
        source.write(TEXT, len(TEXT))
        request = rdma_write(0, qp.number, target, source, len(TEXT))
        blocks, cqes, records = (memoryview(u) for u in (qp.send_queue, qp.cqes, qp.records))
        blocks[:len(request)] = request
        dma.udma_to_dev_barrier()
        # The doorbell record says how far, the doorbell itself that there is something.
        struct.pack_into('>I', records, Connection.QP_RECORD + 4, -(-len(request) // BLOCK))
        dma.udma_to_dev_barrier()
        dma.mmio_write64_as_be(qp.uar.reg_addr, struct.unpack('=Q', request[:8])[0])
        end = time.monotonic() + 10
        while cqes[CQE - 1] >> 4 == CQE_INVALID:
            if time.monotonic() > end:
                sys.exit('devx_queue_pair: no completion for 10 s')
        dma.udma_from_dev_barrier()
        opcode, text = cqes[CQE - 1] >> 4, target.read(len(TEXT), 0)
        print(f'completion with opcode {opcode}, target holds {text!r}')
        del blocks, cqes, records
        qp.close()
    return 0 if (opcode, text) == (CQE_OK, TEXT) else 1


if __name__ == '__main__':
    sys.exit(main())
