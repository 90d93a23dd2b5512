# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Memory keys: CREATE_MKEY, QUERY_MKEY, DESTROY_MKEY, and what an address means under a key.

A translation is a list of runs ``(memory, address, length)``; a memory has ``read(address, n)`` and
``write(address, data)``: guest memory, MEMIC, SW ICM, or nothing at all (the null key).
"""
import struct
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from ..dma import DmaError
from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..firmware.tables import Object, declare

if TYPE_CHECKING:
    from ..card import Card
    from .bsf import Bsf
    from .umem import Umem

#: Keys that every card has; the driver learns them by QUERY_SPECIAL_CONTEXTS.
TERMINATE_SCATTER_LIST_KEY, RESERVED_LKEY, NULL_KEY, DUMP_FILL_KEY = 0x100, 0x200, 0x300, 0x500

#: Access rights.
LOCAL_READ, LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, ATOMIC = 1, 2, 4, 8, 16
#: Access modes.
PA, MTT, KLM, KSM, SW_ICM, MEMIC, CROSSING = 0, 1, 2, 3, 4, 5, 6
#: QP number of a key that any QP may use.
ANY_QP = 0xffffff
#: Stands for the PD of a queue that is not held to one: the driver's UMR QP has none.
ANY_PD = -1
#: Bits of an MTT: the page may be read, may be written; neither: it is absent.
READABLE, WRITABLE = 1, 2
#: Errors of the driver until an indirect access to an absent page is refused.
INDIRECT_LOOKS = 10
#: log2 bytes of the page size beside the usual ones: the driver makes a key of such pages, all
#: absent, to be told of each access.
HUGEST_PAGE_SHIFT = 61
#: Deepest nesting of keys that name keys.
MAX_DEPTH = 4
#: Most runs of one translation: what a hostile list of tiny pieces can make the card build for one
#: message.
MAX_RUNS = 1 << 19
#: Bytes that a key's byte stream formats take of the card's memory.
FORMATS_COST = 1024
#: First doubleword pair of a strided (interleaved) list, where a KLM has its key.
STRIDED = 0x400

_MKC = struct.Struct('>II4xIQQI16xIII')
_ADDRESS = (1 << 64) - 1 & ~0xff
_BLOCK = struct.Struct('>IIIHH')
_BLOCK_ENTRY = struct.Struct('>HHIQ')

Run = tuple[Any, int, int]


class AccessError(Exception):
    """A key or range that the access may not have."""


class PageFault(AccessError):
    """A page that is not present, or not writable; where on-demand paging is not at work, an access
    error like others.

    :param mkey: the key whose translation entry is absent.
    :param addr: the first address under it that is absent.
    :param n: bytes from there to the end of the access under that key.
    """

    def __init__(self, mkey: 'Mkey', addr: int, n: int) -> None:
        super().__init__('page is not present')
        self.leaf, self.leaf_addr, self.leaf_n = mkey.number << 8 | mkey.variant, addr, n
        #: The access as it was asked for: key, address and bytes.
        self.key, self.addr, self.n = self.leaf, addr, n

    @property
    def looks(self) -> int:
        """Resumes with an error after which the access is refused.

        The driver forgets a part of an implicit key before it takes it out of that key: a fault of
        the part comes back as an error though the access is allowed, so an indirect access looks
        again a few times.
        """
        return 1 if self.leaf == self.key else INDIRECT_LOOKS


class NullMemory:
    """Behind the null key: reads zeroes, swallows writes."""

    def read(self, address: int, n: int) -> bytes:
        """Zeroes."""
        return bytes(n)

    def write(self, address: int, data: bytes) -> None:
        """Nothing is kept."""


_NULL = NullMemory()


class Mkey(Object):
    """A memory key: its context (``mkc``, as the PRM lays it out) and its translation entries."""

    kind = declare('mkey', 'mkeys', 0x10, 1 << 18, destroy=('DESTROY_MKEY', 'mkey_index'))

    def __init__(self, card: 'Card', mkc: bytes, entries: 'array[int]', capacity: int) -> None:
        super().__init__()
        self.card, self.mkc, self.entries = card, bytearray(mkc), entries
        #: Octowords (16 bytes) of translation entries that the key may hold.
        self.capacity = capacity
        self.umem: Umem | None = None
        self.umem_offset = 0
        self.domain: Object | None = None
        #: Signatures and encryption, when a UMR brought some; they are in force while the context
        #: says bsf_en.
        self.bsf: Bsf | None = None
        #: Signature errors that were reported, modulo two.
        self.sigerr_count = 0
        self._bases: list[int] | None = None
        self.decode()

    def decode(self) -> None:
        """Read the context into attributes, after it was made or changed."""
        (w0, w1, w3, self.start, self.length, self.bsf_octowords, self.octowords, w14,
         w15) = _MKC.unpack_from(self.mkc)
        self.free = bool(w0 >> 30 & 1)
        self.mode = w0 >> 8 & 3 | (w0 >> 26 & 7) << 2
        self.rights = w0 >> 10 & 0x1f
        self.umr_en = bool(w0 >> 15 & 1)
        self.qpn, self.variant = w1 >> 8, w1 & 0xff
        self.length64, self.bsf_en, self.en_rinval = bool(w3 >> 31), bool(w3 >> 30 &
                                                                          1), bool(w3 >> 24 & 1)
        self.pd = w3 & 0xffffff
        self.expected_sigerr_count = w3 >> 26 & 1
        self.shift = w14 & 0x3f
        self.crypto_en = w15 >> 27 & 3
        #: What is on the wire differs from what is in memory.
        self.streamed = self.bsf_en and self.bsf is not None or self.crypto_en != 0
        self._bases = None

    def destroyed(self) -> None:
        """Let go of the protection domain."""
        self.belong(None)
        super().destroyed()

    def belong(self, pd: Object | None) -> None:
        """Hold the protection domain that the key belongs to, and let go of the former one."""
        if pd is not None:
            pd.hold()
        if self.domain is not None:
            self.domain.drop()
        self.domain = pd

    # ---- checks

    def check(self, variant: int, right: int, pd: int, qpn: int) -> None:
        """What every access has to pass before its range is looked at.

        :raises AccessError: wrong key byte, free, foreign PD, bound to another QP, or without the
            right.
        """
        if self.variant != variant:
            raise AccessError('key byte')
        if self.free:
            raise AccessError('key is free')
        if self.pd != pd != ANY_PD:
            raise AccessError('protection domain')
        if not self.rights & right:
            raise AccessError('access right')
        if self.qpn != ANY_QP and self.qpn != qpn:
            raise AccessError('key is bound to another QP')

    # ---- translation

    def translate(self, addr: int, n: int, write: bool, depth: int = 0) -> list[Run]:
        """Runs of ``n`` > 0 bytes from ``addr``; rights were checked by :meth:`check`.

        :param write: whether the runs will be written.
        :raises AccessError: outside the key, an entry that is not present or refers to a key that
            may not be used.
        """
        mode = self.mode
        off = addr - self.start if mode not in (SW_ICM, MEMIC) else addr
        if not self.length64 and (off < 0 or off > self.length or n > self.length - off):
            raise AccessError('range')
        if mode == MTT:
            if self.umem is not None:
                return self._umem_runs(off, n, write)
            return self._mtt_runs(off, n, write)
        if mode == PA:
            return [(self.card.dma, addr, n)]
        if mode in (KLM, KSM):
            if depth >= MAX_DEPTH:
                raise AccessError('keys nested too deep')
            return self._indirect_runs(off, n, write, depth)
        if mode == MEMIC:
            return [(self.card.memic, self.start + off, n)]
        if mode == SW_ICM:
            return [(self.card.icm, self.start + off, n)]
        raise AccessError('access mode')

    def _mtt_runs(self, off: int, n: int, write: bool) -> list[Run]:
        shift, entries, dma = self.shift, self.entries, self.card.dma
        mask = (1 << shift) - 1
        pos = off + (self.start & mask)
        page, at = pos >> shift, pos & mask
        need = WRITABLE if write else READABLE
        try:
            entry = entries[page]
            if not entry & need:
                raise PageFault(self, self.start + off, n)
            k = mask + 1 - at
            if n <= k:
                return [(dma, (entry & _ADDRESS) + at, n)]
            start, length = (entry & _ADDRESS) + at, k
            end = off + n
            out: list[Run] = []
            n -= k
            while n:
                page += 1
                entry = entries[page]
                if not entry & need:
                    raise PageFault(self, self.start + end - n, n)
                k = n if n <= mask else mask + 1
                addr = entry & _ADDRESS
                if addr == start + length:
                    length += k
                else:
                    out.append((dma, start, length))
                    start, length = addr, k
                n -= k
        except IndexError:
            raise AccessError('no translation entry') from None
        out.append((dma, start, length))
        return out

    def _umem_runs(self, off: int, n: int, write: bool) -> list[Run]:
        assert self.umem is not None
        dma = self.card.dma
        try:
            return [(dma, a, k) for a, k in self.umem.pieces(self.umem_offset + off, n, write)]
        except DmaError as e:
            raise AccessError(str(e)) from e

    def _index(self) -> list[int]:
        """Start offset of each KLM in the key's range, and the end of the last."""
        if self._bases is None:
            bases, base = [0], 0
            for k in range(0, len(self.entries) & ~1, 2):
                base += (self.entries[k] >> 32) or (1 << 31 if self.entries[k] & 0xffffffff else 0)
                bases.append(base)
            self._bases = bases
        return self._bases

    def _indirect_runs(self, off: int, n: int, write: bool, depth: int) -> list[Run]:
        entries = self.entries
        if self.mode == KLM and len(entries) >= 2 and entries[0] & 0xffffffff == STRIDED:
            return self._strided_runs(off, n, write, depth)
        out: list[Run] = []
        if self.mode == KSM:
            # The first part begins where the key begins, whatever address that is.
            mask, pos = (1 << self.shift) - 1, off
            while n:
                i, at = pos >> self.shift, pos & mask
                if 2 * i + 1 >= len(entries):
                    raise AccessError('no translation entry')
                k = min(n, mask + 1 - at)
                self._child(out, entries[2 * i] & 0xffffffff, entries[2 * i + 1] + at, k, write,
                            depth)
                pos += k
                n -= k
            return out
        bases = self._index()
        i = bisect_right(bases, off) - 1
        while n:
            if i >= len(bases) - 1:
                raise AccessError('no translation entry')
            at = off - bases[i]
            k = min(n, bases[i + 1] - off)
            if k:
                self._child(out, entries[2 * i] & 0xffffffff, entries[2 * i + 1] + at, k, write,
                            depth)
            off += k
            n -= k
            i += 1
        return out

    def _strided_runs(self, off: int, n: int, write: bool, depth: int) -> list[Run]:
        """A repeat block: each cycle takes ``byte count`` bytes of each entry, whose address moves
        on by its stride."""
        raw = b''.join(e.to_bytes(8, 'big') for e in self.entries)
        cycle, _, repeat, _, count = _BLOCK.unpack_from(raw)
        if len(raw) < SIZE_OF_BLOCK_ENTRY * (count + 1):
            raise AccessError('no translation entry')
        parts = [_BLOCK_ENTRY.unpack_from(raw, SIZE_OF_BLOCK_ENTRY * (k + 1)) for k in range(count)]
        if not cycle or sum(p[1] for p in parts) != cycle:
            raise AccessError('strided list does not add up')
        out: list[Run] = []
        rnd, at = divmod(off, cycle)
        while n:
            if rnd >= repeat:
                raise AccessError('no translation entry')
            for stride, length, key, addr in parts:
                if at >= length:
                    at -= length
                    continue
                k = min(n, length - at)
                self._child(out, key, addr + rnd * stride + at, k, write, depth)
                n -= k
                at = 0
                if not n:
                    break
            rnd += 1
        return out

    def _child(self, out: list[Run], key: int, addr: int, n: int, write: bool, depth: int) -> None:
        if key == NULL_KEY:
            if self.mode == KSM and self.card.caps.get('pg'):
                # A part of an implicit on-demand key that has no key of its own yet.
                raise PageFault(self, addr, n)
            out.append((_NULL, 0, n))
            return
        child = self.card.mkeys.find(key >> 8)
        if child is None:
            raise AccessError('no such key')
        child.check(key & 0xff, LOCAL_WRITE if write else LOCAL_READ, self.pd, self.qpn)
        if child.streamed:
            raise AccessError('a key with a byte stream format below another key')
        out += child.translate(addr & (1 << 64) - 1, n, write, depth + 1)
        if len(out) > MAX_RUNS:
            raise AccessError('too many pieces')

    # ---- change

    def store(self, at: int, values: 'array[int]') -> None:
        """Replace translation entries from 64-bit word ``at`` on.

        :raises AccessError: beyond the key's capacity.
        :raises Status: EXCEED_LIM when the card's memory is exhausted.
        """
        if at > 2 * self.capacity or len(values) > 2 * self.capacity - at:
            raise AccessError('translation entries beyond the size of the key')
        grow = at + len(values) - len(self.entries)
        if grow > 0:
            self.charge(self.card.memory, 8 * grow)
            self.entries.extend([0] * grow)
        self.entries[at:at + len(values)] = values
        self._bases = None


SIZE_OF_BLOCK_ENTRY = _BLOCK_ENTRY.size


def resolve(card: 'Card', key: int, addr: int, n: int, right: int, pd: int, qpn: int,
            sending: bool = False) -> list[Run]:
    """Runs of ``n`` bytes from ``addr`` under ``key``, for a queue of protection domain ``pd``.

    :param right: one of LOCAL_READ .. ATOMIC.
    :param qpn: number of the queue, for keys bound to one.
    :param sending: whether a work request of the queue's send side names the key.
    :raises PageFault: a page is absent.
    :raises AccessError: refused.
    """
    mkey = card.mkeys.find(key >> 8)
    if mkey is None:
        if key == NULL_KEY:
            return [(_NULL, 0, n)]
        raise AccessError('no such key')
    mkey.check(key & 0xff, right, pd, qpn)
    if not n:
        return []
    write = right & (LOCAL_WRITE | REMOTE_WRITE | ATOMIC) != 0
    if mkey.streamed:
        if right == ATOMIC:
            raise AccessError('atomic access to a byte stream')
        from .byte_stream import open_stream  # it needs this file
        return open_stream(card, mkey, addr, n, write, qpn, sending)
    try:
        return mkey.translate(addr, n, write)
    except PageFault as e:
        e.key, e.addr, e.n = key, addr, n
        raise


# ---- commands

_MODES = (PA, MTT, KLM, KSM, SW_ICM, MEMIC)


def _entries(raw: bytes, at: int, octowords: int) -> 'array[int]':
    out: array[int] = array('Q')
    need = 16 * octowords
    if len(raw) - at < need:
        raise Status('BAD_INP_LEN',
                     'fewer translation entries than translations_octword_actual_size')
    out.frombytes(bytes(raw[at:at + need]))
    out.byteswap()
    return out


def _check_formats(card: 'Card', mkey: Mkey) -> None:
    if mkey.bsf_en:
        if not card.caps.get('sho') or mkey.mode not in (MTT, KLM,
                                                         KSM) or mkey.bsf_octowords not in (4, 8):
            raise Status('BAD_PARAM', 'bsf_octword_size')
    elif mkey.bsf_octowords:
        raise Status('BAD_PARAM', 'bsf_octword_size without bsf_en')
    if mkey.crypto_en and (mkey.crypto_en != 1 or not card.caps.get('crypto') or not mkey.bsf_en):
        raise Status('BAD_PARAM', 'crypto_en')


@command('CREATE_MKEY')
def create_mkey(card: 'Card', cmd: Command) -> None:
    """Check the context against the PD, the page sizes and the memory that the access mode
    names."""
    inp = cmd.inp
    at = inp.offset('memory_key_mkey_entry')
    actual = inp['translations_octword_actual_size']
    mkey = Mkey(card, cmd.raw[at:at + 64], array('Q'), 0)
    if mkey.mode not in _MODES:
        raise Status('BAD_PARAM', 'access_mode_1_0, access_mode_4_2')
    if mkey.mode == PA and (cmd.uid or inp['mkey_umem_valid']):
        raise Status('BAD_PARAM', "a physical key is the kernel's")
    _check_formats(card, mkey)
    pd = card.pds.get(mkey.pd, cmd.uid) if mkey.pd else None
    if pd is None and not mkey.free:
        raise Status('BAD_RES', 'pd: there is none of that number')
    mkey.capacity = max(actual, mkey.octowords)
    if mkey.capacity > 1 << 26:
        raise Status('BAD_PARAM', 'translations_octword_size')
    if mkey.mode in (MTT, KSM) and not mkey.free and not 12 <= mkey.shift <= 52 and (
            mkey.mode == KSM or mkey.shift != HUGEST_PAGE_SHIFT):
        raise Status('BAD_PARAM', 'log_page_size')
    if not mkey.length64 and mkey.mode != PA and mkey.start + mkey.length > 1 << 64:
        raise Status('BAD_PARAM', 'start_addr and len wrap')
    memory: Object | None = None
    cost = 0
    if mkey.mode == MEMIC:
        memory = card.memic.find(mkey.start, mkey.length)
        if memory is None:
            raise Status('BAD_PARAM', 'range is not allocated MEMIC')
    elif mkey.mode == SW_ICM:
        memory = card.icm.find(mkey.start, mkey.length)
        if memory is None:
            raise Status('BAD_PARAM', 'range is not allocated SW ICM')
    elif mkey.mode == MTT and inp['mkey_umem_valid']:
        umem = card.umems.get(inp['mkey_umem_id'], cmd.uid)
        offset = inp['mkey_umem_offset']
        if offset > umem.size or mkey.length > umem.size - offset:
            raise Status('BAD_PARAM', 'range is outside the umem')
        mkey.umem, mkey.umem_offset, memory = umem, offset, umem
    elif actual:
        if mkey.mode not in (MTT, KLM, KSM):
            raise Status('BAD_PARAM', 'translation entries in this access mode')
        mkey.entries = _entries(cmd.raw, inp.offset('klm_pas_mtt'), actual)
        if mkey.mode == MTT and not inp['pg_access']:
            # The command's list says nothing of presence: every page of it is.
            mkey.entries = array('Q', [e | READABLE | WRITABLE for e in mkey.entries])
        cost = 16 * actual
    if mkey.bsf_octowords:
        cost += FORMATS_COST
    cmd.out['mkey_index'] = card.mkeys.alloc(mkey, cmd.uid, cost=cost)
    mkey.use(memory)
    mkey.belong(pd)


@command('QUERY_MKEY', min_out=0x50)
def query_mkey(card: 'Card', cmd: Command) -> None:
    """The context as it is now, and the first two octowords of translation when asked for."""
    mkey = card.mkeys.get(cmd.inp['mkey_index'], cmd.uid)
    at = cmd.out.offset('memory_key_mkey_entry')
    cmd.out.buf[at:at + 64] = mkey.mkc
    if cmd.inp['pg_access'] or mkey.mode in (KLM, KSM):
        at = cmd.out.offset('bsf0_klm0_pas_mtt0_1')
        # An indirect key shows as much of its list as the caller has room for, at least two
        # entries.
        first = array(
            'Q', mkey.entries[:max(4,
                                   len(cmd.out.buf) - at >> 3)]
            if mkey.mode in (KLM, KSM) else mkey.entries[:4])
        first.byteswap()
        raw = first.tobytes()
        cmd.out.buf[at:at + len(raw)] = raw


@command('DESTROY_MKEY')
def destroy_mkey(card: 'Card', cmd: Command) -> None:
    """Destroy a key, at once: an access that uses it fails."""
    card.mkeys.free(cmd.inp['mkey_index'], cmd.uid)
