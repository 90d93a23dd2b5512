# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""CQE compression: completions that come together and differ little are written as one CQE and
arrays of eight bytes each.

A session of n completions takes n slots.  The first slot has the title, a CQE whose byte count is
n; the arrays of eight mini CQEs lie in the second, ninth, seventeenth slot and so on, and begin
with the title's own.  The other slots are not written.  Completions come together when one
doorbell, or one frame, brings them.
"""
from typing import TYPE_CHECKING

from ..firmware.caps import CQE_COMPRESSION_MAX
from ..prm.wqe import CqeOp

if TYPE_CHECKING:
    from .cq import Cq

#: mini_cqe_res_format: what a mini CQE of a receive completion has beside the byte count.
HASH, CHECKSUM, CHECKSUM_STRIDE_INDEX = 0, 1, 3
FORMATS = (HASH, CHECKSUM, CHECKSUM_STRIDE_INDEX)
#: Mini CQEs in a slot.
ARRAY = 8
#: Format bits of the title's last byte.
COMPRESSED = 0xc
_RECEIVED = (CqeOp.RESP_WRITE_IMM, CqeOp.RESP_SEND, CqeOp.RESP_SEND_IMM, CqeOp.RESP_SEND_INV)


def mini(body: bytes, opcode: int, form: int) -> bytes:
    """The eight bytes that stand for a CQE."""
    if opcode == CqeOp.REQ:
        return body[60:62] + body[56:57] + b'\0' + body[44:48]
    if form == HASH:
        return body[12:16] + body[44:48]
    return body[20:22] + (body[60:62] if form == CHECKSUM_STRIDE_INDEX else b'\0\0') + body[44:48]


def common(body: bytes, opcode: int) -> bytes:
    """What CQEs of a session have in common; checksum, hash and timestamp are the title's, as is
    told of no other."""
    if opcode == CqeOp.REQ:
        return body[:44] + body[57:60]
    return body[:12] + body[16:20] + body[22:44] + body[56:60]


class Session:
    """Completions of a CQ that are not written yet.

    :param form: mini_cqe_res_format of the context.
    """

    def __init__(self, cq: 'Cq', form: int) -> None:
        self.cq, self.form = cq, form
        self.bodies: list[bytes] = []
        self._opcode, self._common, self._counter = 0, b'', 0

    def take(self, body: bytes, op_own: int, inline: bytes) -> bool:
        """Take a completion into the session; False when it must be written by itself, after the
        session that this ends."""
        open_cqs = self.cq.card.datapath.work.open_cqs
        opcode = op_own >> 4
        if open_cqs is None or inline or op_own & 0xf or (opcode != CqeOp.REQ and
                                                          opcode not in _RECEIVED):
            self.end()
            return False
        same, counter = common(body, opcode), int.from_bytes(body[60:62], 'big')
        # Receive completions tell no WQE counter of their own: they are of one WQE after the other.
        if self.bodies and (opcode != self._opcode or same != self._common or
                            (opcode != CqeOp.REQ and counter != (self._counter + 1) & 0xffff)):
            self.end()
        if not self.cq.room(len(self.bodies) + 1):
            self.end()
            return False
        if not self.bodies:
            self._opcode, self._common = opcode, same
            open_cqs.append(self.cq)
        self._counter = counter
        self.bodies.append(body)
        if len(self.bodies) == CQE_COMPRESSION_MAX:
            self.end()
        return True

    def end(self) -> None:
        """Write what was taken."""
        bodies, self.bodies = self.bodies, []
        if len(bodies) == 1:
            self.cq.write(bodies[0], self._opcode << 4)
        elif bodies:
            minis = b''.join(mini(body, self._opcode, self.form) for body in bodies)
            title = bodies[0][:44] + len(bodies).to_bytes(4, 'big') + bodies[0][48:]
            self.cq.write(title, self._opcode << 4 | COMPRESSED, minis)
