# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""BAR0: its windows in one table, and what a write into a doorbell page means.

Where MEMIC and the virtqueues' doorbells lie the driver reads from the capability pages, so that
those numbers are in :mod:`~mlx5emu.firmware.caps`; the rest is here.
"""
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..datapath import virtio_net_q
from ..datapath.datapath import BLUEFLAME
from ..firmware import caps, eq

if TYPE_CHECKING:
    from ..card import Card

SIZE = 32 << 20
#: The initialization segment, and MSI-X table and pending bits, which the client keeps itself.
SEGMENT_END = 0x4000
MSIX_TABLE, MSIX_PBA, MSIX_END = 0x10000, 0x12000, 0x13000
#: UAR pages: page number and number of the UAR are the same.
LOG_UAR = 12
UAR_START, UAR_END = 0x100 << LOG_UAR, 0x800 << LOG_UAR
MEMIC_END = caps.MEMIC_START + caps.MEMIC_SIZE
MEMIC_OPERATION_END = caps.MEMIC_OPERATION_START + 2 * caps.MEMIC_SIZE
VIRTIO_END = caps.VIRTIO_START + (1 << caps.LOG_VIRTIO_PAGES + caps.LOG_VIRTIO_STRIDE)

#: Doorbells by their offset in a UAR page. From SEND_DOORBELL on the rest of the page is BlueFlame
#: buffers.
ARM_CQ, ARM_EQ, UPDATE_EQ, RECORDLESS_DOORBELL, SEND_DOORBELL = 0x20, 0x40, 0x48, 0x600, 0x800

Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], Any]


class Window(NamedTuple):
    """A part of BAR0, from ``start`` to before ``end``.

    ``read`` takes an offset in BAR0 and a number of bytes, and may give fewer, ``write`` an offset
    and bytes: an access begins in the window, and may end behind it.
    """
    name: str
    start: int
    end: int
    read: Read
    write: Write


def is_64_bit(offset: int) -> bool:
    """Tell whether the doorbell at an offset of a UAR page has two words."""
    if offset >= SEND_DOORBELL:
        return offset % BLUEFLAME == 0
    return offset in (ARM_CQ, RECORDLESS_DOORBELL)


def doorbell(card: 'Card', offset: int, uar: int, data: bytes) -> None:
    """Carry out a write into a UAR page.

    :param offset: byte offset in the page.
    :param uar: UAR page index.
    :param data: the bytes as written (big-endian).
    """
    if offset >= SEND_DOORBELL:
        card.datapath.send_doorbell(uar, offset, data)
    elif offset == ARM_CQ:
        card.datapath.arm_cq(uar, data)
    elif offset == ARM_EQ or offset == UPDATE_EQ:
        eq.doorbell(card, offset == ARM_EQ, data)
    elif offset == RECORDLESS_DOORBELL:
        card.datapath.recordless_doorbell(uar, data)


def _nothing(offset: int, n: int) -> bytes:
    return b''


def _ignored(offset: int, data: bytes) -> None:
    pass


class Bar0:
    """The windows of a card's BAR0. What holds nothing reads as zero and ignores what is written.

    :param read_segment: of the initialization segment, as :class:`Window` has it.
    :param write_segment: the same.
    """

    def __init__(self, card: 'Card', read_segment: Read, write_segment: Write) -> None:
        self.card = card
        #: First halves of 64-bit doorbells, by where they are in BAR0.
        self._halves: dict[int, bytes] = {}
        self.windows = (
            Window('initialization segment', 0, SEGMENT_END, read_segment, write_segment),
            Window('MSI-X', MSIX_TABLE, MSIX_END, _nothing, _ignored),
            Window('UARs', UAR_START, UAR_END, _nothing, self._uar),
            Window('doorbells of virtqueues', caps.VIRTIO_START, VIRTIO_END, _nothing,
                   self._virtqueue),
            Window('MEMIC', caps.MEMIC_START, MEMIC_END, self._memic_read, self._memic_write),
            # Trapped, never mapped: reading has an effect.
            Window('operations on MEMIC', caps.MEMIC_OPERATION_START, MEMIC_OPERATION_END,
                   card.memic.operate_read, card.memic.operate_write))
        self._starts = [window.start for window in self.windows]

    def reset(self) -> None:
        """Forget halves of doorbells."""
        self._halves.clear()

    def find(self, offset: int) -> Window | None:
        """The window that an offset lies in."""
        window = self.windows[bisect_right(self._starts, offset) - 1]
        return window if offset < window.end else None

    def read(self, offset: int, n: int) -> bytes:
        """``n`` bytes; the caller has checked the range."""
        window = self.find(offset)
        return b'\0' * n if window is None else window.read(offset, n).ljust(n, b'\0')

    def write(self, offset: int, data: bytes) -> None:
        """Write; the caller has checked the range."""
        window = self.find(offset)
        if window is not None:
            window.write(offset, data)

    def _uar(self, at: int, data: bytes) -> None:
        page, offset = at >> LOG_UAR, at & (1 << LOG_UAR) - 1
        if page not in self.card.uars:
            return
        # A 64-bit doorbell may come as two halves, so also the head of a WQE that is copied into a
        # BlueFlame buffer by 4 bytes; the pair counts once.
        if len(data) == 4 and is_64_bit(offset & ~4):
            if not offset & 4:
                self._halves[at] = data
                return
            first = self._halves.pop(at - 4, None)
            if first is None:
                return
            offset, data = offset - 4, first + data
        doorbell(self.card, offset, page, data)

    def _virtqueue(self, offset: int, data: bytes) -> None:
        virtio_net_q.doorbell(self.card, offset - caps.VIRTIO_START >> caps.LOG_VIRTIO_STRIDE, data)

    def _memic_read(self, offset: int, n: int) -> bytes:
        return self.card.memic.read(offset, min(n, MEMIC_END - offset))

    def _memic_write(self, offset: int, data: bytes) -> None:
        self.card.memic.write(offset, data[:MEMIC_END - offset])
