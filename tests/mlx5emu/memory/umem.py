# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""User memory objects: CREATE_UMEM, DESTROY_UMEM, and access to the memory behind one by offset."""
from array import array
from typing import TYPE_CHECKING

from ..dma import Dma, DmaError
from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..firmware.tables import Object, declare

if TYPE_CHECKING:
    from ..card import Card

#: Least and greatest log2 of a umem page in bytes.
MIN_LOG_PAGE, MAX_LOG_PAGE = 12, 31


class UmemError(DmaError):
    """An offset outside the umem, or an access that its MTTs do not grant."""


class Umem(Object):
    """A list of MTTs over guest pages of one size; offset 0 is ``page_offset`` bytes into the first
    page."""

    kind = declare('umem', 'umems', 1, 1 << 16, destroy=('DESTROY_UMEM', 'umem_id'))

    def __init__(self, dma: Dma, mtts: 'array[int]', log_page: int, page_offset: int) -> None:
        super().__init__()
        self.dma, self.mtts, self.log_page, self.page_offset = dma, mtts, log_page, page_offset
        self.size = (len(mtts) << log_page) - page_offset

    def pieces(self, offset: int, n: int, write: bool = False) -> list[tuple[int, int]]:
        """(bus address, length) runs of ``n`` bytes from ``offset``.

        :raises UmemError: outside, or an MTT without read (write) enable.
        """
        if n < 0 or offset < 0 or offset > self.size or n > self.size - offset:
            raise UmemError(f'umem {self.number:#x}: {offset:#x}+{n:#x} is outside {self.size:#x}')
        bit, shift, mask = (2 if write else 1), self.log_page, (1 << self.log_page) - 1
        out: list[tuple[int, int]] = []
        pos = offset + self.page_offset
        while n:
            mtt = self.mtts[pos >> shift]
            if not mtt & bit:
                raise UmemError(
                    f'umem {self.number:#x}: no {"write" if write else "read"} enable '
                    f'at {offset:#x}'
                )
            at = pos & mask
            k = min(n, mask + 1 - at)
            addr = (mtt & ~0xff) + at
            if out and out[-1][0] + out[-1][1] == addr:
                out[-1] = (out[-1][0], out[-1][1] + k)
            else:
                out.append((addr, k))
            pos += k
            n -= k
        return out

    def address(self, offset: int, n: int = 1, write: bool = False) -> int:
        """Bus address of ``n`` bytes that lie in one run, as a doorbell record does.

        :raises UmemError: outside, not granted, or not contiguous.
        """
        pieces = self.pieces(offset, n, write)
        if len(pieces) != 1:
            raise UmemError(f'umem {self.number:#x}: {offset:#x}+{n:#x} is not contiguous')
        return pieces[0][0]

    def read(self, offset: int, n: int) -> bytes:
        """``n`` bytes from ``offset``.

        :raises DmaError: as :meth:`pieces`, or the page is not mapped.
        """
        return b''.join(self.dma.read(a, k) for a, k in self.pieces(offset, n))

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` at ``offset``.

        :raises DmaError: as :meth:`pieces`, or the page is not mapped.
        """
        done, source = 0, memoryview(data)
        for a, k in self.pieces(offset, len(data), write=True):
            self.dma.write(a, source[done:done + k])
            done += k

    def layout(self) -> dict[str, object]:
        """What the card was told: sizes in bytes and the MTTs."""
        return {
            'size': self.size, 'page_size': 1 << self.log_page, 'page_offset': self.page_offset,
            'mtts': list(self.mtts), 'uid': self.uid, 'refs': self.refs}


@command('CREATE_UMEM')
def create_umem(card: 'Card', cmd: Command) -> None:
    """Check page size, offset and MTT count against the input, and keep the MTTs."""
    u = cmd.inp.sub('umem')
    log_page, offset, count = u['log_page_size'] + 12, u['page_offset'], u['num_of_mtt']
    if not MIN_LOG_PAGE <= log_page <= MAX_LOG_PAGE:
        raise Status('BAD_PARAM', 'umem page size')
    if offset >= 1 << log_page:
        raise Status('BAD_PARAM', 'umem page_offset is beyond the first page')
    if not count:
        raise Status('BAD_PARAM', 'umem without MTTs')
    mtts = array('Q', u.array('mtt'))
    if len(mtts) < count:
        raise Status('BAD_INP_LEN', 'fewer MTTs than num_of_mtt')
    del mtts[count:]
    low = (1 << log_page) - 1 & ~0xff
    for mtt in mtts:
        if mtt & low:
            raise Status('BAD_PARAM', 'MTT is not aligned to the page size')
    umem = Umem(card.dma, mtts, log_page, offset)
    cmd.out['umem_id'] = card.umems.alloc(umem, cmd.uid, cost=8 * count)


@command('DESTROY_UMEM')
def destroy_umem(card: 'Card', cmd: Command) -> None:
    """Refused while a queue, key or doorbell record lies in the umem."""
    card.umems.free(cmd.inp['umem_id'], cmd.uid)
