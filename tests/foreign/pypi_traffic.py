# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Runs in a root: PyPI's ibverbs writes, reads and sends between two reliable queue pairs."""

import ctypes
import glob
import os
import time

import ibverbs as ib

SIZE, ROUNDS = 8192, 50
A = ib.AccessFlags
ACCESS = A.LOCAL_WRITE | A.REMOTE_WRITE | A.REMOTE_READ


def roce_gid() -> int:
    """Return the index of a RoCE v2 GID with an IPv4 address; 0 on InfiniBand."""
    for path in sorted(glob.glob('/sys/class/infiniband/mlx5_0/ports/1/gid_attrs/types/*')):
        try:
            kind = open(path).read()
        except OSError:
            continue
        gid = open(path.replace('gid_attrs/types', 'gids')).read()
        if 'v2' in kind and '0000:ffff:' in gid:
            return int(os.path.basename(path))
    return 0


context = {d.name if isinstance(d.name, str) else d.name.decode(): d
           for d in ib.get_device_list()}['mlx5_0'].open()
pd, cq = context.alloc_pd(), context.create_cq(64)
buffers = [ctypes.create_string_buffer(SIZE) for _ in range(2)]
regions = [pd.reg_mr(ctypes.addressof(b), SIZE, ACCESS) for b in buffers]
pairs = [pd.create_qp(ib.QPInitAttr(send_cq=cq, recv_cq=cq, qp_type=ib.QPType.RC))
         for _ in range(2)]
index = roce_gid()
port, gid = context.query_port(1), context.query_gid(1, index)
infos = [ib.local_qp_info(qp, port, gid, port=1) for qp in pairs]
for qp, info in zip(pairs, reversed(infos), strict=True):
    ib.connect_rc(qp, info, port=1, sgid_index=index, access=ACCESS)


def complete(count: int) -> None:
    """Take completions."""
    while count:
        for wc in cq.poll(16):
            wc.raise_for_status()
            count -= 1


def request(opcode: int) -> None:
    """Write the first buffer into the second, or read it from there, to the end."""
    pairs[0].post_send(ib.SendWR(
        wr_id=1, sg_list=[ib.SGE(regions[0], SIZE)], opcode=opcode,
        send_flags=ib.SendFlags.SIGNALED, remote_addr=ctypes.addressof(buffers[1]),
        rkey=regions[1].rkey))
    complete(1)


began = time.monotonic()
for _ in range(ROUNDS):
    data = os.urandom(SIZE)
    ctypes.memmove(buffers[0], data, SIZE)
    request(ib.WROpcode.RDMA_WRITE)
    assert buffers[1].raw == data
    ctypes.memset(buffers[0], 0, SIZE)
    request(ib.WROpcode.RDMA_READ)
    assert buffers[0].raw == data
print(f'all right, {2 * ROUNDS / (time.monotonic() - began):.0f} requests/s of {SIZE} bytes')
