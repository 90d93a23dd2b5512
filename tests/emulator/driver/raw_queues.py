# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The driver's side of raw queues."""
import struct

from emulator.driver.guest import PAGE, Guest, GuestCq
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.prm.wqe import CTRL

RESET, READY, ERROR = 0, 1, 3


class GuestSq:
    """A raw send queue."""

    def __init__(self, g: Guest, **context) -> None:
        self.g, self.cq = g, GuestCq(g)
        self.buf, self.dbr, self.posted = g.alloc(PAGE), g.alloc(8, 64), 0
        fields = {
            'cqn': self.cq.number, 'wq.wq_type': 1, 'wq.pd': g.pd, 'wq.uar_page': g.uar,
            'wq.dbr_addr': self.dbr, 'wq.log_wq_stride': 6, 'wq.log_wq_sz': 6, 'user_index': 0x44,
            'flush_in_error_en': 1, **context}
        self.number = g.cmd('CREATE_SQ', struct.pack('>Q', self.buf), **{
            f'ctx.{k}': v for k, v in fields.items()})['sqn']

    def modify(self, old: int, new: int) -> str:
        """Status of MODIFY_SQ."""
        return self.g.fails('MODIFY_SQ', sqn=self.number, sq_state=old, **{'ctx.state': new})

    def post(self, op: int, *segments: bytes, flags: int = 8) -> None:
        """Post and ring."""
        body = b''.join(segments)
        wqe = CTRL.pack(self.posted << 8 | op, self.number << 8 |
                        (1 + len(body) // 16), flags, 0) + body
        self.g.write(self.buf + self.posted * 64, wqe)
        self.posted += -(-len(wqe) // 64)
        self.g.write(self.dbr + 4, self.posted.to_bytes(4, 'big'))
        doorbell(self.g.card, 0x800, self.g.uar, wqe[:8])


def rq(g: Guest, cq: GuestCq | None = None, **context) -> int:
    """A raw receive queue of eight WQEs of 64 bytes."""
    cq = cq or GuestCq(g)
    fields = {
        'cqn': cq.number, 'wq.wq_type': 1, 'wq.pd': g.pd, 'wq.log_wq_stride': 6, 'wq.log_wq_sz': 3,
        'flush_in_error_en': 1, **context}
    return g.cmd('CREATE_RQ', struct.pack('>Q', g.alloc(PAGE)), **{
        f'ctx.{k}': v for k, v in fields.items()})['rqn']


def eth(header: bytes = b'') -> bytes:
    """An Ethernet segment with inline headers."""
    raw = bytes(12) + len(header).to_bytes(2, 'big') + header
    return raw.ljust(max(16, -(-len(raw) // 16) * 16), b'\0')
