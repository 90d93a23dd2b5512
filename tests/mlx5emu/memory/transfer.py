# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Copying between runs of memory."""
from ..dma import DmaError
from ..firmware.status import Status
from .mkey import Run

#: Bytes copied at a time: what one message may make the card hold.
CHUNK = 1 << 20

#: What a memory raises for an address that it has not, and SW ICM when the card's memory is
#: exhausted.
MEMORY_ERRORS = (DmaError, IndexError, Status)


class ReadFault(Exception):
    """The source could not be read."""


class WriteFault(Exception):
    """The sink could not be written."""


class InlineData:
    """Bytes of a WQE as a memory that runs can name."""

    __slots__ = ('data',)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, address: int, n: int) -> bytes:
        """``n`` bytes from byte ``address`` of the WQE; the caller checked that they are there."""
        return self.data[address:address + n]


def copy(source: list[Run], sink: list[Run], n: int) -> None:
    """Copy the first ``n`` bytes behind ``source`` to ``sink``; each has at least so many.

    :raises ReadFault: what was copied before stays copied.
    :raises WriteFault: likewise.
    """
    if not n:
        return
    if n <= CHUNK and len(source) == 1 == len(sink):
        memory, addr, _ = source[0]
        try:
            data = memory.read(addr, n)
        except MEMORY_ERRORS as e:
            raise ReadFault(str(e)) from e
        memory, addr, _ = sink[0]
        try:
            memory.write(addr, data)
        except MEMORY_ERRORS as e:
            raise WriteFault(str(e)) from e
        return
    reader, writer = iter(source), iter(sink)
    have = room = 0
    while n:
        if not have:
            rmem, raddr, have = next(reader)
            continue
        if not room:
            wmem, waddr, room = next(writer)
            continue
        k = min(have, room, n, CHUNK)
        try:
            data = rmem.read(raddr, k)
        except MEMORY_ERRORS as e:
            raise ReadFault(str(e)) from e
        try:
            wmem.write(waddr, data)
        except MEMORY_ERRORS as e:
            raise WriteFault(str(e)) from e
        raddr += k
        waddr += k
        have -= k
        room -= k
        n -= k


def read_all(source: list[Run]) -> bytes:
    """All bytes behind ``source``.

    :raises ReadFault: an address is not there.
    """
    try:
        return b''.join([memory.read(addr, n) for memory, addr, n in source])
    except MEMORY_ERRORS as e:
        raise ReadFault(str(e)) from e
