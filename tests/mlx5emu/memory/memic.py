# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""MEMIC: the memory on the card that BAR0 shows, ALLOC_MEMIC and DEALLOC_MEMIC.

The window is a memfd, so that the VM maps it and reads and writes it without the card's help.
"""
import mmap
import os
import weakref
from typing import TYPE_CHECKING

from ..firmware.caps import (
    LOG_MIN_MEMIC,
    MEMIC_INCREMENT,
    MEMIC_OPERATION_START,
    MEMIC_SIZE,
    MEMIC_START,
    MEMIC_TEST_AND_SET,
)
from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..firmware.tables import Object

if TYPE_CHECKING:
    from ..card import Card

OPERATION_SIZE_FIELDS = ('memic_increment_size', 'memic_test_and_set_size')


class MemicRange(Object):
    """One allocation; its number in the table is its offset in BAR0."""

    kind = 'memic'

    def __init__(self, start: int, size: int) -> None:
        super().__init__()
        self.number, self.size = start, size
        #: Operation types with an address.
        self.operations: set[int] = set()


class Memic:
    """The memory and what is allocated of it."""

    def __init__(self, card: 'Card') -> None:
        self.fd = os.memfd_create('mlx5emu-memic', os.MFD_CLOEXEC)
        # The VM maps the file at the window's offset in BAR0; what is before that stays a hole.
        os.ftruncate(self.fd, MEMIC_START + MEMIC_SIZE)
        self.mem = mmap.mmap(self.fd, MEMIC_SIZE, offset=MEMIC_START)
        self.card = weakref.proxy(card)
        self._close_fd = weakref.finalize(self, os.close, self.fd)
        self.ranges: dict[int, MemicRange] = {}

    def reset(self) -> None:
        """Nothing is allocated any more and the memory is zero."""
        self.ranges.clear()
        self.mem[:] = bytes(MEMIC_SIZE)

    def close(self) -> None:
        """Give the memory back to the host."""
        self.mem.close()
        self._close_fd()

    def _at(self, bar_offset: int, n: int) -> int:
        at = bar_offset - MEMIC_START
        if at < 0 or n < 0 or at > MEMIC_SIZE or n > MEMIC_SIZE - at:
            raise IndexError(f'MEMIC {bar_offset:#x}+{n:#x} is outside the window')
        return at

    def read(self, bar_offset: int, n: int) -> bytes:
        """``n`` bytes from an offset in BAR0.

        :raises IndexError: outside the window.
        """
        at = self._at(bar_offset, n)
        return self.mem[at:at + n]

    def write(self, bar_offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write at an offset in BAR0.

        :raises IndexError: outside the window.
        """
        at = self._at(bar_offset, len(data))
        self.mem[at:at + len(data)] = bytes(data)

    def find(self, bar_offset: int, n: int = 1) -> MemicRange | None:
        """The allocation that holds the whole range."""
        for start, r in self.ranges.items():
            if start <= bar_offset and bar_offset - start <= r.size and n <= r.size - (bar_offset -
                                                                                       start):
                return r
        return None

    # ---- operation addresses

    def _operand(self, bar_offset: int, n: int) -> tuple[int, int] | None:
        """(operation, offset of the operand in the window) of an access that the card performs."""
        operation, at = divmod(bar_offset - MEMIC_OPERATION_START, MEMIC_SIZE)
        r = self.find(MEMIC_START + at, n)
        if r is None or operation not in r.operations or n not in (1, 2, 4, 8) or at % n:
            return None
        if not self.card.caps.page('device_memory')[OPERATION_SIZE_FIELDS[operation]] & n:
            return None
        return operation, at

    def operate_read(self, bar_offset: int, n: int) -> bytes:
        """Read an operation address: test-and-set gives the old value and leaves 1; increment gives
        the value.

        Values are big-endian, as in cards up to ConnectX-7; what those return where no operation
        is, is not published: all ones here.
        """
        found = self._operand(bar_offset, n)
        if found is None:
            return b'\xff' * n
        operation, at = found
        old = self.mem[at:at + n]
        if operation == MEMIC_TEST_AND_SET:
            self.mem[at:at + n] = (1).to_bytes(n, 'big')
        return old

    def operate_write(self, bar_offset: int, data: bytes) -> None:
        """Write an operation address: increment adds the big-endian value to the big-endian one;
        test-and-set ignores writes."""
        n = len(data)
        found = self._operand(bar_offset, n)
        if found is None or found[0] != MEMIC_INCREMENT:
            return
        at = found[1]
        total = int.from_bytes(self.mem[at:at + n], 'big') + int.from_bytes(data, 'big')
        self.mem[at:at + n] = (total & (1 << 8 * n) - 1).to_bytes(n, 'big')

    def place(self, size: int, align: int, low: int, high: int) -> int:
        """First free offset of ``size`` bytes in [low, high), a multiple of ``align``.

        :raises Status: NO_RES when there is none, upon which the driver asks for another range.
        """
        at = -(-low // align) * align
        for start in sorted(self.ranges):
            end = start + self.ranges[start].size
            if end <= at:
                continue
            if start >= at and size <= start - at:
                break
            at = -(-end // align) * align
        if at > high or size > high - at:
            raise Status('NO_RES', 'no MEMIC of that size in the range')
        return at


@command('ALLOC_MEMIC', kernel=True)
def alloc_memic(card: 'Card', cmd: Command) -> None:
    """Allocate inside the range asked for; size and alignment as the device memory capabilities
    say."""
    size, log_align = cmd.inp['memic_size'], cmd.inp['log_memic_addr_alignment']
    low, length = cmd.inp['range_start_addr'], cmd.inp['range_size']
    caps = card.caps.page('device_memory')
    if not size or size % (1 << LOG_MIN_MEMIC) or size > caps['max_memic_size']:
        raise Status('BAD_PARAM', 'memic_size')
    if log_align > caps['log_max_memic_addr_alignment']:
        raise Status('BAD_PARAM', 'log_memic_addr_alignment')
    if low < MEMIC_START or low - MEMIC_START > MEMIC_SIZE or length > MEMIC_SIZE - (
            low - MEMIC_START) or size > length:
        raise Status('BAD_PARAM', 'MEMIC range')
    start = card.memic.place(size, 1 << LOG_MIN_MEMIC + log_align, low, low + length)
    r = MemicRange(start, size)
    r.uid = cmd.uid
    card.memic.ranges[start] = r
    cmd.out['memic_start_addr'] = start


@command('DEALLOC_MEMIC', kernel=True)
def dealloc_memic(card: 'Card', cmd: Command) -> None:
    """Free exactly what was allocated. Refused while a key covers it."""
    start, size = cmd.inp['memic_start_addr'], cmd.inp['memic_size']
    r = card.memic.ranges.get(start)
    if r is None or r.size != size:
        raise Status('BAD_RES', 'no such MEMIC allocation')
    if r.refs:
        raise Status('BAD_RES_STATE', 'MEMIC is in use')
    del card.memic.ranges[start]


@command('MODIFY_MEMIC', op_mods=(0, 1), kernel=True)
def modify_memic(card: 'Card', cmd: Command) -> None:
    """Op_mod 0: give an operation address for an allocation; 1: take it back."""
    operation, start = cmd.inp['memic_operation_type'], cmd.inp['memic_start_addr']
    r = card.memic.ranges.get(start)
    if r is None:
        raise Status('BAD_RES', 'no such MEMIC allocation')
    if not card.caps.page('device_memory')['memic_operations'] >> operation & 1:
        raise Status('BAD_PARAM', 'memic_operation_type')
    if cmd.op_mod == 0:
        if operation in r.operations:
            raise Status('BAD_RES_STATE', 'the operation has an address already')
        r.operations.add(operation)
        cmd.out['memic_operation_addr'] = (MEMIC_OPERATION_START + operation * MEMIC_SIZE +
                                           (start - MEMIC_START))
    else:
        if operation not in r.operations:
            raise Status('BAD_RES', 'the operation has no address')
        r.operations.remove(operation)
