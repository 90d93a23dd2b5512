# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Guest memory by bus address.

Maps come from the vfio-user client as file descriptors and are replaced as the guest's memory
layout changes.  Everything runs in the server's one thread.
"""
import mmap
from bisect import bisect_right

#: Longest single transfer in bytes: what a hostile length field can make the card allocate at once.
MAX_TRANSFER = 64 << 20
_TOP = 1 << 64


class DmaError(Exception):
    """An address that no map holds, a write to a read-only map, or a transfer longer than
    MAX_TRANSFER."""


class _Map:
    __slots__ = ('start', 'size', 'mem', 'view', 'writable')

    def __init__(self, start: int, size: int, mem: mmap.mmap, writable: bool) -> None:
        self.start, self.size, self.mem, self.writable = start, size, mem, writable
        self.view = memoryview(mem)


class Dma:
    """The guest's address space as the card sees it.

    :param max_maps: most maps held at a time; a client asking for more is refused.
    """

    def __init__(self, max_maps: int = 4096) -> None:
        self.max_maps = max_maps
        self._maps: list[_Map] = []
        self._starts: list[int] = []
        self._last: _Map | None = None
        self._own: _Map | None = None

    # ---- maps

    def map(self, addr: int, size: int, fd: int | None, offset: int = 0,
            writable: bool = True) -> None:
        """Map ``size`` bytes of ``fd`` from ``offset`` at bus address ``addr``; the fd stays the
        caller's.

        With no fd the range is memory that the card cannot reach (another device's BAR): it is
        accepted and stays unmapped.

        :raises DmaError: empty, wraps, overlaps another map, too many maps, or cannot be mapped.
        """
        if size <= 0 or addr < 0 or addr >= _TOP or size > _TOP - addr:
            raise DmaError(f'map {addr:#x}+{size:#x} is not a range')
        if fd is None:
            return
        i = bisect_right(self._starts, addr)
        if i and addr - self._maps[i - 1].start < self._maps[i - 1].size:
            raise DmaError(f'map {addr:#x}+{size:#x} overlaps')
        if i < len(self._maps) and self._maps[i].start - addr < size:
            raise DmaError(f'map {addr:#x}+{size:#x} overlaps')
        if len(self._maps) >= self.max_maps:
            raise DmaError('too many maps')
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            mem = mmap.mmap(fd, size, mmap.MAP_SHARED, prot, offset=offset)
        except (OSError, ValueError, OverflowError) as e:
            raise DmaError(f'map {addr:#x}+{size:#x}: {e}') from e
        self._maps.insert(i, _Map(addr, size, mem, writable))
        self._starts.insert(i, addr)

    def unmap(self, addr: int, size: int) -> int:
        """Drop the maps that lie wholly in the range.

        :return: number of maps dropped.
        """
        keep: list[_Map] = []
        dropped: list[_Map] = []
        for m in self._maps:
            inside = m.start >= addr and m.start - addr <= size and m.size <= size - (m.start -
                                                                                      addr)
            (dropped if inside else keep).append(m)
        for m in dropped:
            self._close(m)
        self._set(keep)
        return len(dropped)

    def unmap_all(self) -> None:
        """Drop every map."""
        for m in self._maps:
            self._close(m)
        self._set([])

    def place_own(self, addr: int | None, fd: int = -1, offset: int = 0, size: int = 0) -> None:
        """Say where the card's own memory is on the bus: what a peer, or the card itself by a
        dma-buf of it, addresses.

        :param addr: where, or None while it is nowhere. Guest memory at the same address wins, as
            the root complex would have it.
        """
        old, self._own = self._own, None
        self._last = None
        if old is not None:
            self._close(old)
        if addr is not None:
            self._own = _Map(addr, size, mmap.mmap(fd, size, offset=offset), True)

    @staticmethod
    def _close(m: _Map) -> None:
        m.view.release()
        m.mem.close()

    def _set(self, maps: list[_Map]) -> None:
        self._maps, self._starts, self._last = maps, [m.start for m in maps], None

    def maps(self) -> list[tuple[int, int]]:
        """(address, size) of every map."""
        return [(m.start, m.size) for m in self._maps]

    # ---- transfers

    def _find(self, addr: int) -> _Map:
        i = bisect_right(self._starts, addr)
        if i:
            m = self._maps[i - 1]
            if addr - m.start < m.size:
                self._last = m
                return m
        own = self._own
        if own is not None and 0 <= addr - own.start < own.size:
            return own
        raise DmaError(f'{addr:#x} is not mapped')

    def _pieces(self, addr: int, n: int) -> list[tuple[_Map, int, int]]:
        if n < 0 or n > MAX_TRANSFER:
            raise DmaError(f'transfer of {n:#x} bytes at {addr:#x}')
        out = []
        while n:
            m = self._find(addr)
            at = addr - m.start
            k = min(n, m.size - at)
            out.append((m, at, k))
            addr += k
            n -= k
        return out

    def read(self, addr: int, n: int) -> bytes:
        """``n`` bytes from bus address ``addr``.

        :raises DmaError: some of it is not mapped, or too long.
        """
        m = self._last
        if m is not None:
            at = addr - m.start
            if 0 <= at and at <= m.size and 0 <= n <= m.size - at and n <= MAX_TRANSFER:
                return m.mem[at:at + n]
        pieces = self._pieces(addr, n)
        if len(pieces) == 1:
            m, at, k = pieces[0]
            return m.mem[at:at + k]
        return b''.join(m.mem[at:at + k] for m, at, k in pieces)

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` at bus address ``addr``; nothing is written when some of the range is not
        writable.

        :raises DmaError: not mapped, read-only, or too long.
        """
        n = len(data)
        m = self._last
        if m is not None and m.writable:
            at = addr - m.start
            if 0 <= at and at <= m.size and n <= m.size - at and n <= MAX_TRANSFER:
                m.view[at:at + n] = data
                return
        pieces = self._pieces(addr, n)
        for m, _, _ in pieces:
            if not m.writable:
                raise DmaError(f'{addr:#x}+{n:#x} is read-only')
        done = 0
        source = memoryview(data)
        for m, at, k in pieces:
            m.view[at:at + k] = source[done:done + k]
            done += k

    def read_be32(self, addr: int) -> int:
        """A big-endian doubleword, as doorbell records hold."""
        return int.from_bytes(self.read(addr, 4), 'big')
