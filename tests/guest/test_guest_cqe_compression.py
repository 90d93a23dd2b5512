# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The stock driver takes compressed CQEs apart: a burst of frames in one session arrives whole."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest.ports import DEVICES, network_devices, over_ethernet
from mlx5emu.vm import control
from patience import PATIENCE

pytestmark = pytest.mark.skipif(
    not control.available(),
    reason='needs the emulated card: run `bash buildlib/quickstart.sh test`')

SIOCETHTOOL = 0x8946
GET_STRINGS, GET_STATS, GET_FLAGS, SET_FLAGS, COUNT_STRINGS = 0x1b, 0x1d, 0x27, 0x28, 0x37
STATISTICS, PRIVATE_FLAGS = 1, 2
NAME = 32
ETHERTYPE, FRAMES, ROOM = 0x88b5, 40, 256


class Netdev:
    """The card's network interface, as ethtool(8) sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def ask(self, request: bytes) -> bytes:
        """One request; the buffer after it."""
        buffer = array.array('B', request)
        fcntl.ioctl(self._socket, SIOCETHTOOL,
                    struct.pack('16sP8x', self.name.encode(),
                                buffer.buffer_info()[0]))
        return buffer.tobytes()

    def names(self, kind: int) -> list[str]:
        """Names of statistics or of private flags."""
        n = struct.unpack_from('I', self.ask(struct.pack('IIQI', COUNT_STRINGS, 0, 1 << kind, 0)),
                               16)[0]
        raw = self.ask(struct.pack('III', GET_STRINGS, kind, n) + bytes(NAME * n))
        return [raw[12 + NAME * k:12 + NAME * (k + 1)].split(b'\0')[0].decode() for k in range(n)]

    def statistics(self) -> dict[str, int]:
        """Statistics by name."""
        names = self.names(STATISTICS)
        raw = self.ask(struct.pack('II', GET_STATS, len(names)) + bytes(8 * len(names)))
        return dict(zip(names, struct.unpack_from(f'{len(names)}Q', raw, 8), strict=True))

    def flags(self) -> int:
        """Private flags."""
        return int(struct.unpack('II', self.ask(struct.pack('II', GET_FLAGS, 0)))[1])

    def set_flags(self, flags: int) -> None:
        """Set the private flags."""
        self.ask(struct.pack('II', SET_FLAGS, flags))


@contextlib.contextmanager
def compressing() -> Iterator[Netdev]:
    """The first function's interface, with rx_cqe_compress set meanwhile."""
    device = Netdev(network_devices(DEVICES[0])[0].name)
    flags = device.flags()
    device.set_flags(flags | 1 << device.names(PRIVATE_FLAGS).index('rx_cqe_compress'))
    try:
        yield device
    finally:
        device.set_flags(flags)


@over_ethernet
def test_burst() -> None:
    """A raw queue sends the interface frames of different sizes in one go."""
    with compressing() as netdev:
        send_burst(netdev)


def send_burst(netdev: Netdev) -> None:
    """Send the frames, and hold them and the driver's statistics against what was sent."""
    from pyverbs.cq import CQ
    from pyverbs.device import Context
    from pyverbs.libibverbs_enums import (
        ibv_access_flags,
        ibv_qp_type,
        ibv_send_flags,
        ibv_wr_opcode,
    )
    from pyverbs.mr import MR
    from pyverbs.pd import PD
    from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
    from pyverbs.wr import SGE, SendWR
    mac = bytes.fromhex(
        Path(f'/sys/class/net/{netdev.name}/address').read_text().strip().replace(':', ''))
    frames = [
        mac + b'\2\0\0\0\0\1' + struct.pack('>HI', ETHERTYPE, k) + bytes([k]) * (60 + k)
        for k in range(FRAMES)]
    before = netdev.statistics()
    # The driver has frames come back to the function only where two contexts are open.
    with Context(name='mlx5_0') as other, Context(name='mlx5_0') as ctx, socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as inbox:
        inbox.bind((netdev.name, ETHERTYPE))
        inbox.settimeout(PATIENCE)
        PD(other)
        pd, cq = PD(ctx), CQ(ctx, FRAMES)
        qp = QP(
            pd,
            QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RAW_PACKET, scq=cq, rcq=cq,
                       cap=QPCap(max_send_wr=FRAMES)))
        qp.to_rts(QPAttr(port_num=1))
        mr = MR(pd, FRAMES * ROOM, ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
        work = []
        for k, frame in enumerate(frames):
            mr.write(frame, len(frame), offset=k * ROOM)
            work.append(
                SendWR(wr_id=k, sg=[SGE(mr.buf + k * ROOM, len(frame),
                                        mr.lkey)], num_sge=1, opcode=ibv_wr_opcode.IBV_WR_SEND,
                       send_flags=ibv_send_flags.IBV_SEND_SIGNALED))
        for first, second in zip(work, work[1:], strict=False):
            first.next_wr = second
        qp.post_send(work[0])
        assert [inbox.recv(2 * ROOM) for _ in frames] == frames
    after = netdev.statistics()
    assert after['rx_cqe_compress_blks'] > before['rx_cqe_compress_blks']
    assert after['rx_cqe_compress_pkts'] - before['rx_cqe_compress_pkts'] >= FRAMES - 1
