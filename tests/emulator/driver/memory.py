# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Guest memory that a card reaches by DMA."""
import mmap
import os

from mlx5emu.card import Card

#: Where the tests' guest memory lies, in bytes.
GUEST_BASE, GUEST_SIZE = 0x1_0000_0000, 32 << 20
PAGE = 4096


class GuestMemory:
    """Memory of a card's guest, with an allocator that only grows."""

    def __init__(self, card: Card, base: int = GUEST_BASE, size: int = GUEST_SIZE) -> None:
        self.card, self.base, self.size, self.used = card, base, size, 0
        fd = os.memfd_create('guest')
        try:
            os.ftruncate(fd, size)
            self.mem = mmap.mmap(fd, size)
            card.dma.map(base, size, fd)
        finally:
            os.close(fd)

    def alloc(self, size: int, align: int = PAGE) -> int:
        """Bus address of ``size`` bytes, zero as long as nothing was given back by ``used``."""
        at = -(-self.used // align) * align
        assert size <= self.size - at, 'the test needs more guest memory'
        self.used = at + size
        return self.base + at

    def read(self, addr: int, n: int) -> bytes:
        """What the guest's CPU would read."""
        return self.mem[addr - self.base:addr - self.base + n]

    def write(self, addr: int, data: bytes) -> None:
        """What the guest's CPU would write."""
        self.mem[addr - self.base:addr - self.base + len(data)] = data
