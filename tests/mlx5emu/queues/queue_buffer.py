# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The memory of a queue: a ring of WQEs or CQEs in guest pages, and its doorbell record, by page
list or in a umem."""
from array import array
from typing import TYPE_CHECKING

from ..dma import Dma, DmaError
from ..firmware.status import Status

if TYPE_CHECKING:
    from ..card import Card
    from ..memory.umem import Umem

#: Least log2 bytes of a page, greatest that a queue context can name.
MIN_LOG_PAGE, MAX_LOG_PAGE = 12, 43
_PAGE = 1 << MIN_LOG_PAGE


class QueueBuffer:
    """``size`` bytes that begin ``base`` bytes into the first of ``pages``.

    Elements are powers of two from 16 bytes on and aligned to their size up to 64 bytes, so one of
    at most 64 bytes never crosses a page.
    """

    __slots__ = ('dma', 'pages', 'shift', 'mask', 'base', 'size', 'cost')

    def __init__(self, dma: Dma, pages: 'array[int]', shift: int, base: int, size: int) -> None:
        self.dma, self.pages, self.shift, self.base, self.size = dma, pages, shift, base, size
        self.mask = (1 << shift) - 1
        self.cost = 8 * len(pages)

    def address(self, pos: int) -> int:
        """Bus address of the byte at ``pos``, which must be inside."""
        pos += self.base
        return self.pages[pos >> self.shift] + (pos & self.mask)

    def read(self, pos: int, n: int) -> bytes:
        """``n`` bytes from ``pos``; the caller keeps to the buffer.

        :raises DmaError: a page is not mapped.
        """
        at = pos + self.base
        off = at & self.mask
        if n <= self.mask + 1 - off:
            return self.dma.read(self.pages[at >> self.shift] + off, n)
        out = bytearray()
        while n:
            off = at & self.mask
            k = min(n, self.mask + 1 - off)
            out += self.dma.read(self.pages[at >> self.shift] + off, k)
            at += k
            n -= k
        return bytes(out)


def in_pages(card: 'Card', pas: 'array[int]', log_page: int, base: int, size: int) -> QueueBuffer:
    """A buffer from a command's page list.

    :param pas: page addresses, as many as the command carried.
    :param log_page: log2 bytes of a page.
    :param base: byte offset of the queue in the first page, a multiple of 64.
    :param size: bytes of the queue.
    :raises Status: BAD_PARAM page size or offset, BAD_INP_LEN when the list is too short.
    """
    if not MIN_LOG_PAGE <= log_page <= MAX_LOG_PAGE:
        raise Status('BAD_PARAM', 'log_page_size')
    if base >= 1 << log_page or base & 63:
        raise Status('BAD_PARAM', 'page_offset')
    need = (base + size + (1 << log_page) - 1) >> log_page
    if len(pas) < need:
        raise Status('BAD_INP_LEN', 'page list is shorter than the queue')
    return QueueBuffer(card.dma, array('Q', (p & ~0xfff for p in pas[:need])), log_page, base, size)


def in_umem(card: 'Card', umem: 'Umem', offset: int, size: int, write: bool) -> QueueBuffer:
    """A buffer inside a umem.

    :param offset: byte offset of the queue in the umem, a multiple of 64.
    :param size: bytes of the queue.
    :param write: whether the card writes to it.
    :raises Status: BAD_PARAM outside the umem, not aligned, or not granted.
    """
    start = offset + umem.page_offset
    if offset & 63 or start & 63:
        raise Status('BAD_PARAM', 'queue is not aligned in its umem')
    head = start & (_PAGE - 1)
    pages = array('Q')
    try:
        pieces = umem.pieces(offset, size, write)
    except DmaError as e:
        raise Status('BAD_PARAM', 'queue is outside its umem or may not be accessed') from e
    for k, (addr, n) in enumerate(pieces):
        first = addr - head if not k else addr
        pages.extend(range(first, addr + n, _PAGE))
    return QueueBuffer(card.dma, pages, MIN_LOG_PAGE, head, size)


def doorbell_record(umem: 'Umem | None', value: int, write: bool = False) -> int:
    """Bus address of an 8-byte doorbell record.

    :param umem: the umem that holds it, or None for a bus address.
    :param value: offset in the umem, or bus address.
    :raises Status: BAD_PARAM not aligned, outside the umem, or not granted.
    """
    if value & 7:
        raise Status('BAD_PARAM', 'dbr_addr')
    if umem is None:
        return value
    try:
        return umem.address(value, 8, write)
    except DmaError as e:
        raise Status('BAD_PARAM', 'doorbell record is outside its umem') from e


def page_list(raw: bytes, offset: int) -> 'array[int]':
    """The 64-bit page addresses from a byte offset of a command to its end."""
    pas: array[int] = array('Q')
    end = offset + (max(0, len(raw) - offset) & ~7)
    pas.frombytes(bytes(raw[offset:end]))
    pas.byteswap()
    return pas
