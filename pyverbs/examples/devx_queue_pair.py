# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" A queue pair made by DEVX commands, with its queues and doorbell records in umems: it connects
to itself and does an RDMA WRITE. Work request, doorbell and completion are read and written through
the umems' memory.

    devx_queue_pair.py [DEVICE]
"""
import struct
import sys
import time

import devx_commands as commands
import pyverbs.dma_util as dma
from choose_device import choose_device
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import (
    _MLX5DV_UAR_ALLOC_TYPE_NC,
    mlx5dv_context_attr_flags,
    mlx5dv_obj_type,
)
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DevxObj, Mlx5DVContextAttr, Mlx5UAR
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

PORT = 1
TEXT = b'written by a queue pair that lives in umems'
ACCESS = (ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE)
OPCODE_RDMA_WRITE, CQ_UPDATE = 0x08, 0x08
CQE_SIZE, CQE_OK, CQE_INVALID = 64, 0, 0xf
LOG_CQES, LOG_BLOCKS = 6, 4


def work_request(index, qpn, target, source, length):
    """
    An RDMA WRITE as the device reads it: control, remote address and data segment.
    :param index: Number of the first 64-byte block in the send queue
    :param target: MR to write to
    :param source: MR to read from
    """
    return (struct.pack('>IIII', index << 8 | OPCODE_RDMA_WRITE, qpn << 8 | 3, CQ_UPDATE, 0) +
            struct.pack('>QII', target.buf, target.rkey, 0) +
            struct.pack('>IIQ', length, source.lkey, source.buf))


def own_address(ctx):
    """LID, GID and MAC address of the port; the latter two on Ethernet only."""
    lid = ctx.query_port(PORT).lid
    if lid:
        return lid, b'', b''
    gid = bytes.fromhex(str(ctx.query_gid(PORT, 0).gid).replace(':', ''))
    # A link-local GID is made of the MAC address, one bit inverted.
    return 0, gid, bytes([gid[8] ^ 2]) + gid[9:11] + gid[13:16]


def wait(cqes, seconds=10):
    """Wait for the first completion; its opcode."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        opcode = cqes[CQE_SIZE - 1] >> 4
        if opcode != CQE_INVALID:
            dma.udma_from_dev_barrier()
            return opcode
    sys.exit(f'devx_queue_pair: no completion for {seconds} s')


def main():
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    ctx = Mlx5Context(Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX), name)
    pd = PD(ctx)
    pdn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn
    uar = Mlx5UAR(ctx, _MLX5DV_UAR_ALLOC_TYPE_NC)
    cq_umem = Mlx5DevxUmem(ctx, CQE_SIZE << LOG_CQES,
                           access=ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
    sq_umem = Mlx5DevxUmem(ctx, 64 << LOG_BLOCKS, access=ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
    # Both doorbell records in one umem. Offsets into a umem are only allowed if it was told the
    # page size.
    dbr_umem = Mlx5DevxUmem(ctx, 4096, access=ibv_access_flags.IBV_ACCESS_LOCAL_WRITE, pgsz_bitmap=[
        4096])
    cqes, blocks, records = memoryview(cq_umem), memoryview(sq_umem), memoryview(dbr_umem)
    for last in range(CQE_SIZE - 1, len(cqes), CQE_SIZE):
        cqes[last] = CQE_INVALID << 4 | 1
    cq = Mlx5DevxObj(
        ctx,
        commands.create_cq(cq_umem.umem_id, dbr_umem.umem_id, LOG_CQES, uar.page_id,
                           ctx.devx_query_eqn(0)), commands.OUT_LENGTH)
    qp = Mlx5DevxObj(
        ctx,
        commands.create_qp(sq_umem.umem_id, dbr_umem.umem_id, LOG_BLOCKS, uar.page_id, pdn,
                           commands.number_of(bytes(cq.out_view)), dbr_offset=64),
        commands.OUT_LENGTH)
    qpn = commands.number_of(bytes(qp.out_view))
    lid, gid, mac = own_address(ctx)
    for box in (commands.reset_to_init(qpn,
                                       PORT), commands.init_to_rtr(qpn, qpn, PORT, lid, gid,
                                                                   mac), commands.rtr_to_rts(qpn)):
        qp.modify(box, commands.OUT_LENGTH)
    print(f'QP {qpn:#x}: send queue {sq_umem!r}')
    source, target = MR(pd, 4096, ACCESS), MR(pd, 4096, ACCESS)
    source.write(TEXT, len(TEXT))
    request = work_request(0, qpn, target, source, len(TEXT))
    blocks[:len(request)] = request
    dma.udma_to_dev_barrier()
    struct.pack_into('>I', records, 64 + 4, 1)                          # one block posted
    dma.udma_to_dev_barrier()
    dma.mmio_write64_as_be(uar.reg_addr, struct.unpack('=Q', request[:8])[0])
    opcode = wait(cqes)
    good = opcode == CQE_OK and target.read(len(TEXT), 0) == TEXT
    print(f'completion with opcode {opcode}, target holds {target.read(len(TEXT), 0)!r}')
    # What uses a thing goes first: QP, CQ, UAR; the context would do the umems itself.
    for obj in (qp, cq, uar, source, target, sq_umem, cq_umem, dbr_umem, pd, ctx):
        obj.close()
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
