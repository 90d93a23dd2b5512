# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Interleaved keys in every direction: as source and sink of each operation, local and remote, and
below signatures."""
import struct
from collections.abc import Callable

import pytest
from emulator.driver.guest import PAGE, Guest, GuestCq, atomic, connected, inline, raddr, sge
from emulator.driver.signatures import CRC32, NO_DOMAIN, crc_bytes, domain_crc, psv, signature_bsf
from mlx5emu import prm
from mlx5emu.memory.mkey import STRIDED
from mlx5emu.prm.wqe import UMR_INLINE, Op, Syndrome

#: Three rounds of 8 bytes of the first area and 5 of the second, which move on by 20 and 9.
ROUNDS, FIRST, SECOND, STEP_1, STEP_2 = 3, 8, 5, 20, 9
LENGTH = ROUNDS * (FIRST + SECOND)
AREA_2 = 0x800


class Side:
    """Memory with an interleaved key over it, made by a work request."""

    def __init__(self, g: Guest, q, fill: int, bsf: bytes = b'', rounds: int = ROUNDS) -> None:
        self.g, self.base = g, g.alloc(PAGE)
        self.plain = g.mkey(self.base, PAGE)
        g.write(self.base, bytes([fill]) * PAGE)
        self.key = g.create_mkey(b'', 0, access_mode_1_0=2, pd=g.pd, umr_en=1, free=1,
                                 lr=1, qpn=0xffffff, translations_octword_size=4, bsf_en=int(
                                     bool(bsf)), bsf_octword_size=len(bsf) // 16)
        entries = struct.pack('>IIIHH', FIRST + SECOND, STRIDED, rounds, 0, 2)
        entries += struct.pack('>HHIQ', STEP_1, FIRST, self.plain, self.base)
        entries += struct.pack('>HHIQ', STEP_2, SECOND, self.plain, self.base + AREA_2)
        control = prm.new('wqe_umr_ctrl')
        control.buf[0] = UMR_INLINE
        rights = sum(1 << b for b in (17, 18, 19, 20, 21))
        control.set(xlt_octowords=4, xlt_offset=len(bsf) // 16,
                    mkey_mask=1 | 1 << 12 | 1 << 13 | 1 << 29 | rights)
        context = prm.new('mkc')
        context.set(len=rounds * (FIRST + SECOND), qpn=0xffffff, lr=1, lw=1, rr=1, rw=1, a=1,
                    bsf_en=int(bool(bsf)))
        q.post_send(Op.UMR, bytes(control.buf), bytes(context.buf), entries.ljust(64, b'\0'), bsf,
                    imm=self.key)
        assert q.scq.poll()[0]['opcode'] == 0

    def pieces(self) -> list[tuple[int, int]]:
        """(address, bytes) in the order of the key."""
        return [
            piece for k in range(ROUNDS) for piece in ((self.base + k * STEP_1, FIRST),
                                                       (self.base + AREA_2 + k * STEP_2, SECOND))]

    def put(self, data: bytes) -> None:
        """Write what the key shall show."""
        for addr, n in self.pieces():
            self.g.write(addr, data[:n])
            data = data[n:]

    def get(self) -> bytes:
        """What the key shows."""
        return b''.join(self.g.read(addr, n) for addr, n in self.pieces())

    def rest(self) -> bytes:
        """All bytes of the page that the key does not show."""
        page = bytearray(self.g.read(self.base, PAGE))
        for addr, n in sorted(self.pieces(), reverse=True):
            del page[addr - self.base:addr - self.base + n]
        return bytes(page)


class Traffic:
    """Two connected QPs with an interleaved key each."""

    def __init__(self, g: Guest) -> None:
        self.g = g
        self.a, self.b = connected(g, rcq=GuestCq(g))
        self.near, self.far = Side(g, self.a, 0x11), Side(g, self.b, 0x22)

    def done(self) -> None:
        """Everything completed well."""
        assert [c['opcode'] for c in self.a.scq.poll()] == [0]


DATA = bytes(range(100, 100 + LENGTH))


def send(t: Traffic) -> None:
    """Gather into scatter."""
    t.near.put(DATA)
    t.b.post_recv((0, LENGTH, t.far.key))
    t.a.post_send(Op.SEND, sge(0, LENGTH, t.near.key))


def write(t: Traffic) -> None:
    """Gather into a remote key."""
    t.near.put(DATA)
    t.a.post_send(Op.WRITE, raddr(0, t.far.key), sge(0, LENGTH, t.near.key))


def write_with_immediate(t: Traffic) -> None:
    """Inline data into a remote key."""
    t.b.post_recv((0, 0, t.far.key))
    t.a.post_send(Op.WRITE_IMM, raddr(0, t.far.key), inline(DATA))


def read(t: Traffic) -> None:
    """A remote key into a scatter list."""
    t.near, t.far = t.far, t.near
    t.near.put(DATA)
    t.a.post_send(Op.READ, raddr(0, t.near.key), sge(0, LENGTH, t.far.key))


@pytest.mark.parametrize('operation', [send, write, write_with_immediate, read])
def test_both_ways(guest: Guest, operation: Callable[[Traffic], None]) -> None:
    """Data arrive piece by piece, and nothing between the pieces is touched."""
    t = Traffic(guest)
    between = t.near.rest(), t.far.rest()
    operation(t)
    t.done()
    assert t.far.get() == DATA
    assert {t.near.rest(), t.far.rest()} == set(between)


@pytest.mark.parametrize(('at', 'n'), [(0, 1), (7, 2), (8, 5), (12, 2), (13, 13), (25, 14),
                                       (38, 1)])
def test_parts(guest: Guest, at: int, n: int) -> None:
    """From any byte to any byte."""
    t = Traffic(guest)
    t.near.put(DATA)
    t.a.post_send(Op.WRITE, raddr(at, t.far.key), sge(at, n, t.near.key))
    t.done()
    assert t.far.get() == b'\x22' * at + DATA[at:at + n] + b'\x22' * (LENGTH - at - n)


def test_atomics(guest: Guest) -> None:
    """Eight bytes of one piece, and eight over two; the old value into pieces too."""
    t = Traffic(guest)
    t.far.put(bytes(range(LENGTH)))
    t.a.post_send(Op.FA, raddr(8, t.far.key), atomic(1), sge(6, 8, t.near.key))
    t.done()
    assert t.near.get()[6:14] == bytes(range(8, 16))
    assert t.far.get()[8:16] == (int.from_bytes(bytes(range(8, 16)), 'little') + 1).to_bytes(
        8, 'little')


def test_beyond(guest: Guest) -> None:
    """The last round is the end, though areas go on; local and remote."""
    t = Traffic(guest)
    t.a.post_send(Op.WRITE, raddr(1, t.far.key), sge(0, LENGTH, t.near.key))
    assert t.a.scq.poll()[0]['syndrome'] == Syndrome.REMOTE_ACCESS
    t = Traffic(guest)
    t.a.post_send(Op.WRITE, raddr(0, t.far.key), sge(1, LENGTH, t.near.key))
    assert t.a.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_PROT
    assert t.far.get() == b'\x22' * LENGTH


def test_below_a_signature(guest: Guest) -> None:
    """Blocks and their signatures lie interleaved in memory; only data is on the wire."""
    a, b = connected(guest, rcq=GuestCq(guest))
    rounds = 40
    number = psv(a, 0xffffffff << 32)
    a.scq.poll()
    side = Side(guest, a, 0, signature_bsf(domain_crc(number, CRC32), NO_DOMAIN), rounds)
    far = guest.alloc(PAGE)
    far_key = guest.mkey(far, PAGE)
    data = bytes(k & 0xff for k in range(512))
    guest.write(far, data)
    b.post_send(Op.WRITE, raddr(0, side.key), sge(far, 512, far_key))
    stream = b''.join(
        guest.read(side.base + k * STEP_1, FIRST) +
        guest.read(side.base + AREA_2 + k * STEP_2, SECOND) for k in range(rounds))
    assert stream[:516] == data + crc_bytes(CRC32, data) and not any(stream[516:])
