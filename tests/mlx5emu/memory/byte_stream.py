# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Memory behind a key with a byte stream format: what is on the wire is not what is in memory.

Addresses and byte counts under such a key are those of the wire: a block of 512 bytes with a
T10-DIF signature takes 520.  From memory to wire the signatures of the memory domain are checked
and taken away, data is encrypted or decrypted, and signatures of the wire domain are added; from
wire to memory the same goes backwards.
"""
from typing import TYPE_CHECKING, Any, NamedTuple

from . import encryption_key, signature_error
from .bsf import MEMORY_SIGNATURE, RAW_MEMORY, RAW_WIRE, WIRE_SIGNATURE, Bsf, Crypto, Domain
from .mkey import AccessError, Mkey, PageFault, Run
from .transfer import InlineData, copy, read_all

if TYPE_CHECKING:
    from ..card import Card

#: Most bytes of the streams of one message on one side: it is worked on in one go, a block after
#: the other.
MAX_MESSAGE = 4 << 20
#: What a byte of a stream costs, in bytes that are only copied: it counts against the turn of a
#: queue.
WORK_PER_BYTE = 8


class Extent(NamedTuple):
    """Where an access lies, and how long it is, in the stream on the wire, of data alone, and in
    memory."""
    wire: int
    wire_bytes: int
    data: int
    data_bytes: int
    memory: int
    memory_bytes: int


def extent(bsf: Bsf, offset: int, n: int) -> Extent:
    """Find an access of ``n`` bytes from ``offset`` in all three streams.

    :raises AccessError: it begins inside a block.
    """
    signature = bsf.signature
    inside, outside = (signature.memory, signature.wire) if signature is not None else (None, None)
    data, count = offset, n
    if outside is not None:
        whole = outside.block + outside.size
        blocks, rest = divmod(offset, whole)
        if rest:
            raise AccessError('access begins inside a block')
        data = blocks * outside.block
        blocks, rest = divmod(n, whole)
        count = blocks * outside.block + min(rest, outside.block)
    memory, length = data, count
    if inside is not None:
        blocks, rest = divmod(data, inside.block)
        if rest:
            raise AccessError('access begins inside a block')
        memory = blocks * (inside.block + inside.size)
        length = count + count // inside.block * inside.size
    return Extent(offset, n, data, count, memory, length)


class ByteStream:
    """One access, as a memory that a run can name: its byte 0 is the first on the wire.

    It is read, or written once from end to end; what is written gets to memory with the last byte.
    """

    def __init__(self, card: 'Card', mkey: Mkey, bsf: Bsf, at: Extent, runs: list[Run], qpn: int,
                 sending: bool) -> None:
        self.card, self.mkey, self.bsf, self.at = card, mkey, bsf, at
        self.runs, self.qpn, self.sending = runs, qpn, sending
        self._transient: dict[int, int] = {}
        self._dek: encryption_key.EncryptionKey | None = None
        self._wire = b''
        self._written = bytearray()
        signature, crypto = bsf.signature, bsf.crypto
        if signature is not None:
            self._bound(signature.raw_size)
            for domain in (signature.memory, signature.wire):
                if domain is not None:
                    psv = card.psvs.find(domain.psv)
                    if psv is None or psv.pd != mkey.pd:
                        raise AccessError('no such PSV')
                    self._transient[domain.psv] = psv.transient
        if crypto is not None:
            self._bound(crypto.raw_size)
            self._dek = encryption_key.find(card, mkey.pd, crypto)
            self._check_units(crypto)

    def _bound(self, raw_size: int) -> None:
        if self.at.data + self.at.data_bytes > raw_size:
            raise AccessError('raw data size of the format')

    def _check_units(self, crypto: Crypto) -> None:
        start, n = self._encrypted(crypto.order)
        rest = n % crypto.unit
        if start % crypto.unit:
            raise AccessError('access begins inside a data unit')
        if rest and (rest < 16 or n % 16 or rest > crypto.unit - 16):
            raise AccessError('length for the data unit')
        if n > crypto.unit and not self.card.caps.get('aes_xts_multi_block_be_tweak'):
            raise AccessError('more than one data unit')

    def _encrypted(self, order: int) -> tuple[int, int]:
        """Start and length of the stream that is encrypted."""
        at = self.at
        if order == WIRE_SIGNATURE:
            return at.wire, at.wire_bytes
        return (at.memory, at.memory_bytes) if order == MEMORY_SIGNATURE else (at.data,
                                                                               at.data_bytes)

    # ---- as a memory

    def read(self, address: int, n: int) -> bytes:
        """Bytes of the wire's stream."""
        if not self._wire:
            self._wire = self._transmit(read_all(self.runs))
        out = self._wire[address:address + n]
        if address + n >= self.at.wire_bytes:
            self._wire = b''        # a message may have many of these: only the one at work is held
        return out

    def write(self, address: int, data: bytes) -> None:
        """Take the next bytes of the wire's stream."""
        self._written[address:] = data
        if len(self._written) == self.at.wire_bytes:
            wire, self._written = bytes(self._written), bytearray()
            memory = self._receive(wire)
            copy([(InlineData(memory), 0, len(memory))], self.runs, len(memory))

    # ---- the two ways

    def _transmit(self, memory: bytes) -> bytes:
        crypto, at, signature = self.bsf.crypto, self.at, self.bsf.signature
        order = crypto.order if crypto is not None else None
        stream = memory
        if order == MEMORY_SIGNATURE:
            stream = self._crypt(stream, at.memory, sending=True)
        found: list[int] = []
        if signature is not None and signature.memory is not None:
            stream, found = self._strip(stream, signature.memory, in_memory=True)
        if order in (RAW_WIRE, RAW_MEMORY):
            stream = self._crypt(stream, at.data, sending=True)
        if signature is not None and signature.wire is not None:
            stream = self._insert(stream, signature.wire, at.wire_bytes, found)
        if order == WIRE_SIGNATURE:
            stream = self._crypt(stream, at.wire, sending=True)
        return stream

    def _receive(self, wire: bytes) -> bytes:
        crypto, at, signature = self.bsf.crypto, self.at, self.bsf.signature
        order = crypto.order if crypto is not None else None
        stream = wire
        if order == WIRE_SIGNATURE:
            stream = self._crypt(stream, at.wire, sending=False)
        found: list[int] = []
        if signature is not None and signature.wire is not None:
            stream, found = self._strip(stream, signature.wire, in_memory=False)
        if order in (RAW_WIRE, RAW_MEMORY):
            stream = self._crypt(stream, at.data, sending=False)
        if signature is not None and signature.memory is not None:
            stream = self._insert(stream, signature.memory, at.memory_bytes, found)
        if order == MEMORY_SIGNATURE:
            stream = self._crypt(stream, at.memory, sending=False)
        return stream

    def _crypt(self, stream: bytes, start: int, sending: bool) -> bytes:
        crypto = self.bsf.crypto
        assert crypto is not None and self._dek is not None
        self._work(len(stream))
        return encryption_key.crypt(self.card, self._dek, crypto, stream, start // crypto.unit,
                                    sending)

    def _work(self, n: int) -> None:
        self.card.datapath.requester.extra += n * WORK_PER_BYTE

    # ---- signatures, as numbers of 64 bits: guard and two tags, CRC32 in the upper half, or CRC64

    def _compute(self, domain: Domain, data: bytes, index: int) -> int:
        """The signature of block ``index`` of the key."""
        transient = self._transient[domain.psv]
        if domain.dif:
            guard = domain.guard.compute(data, domain.seed if index else transient >> 48)
            ref = (transient + index if domain.increment else transient) & 0xffffffff
            return guard << 48 | (transient >> 32 & 0xffff) << 32 | ref
        shift = 64 - 8 * domain.size
        return domain.guard.compute(data, domain.seed if index else transient >> shift) << shift

    def _strip(self, stream: bytes, domain: Domain, in_memory: bool) -> tuple[bytes, list[int]]:
        """Check signatures and take them away: data, and the signatures that were there."""
        signature = self.bsf.signature
        assert signature is not None
        self._work(len(stream))
        block, whole = domain.block, domain.block + domain.size
        first = self.at.data // block
        parts, found = [], []
        bad: signature_error.SignatureError | None = None
        for k, pos in enumerate(range(0, len(stream), whole)):
            data, raw = stream[pos:pos + block], stream[pos + block:pos + whole]
            parts.append(data)
            if len(raw) < domain.size:
                break
            there = int.from_bytes(raw, domain.guard.order) << 64 - 8 * domain.size
            found.append(there)
            if bad is None and signature.check and not domain.escaped(raw):
                bad = signature_error.compare(domain, signature.check, there,
                                              self._compute(domain, data, first + k),
                                              (first + k) * whole, in_memory)
        if bad is not None:
            signature_error.report(self.card, self.mkey, bad, self.qpn, self.sending)
        return b''.join(parts), found

    def _insert(self, data: bytes, domain: Domain, limit: int, found: list[int]) -> bytes:
        """Add signatures after each whole block, as far as ``limit`` bytes go.

        :param found: signatures of the other side, of which parts may be taken over.
        """
        signature = self.bsf.signature
        assert signature is not None
        self._work(len(data))
        block, first = domain.block, self.at.data // domain.block
        keep = signature_error.byte_mask(signature.copy)
        parts = []
        for k, pos in enumerate(range(0, len(data), block)):
            part = data[pos:pos + block]
            parts.append(part)
            if len(part) == block:
                value = self._compute(domain, part, first + k)
                if keep and k < len(found):
                    value = value & ~keep | found[k] & keep
                value >>= 64 - 8 * domain.size
                parts.append(value.to_bytes(domain.size, domain.guard.order))
        return b''.join(parts)[:limit]


def check_message(streams: int) -> None:
    """Refuse a message with more bytes of streams than the card works on at a time.

    :raises AccessError: too many.
    """
    if streams > MAX_MESSAGE:
        raise AccessError('more than the byte streams of a message may be')


def is_stream(runs: list[Run]) -> bool:
    """Whether an access is to a byte stream."""
    return len(runs) == 1 and isinstance(runs[0][0], ByteStream)


def open_stream(card: 'Card', mkey: Mkey, addr: int, n: int, write: bool, qpn: int,
                sending: bool) -> list[Run]:
    """The one run of an access to a key that has formats.

    :param sending: whether a work request of ``qpn`` names the key; else the queue receives, or
        another names it remotely.
    :raises PageFault: a page is absent.
    :raises AccessError: refused.
    """
    bsf = mkey.bsf if mkey.bsf_en else None
    if mkey.crypto_en and (bsf is None or bsf.crypto is None):
        raise AccessError('encryption is not configured')
    assert bsf is not None
    check_message(n)
    offset = addr - mkey.start
    if offset < 0:
        raise AccessError('range')
    at = extent(bsf, offset, n)
    first = mkey.start + at.memory
    try:
        runs = mkey.translate(first, at.memory_bytes, write)
    except PageFault as e:
        # The driver is to bring in what lies in memory, which may be more than is on the wire.
        e.key, e.addr, e.n = mkey.number << 8 | mkey.variant, first, at.memory_bytes
        raise
    stream: Any = ByteStream(card, mkey, bsf, at, runs, qpn, sending)
    return [(stream, 0, n)]
