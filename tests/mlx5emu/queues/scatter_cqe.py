# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Short data that go into the CQE instead of memory: of received messages (cs_res), of reads and
atomics (cs_req)."""
from ..prm.wqe import INLINE_32, INLINE_64

#: Low half of cs_res and cs_req: up to 32 bytes, or up to 64 where CQEs have 128.
SCATTER_32, SCATTER_64 = 0x1, 0x2
_HALF, _WIDE_CQE = 32, 128


class CqeData:
    """Where data for a CQE are gathered, as a memory that runs can name."""

    __slots__ = ('data',)

    def __init__(self, n: int) -> None:
        self.data = bytearray(n)

    def write(self, address: int, data: bytes) -> None:
        """Bytes from ``address`` on; the caller keeps to the room."""
        self.data[address:address + len(data)] = data


def fits(mode: int, cqe_size: int, n: int) -> bool:
    """Whether ``n`` bytes go into a CQE.

    :param mode: of the context.
    """
    return bool(mode) and (n <= _HALF or
                           (n <= 2 * _HALF and bool(mode & SCATTER_64) and cqe_size == _WIDE_CQE))


def place(body: bytes, op_own: int, data: bytes) -> tuple[bytes, int, bytes]:
    """Put data into a CQE: its bytes and last byte, and what goes into the 64 bytes before it."""
    if not data:
        return body, op_own, b''
    if len(data) <= _HALF:
        return bytes(data).ljust(_HALF, b'\0') + body[_HALF:], op_own | INLINE_32, b''
    return body, op_own | INLINE_64, bytes(data).ljust(2 * _HALF, b'\0')
