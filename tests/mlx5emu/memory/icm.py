# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Software-managed ICM: the address ranges of the four kinds, general object SW_ICM, and what was
written there.

The memory is sparse: a page exists once something other than zero was written to it, and counts
against the card's quota.
"""
from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.general_object import object_type
from ..firmware.status import Status
from ..firmware.tables import Object

if TYPE_CHECKING:
    from ..card import Card

#: Type of the general object.
SW_ICM = 8
LOG_PAGE = 12

#: kind: (start field, log size field) in device_mem_cap.
RANGES = {
    'steering': ('steering_sw_icm_start_address', 'log_steering_sw_icm_size'),
    'header_modify': ('header_modify_sw_icm_start_address', 'log_header_modify_sw_icm_size'),
    'header_modify_pattern':
    ('header_modify_pattern_sw_icm_start_address', 'log_header_modify_pattern_sw_icm_size'),
    'encap': ('indirect_encap_sw_icm_start_address', 'log_indirect_encap_sw_icm_size'), }


class SwIcm(Object):
    """One allocation of SW ICM: ``start`` address and ``size`` in bytes, of a kind in
    :data:`RANGES`."""

    def __init__(self, icm: 'Icm', range_name: str, start: int, size: int) -> None:
        super().__init__()
        self.icm, self.range_name, self.start, self.size = icm, range_name, start, size

    def describe(self, view: prm.View) -> None:
        """Fill the object's layout."""
        view.set(log_sw_icm_size=self.size.bit_length() - 1, sw_icm_start_addr=self.start)

    def destroyed(self) -> None:
        """Forget the allocation and what was written to it."""
        self.icm.forget(self)
        super().destroyed()


class Icm:
    """ICM by address."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self.allocations: dict[int, SwIcm] = {}
        self._starts: list[int] = []
        self._pages: dict[int, bytearray] = {}

    def ranges(self) -> dict[str, tuple[int, int]]:
        """{kind: (start address, size in bytes)} of the kinds that the profile has."""
        cap = self.card.caps.page('device_memory')
        out = {}
        for name, (start, log_size) in RANGES.items():
            if cap.has(start) and cap.has(log_size) and cap[start] and cap[log_size]:
                out[name] = (cap[start], 1 << cap[log_size])
        return out

    def kind_of(self, address: int) -> str | None:
        """The kind whose range holds the address."""
        return next((k for k, (low, length) in self.ranges().items()
                     if address >= low and address - low < length), None)

    def allocate(self, start: int, size: int) -> SwIcm:
        """Make an allocation at an address that the driver chose.

        :raises Status: BAD_PARAM outside every range or not aligned, BAD_RES_STATE when it overlaps
            another.
        """
        grain = 1 << self.card.caps.page('device_memory')['log_sw_icm_alloc_granularity']
        kind = self.kind_of(start)
        if kind is None:
            raise Status('BAD_PARAM', 'address is not SW ICM')
        low, length = self.ranges()[kind]
        if size > length - (start - low):
            raise Status('BAD_PARAM', 'SW ICM crosses the end of its range')
        if size < grain or start % grain:
            raise Status('BAD_PARAM', 'SW ICM is not of the allocation granularity')
        k = bisect_right(self._starts, start)
        if self.find(start) is not None or (k < len(self._starts) and
                                            self._starts[k] - start < size):
            raise Status('BAD_RES_STATE', 'SW ICM overlaps another allocation')
        icm = SwIcm(self, kind, start, size)
        self.allocations[start] = icm
        insort(self._starts, start)
        return icm

    def forget(self, icm: SwIcm) -> None:
        """Drop an allocation and its pages."""
        del self.allocations[icm.start]
        self._starts.remove(icm.start)
        for page in [p for p in self._pages if 0 <= (p << LOG_PAGE) - icm.start < icm.size]:
            del self._pages[page]
            self.card.memory.release(1 << LOG_PAGE)

    def find(self, address: int, n: int = 1) -> SwIcm | None:
        """The allocation that holds the whole range."""
        k = bisect_right(self._starts, address)
        if not k:
            return None
        icm = self.allocations[self._starts[k - 1]]
        offset = address - icm.start
        return icm if offset < icm.size and n <= icm.size - offset else None

    def _check(self, address: int, n: int) -> None:
        if n < 0 or self.find(address, n) is None:
            raise IndexError(f'ICM {address:#x}+{n:#x} is not allocated')

    def read(self, address: int, n: int) -> bytes:
        """``n`` bytes of allocated ICM.

        :raises IndexError: not inside one allocation.
        """
        self._check(address, n)
        out = bytearray()
        while n:
            at = address & (1 << LOG_PAGE) - 1
            k = min(n, (1 << LOG_PAGE) - at)
            page = self._pages.get(address >> LOG_PAGE)
            out += bytes(k) if page is None else page[at:at + k]
            address += k
            n -= k
        return bytes(out)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write to allocated ICM.

        :raises IndexError: not inside one allocation.
        :raises Status: EXCEED_LIM when the card's memory is exhausted.
        """
        self._check(address, len(data))
        done, n = 0, len(data)
        while done < n:
            at = address & (1 << LOG_PAGE) - 1
            k = min(n - done, (1 << LOG_PAGE) - at)
            page = self._pages.get(address >> LOG_PAGE)
            if page is None:
                self.card.memory.charge(1 << LOG_PAGE)
                page = self._pages[address >> LOG_PAGE] = bytearray(1 << LOG_PAGE)
            page[at:at + k] = data[done:done + k]
            address += k
            done += k


@object_type(SW_ICM, 'sw_icm')
def create_sw_icm(card: 'Card', view: prm.View, uid: int) -> SwIcm:
    """General object SW_ICM: log2 of the size in bytes, at the address given."""
    log_size = view['log_sw_icm_size']
    if log_size > 40:
        raise Status('BAD_PARAM', 'log_sw_icm_size')
    return card.icm.allocate(view['sw_icm_start_addr'], 1 << log_size)
