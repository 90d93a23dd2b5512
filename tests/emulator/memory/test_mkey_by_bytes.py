# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Every kind of key against a second opinion: what each single byte of a key is, asked of a model
that knows nothing of runs."""
from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from emulator.driver.guest import PAGE, Guest
from mlx5emu.memory.mkey import KLM, KSM, REMOTE_READ, STRIDED, AccessError, resolve

#: Where one byte of a key is; None: the key has no such byte.
Byte = Callable[[int], int | None]


class Known:
    """A key of the card, its range, and where each of its bytes is."""

    def __init__(self, key: int, start: int, length: int, byte: Byte) -> None:
        self.key, self.start, self.length = key, start, length
        self.byte: Byte = lambda addr: byte(addr) if 0 <= addr - start < length else None


class Keys:
    """Makes random keys."""

    def __init__(self, g: Guest, seed: int) -> None:
        self.g, self.rng = g, random.Random(seed)
        self.memory = g.alloc(64 * PAGE, 1 << 16)

    def start(self, n: int) -> int:
        """A start address, aligned or not, low or at the top."""
        rng = self.rng
        return rng.choice((0, (1 << 64) - n, rng.randrange(1 << 47), rng.randrange(1 << 35) << 12))

    def pages(self) -> Known:
        """Pages of some size in any order, from some byte of the first on."""
        rng, shift = self.rng, self.rng.choice((12, 13, 14))
        size = 1 << shift
        pages = [self.memory + size * rng.randrange((64 * PAGE) >> shift)
                 for _ in range(rng.randint(1, 5))]
        at = rng.choice((0, rng.randrange(size)))
        length = rng.randint(1, len(pages) * size - at)
        # The offset in the first page is that of the start address.
        start = rng.choice((0, rng.randrange(1 << 45) << shift)) + at
        key = self.g.mkey(0, length, va=start, log_page=shift, pages=list(pages))
        return Known(key, start, length, lambda addr: pages[
            (addr - start + at) // size] + (addr - start + at) % size)

    def umem(self) -> Known:
        """A part of a umem."""
        rng = self.rng
        pages = [self.memory + PAGE * rng.randrange(64) for _ in range(rng.randint(1, 5))]
        first = rng.randrange(PAGE)
        size = len(pages) * PAGE - first
        umem = self.g.cmd('CREATE_UMEM', struct.pack(f'>{len(pages)}Q', *(p | 3 for p in pages)),
                          **{'umem.num_of_mtt': len(pages), 'umem.page_offset': first})['umem_id']
        offset = rng.randrange(size)
        length = rng.randint(1, size - offset)
        start = self.start(length)
        key = self.g.create_mkey(
            b'', 0, command={'mkey_umem_valid': 1, 'mkey_umem_id': umem, 'mkey_umem_offset':
                             offset},
            access_mode_1_0=1, pd=self.g.pd, start_addr=start, len=length, qpn=0xffffff, lr=1,
            rr=1, log_page_size=12)
        at = first + offset
        return Known(key, start, length, lambda addr: pages[(addr - start + at) // PAGE] +
                     (addr - start + at) % PAGE)

    def _indirect(self, mode: int, entries: bytes, length: int, shift: int = 0) -> tuple[int, int]:
        start = self.start(length)
        key = self.g.create_mkey(
            entries, len(entries) // 16, access_mode_1_0=mode & 3, access_mode_4_2=mode >> 2,
            pd=self.g.pd, start_addr=start, len=length, qpn=0xffffff, lr=1, rr=1,
            log_page_size=shift)
        return key, start

    def list_of_pieces(self, of: Callable[[], Known]) -> Known:
        """Pieces of keys, one after the other."""
        pieces = []
        for _ in range(self.rng.randint(1, 6)):
            child = of()
            skip = self.rng.randrange(child.length)
            pieces.append((self.rng.randint(1, child.length - skip), child, child.start + skip))
        length = sum(n for n, _, _ in pieces)
        key, start = self._indirect(KLM, b''.join(
            struct.pack('>IIQ', n, child.key, addr) for n, child, addr in pieces), length)

        def byte(addr: int) -> int | None:
            at = addr - start
            for n, child, where in pieces:
                if at < n:
                    return child.byte(where + at)
                at -= n
            return None
        return Known(key, start, length, byte)

    def entities(self, of: Callable[[], Known]) -> Known:
        """Entities of one size, of which a child may cover less than all."""
        shift = self.rng.choice((12, 13, 20, 31))
        parts = []
        for _ in range(self.rng.randint(1, 4)):
            child = of()
            parts.append((child, child.start + self.rng.randrange(child.length)))
        length = self.rng.randint((len(parts) - 1 << shift) + 1, len(parts) << shift)
        key, start = self._indirect(KSM, b''.join(
            struct.pack('>IIQ', 0, child.key, addr) for child, addr in parts), length, shift)

        def byte(addr: int) -> int | None:
            child, where = parts[(addr - start) >> shift]
            return child.byte(where + ((addr - start) & (1 << shift) - 1))
        return Known(key, start, length, byte)

    def interleaved(self, of: Callable[[], Known]) -> Known:
        """Bytes of each of some keys in turn."""
        rng, parts = self.rng, []
        for _ in range(rng.randint(1, 3)):
            child = of()
            parts.append((rng.randrange(64), rng.randint(1, 32), child, child.start))
        rounds, cycle = rng.randint(1, 6), sum(n for _, n, _, _ in parts)
        raw = struct.pack('>IIIHH', cycle, STRIDED, rounds, 0, len(parts)) + b''.join(
            struct.pack('>HHIQ', step, n, child.key, addr) for step, n, child, addr in parts)
        key, start = self._indirect(KLM, raw.ljust(-(-len(raw) // 64) * 64, b'\0'), rounds * cycle)

        def byte(addr: int) -> int | None:
            turn, at = divmod(addr - start, cycle)
            for step, n, child, where in parts:
                if at < n:
                    return child.byte(where + turn * step + at)
                at -= n
            return None
        return Known(key, start, rounds * cycle, byte)

    def any(self, depth: int) -> Known:
        """Some key, of keys of keys as deep as that."""
        if not depth:
            return self.rng.choice((self.pages, self.umem))()
        make = self.rng.choice((self.list_of_pieces, self.entities, self.interleaved))
        return make(lambda: self.any(self.rng.randrange(depth)))


def look(g: Guest, key: Known, addr: int, n: int) -> list[int] | None:
    """Where the card finds each byte, or None when it refuses."""
    try:
        runs = resolve(g.card, key.key, addr, n, REMOTE_READ, g.pd, 1)
    except AccessError:
        return None
    return [a + k for _, a, size in runs for k in range(size)]


@pytest.mark.parametrize('seed', range(60))
def test_each_byte_is_where_the_second_opinion_has_it(guest: Guest, seed: int) -> None:
    """Any key, any range of it: the same bytes, or refused when one of them is not there."""
    keys = Keys(guest, seed)
    rng, found, refused = keys.rng, 0, 0
    for _ in range(5):
        key = keys.any(rng.randrange(4))
        top = (1 << 64) - key.start
        for _ in range(40):
            # Most ranges are near the start, an entity's border or the end; some are outside.
            at = rng.choice((0, rng.randrange(key.length), key.length - 1,
                             min(key.length - 1, rng.choice((1 << 12, 1 << 13, 1 << 20)) - 3)))
            n = min(rng.choice((1, 2, 8, rng.randint(1, 300))), top - at)
            there = [key.byte(key.start + at + k) for k in range(n)]
            want = None if None in there else there
            assert look(guest, key, key.start + at, n) == want, (at, n)
            found, refused = found + (want is not None), refused + (want is None)
    assert found and refused
