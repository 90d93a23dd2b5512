# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Byte stream formats: what a UMR work request says of signatures and encryption behind a memory
key.

64 bytes describe either, 128 bytes a signature and then encryption.  What the card cannot do is
refused when the key is made, not when it is used.
"""
import struct
from dataclasses import dataclass

from .block_guard import CRC32, CRC32C, CRC64, T10_CHECKSUM, T10_CRC, Guard

#: Bytes of one format, and octowords.
BSF_SIZE, BSF_OCTOWORDS = 64, 4
#: Bytes of a data block by its selector.
BLOCK_SIZES = {1: 512, 2: 520, 3: 4096, 4: 4160, 6: 4048}
_BLOCK_4048 = 6
#: Size field of the first byte: 64 bytes, or one of two formats.
_WITH_INLINE, _SIGNATURE_AND_CRYPTO = 2, 3
_SAME_STRUCTURE, _TYPE_CRYPTO = 0x10, 1
_CRCS = {0x20: (CRC32, 32), 0x40: (CRC32C, 32), 0x50: (CRC64, 64)}
_CRC_REPEAT, _CRC_ZERO_SEED = 0x02, 0x01
_INLINE_VALID, _INLINE_REFRESH = 0x8000, 0x4000
_DIF_REPEAT, _DIF_ONES_SEED = 0x80, 0x08
_DIF_GUARDS = {1: T10_CRC, 2: T10_CHECKSUM}
_DIF_INCREMENT, _DIF_ESCAPE_APP, _DIF_ESCAPE_BOTH = 0x40, 0x01, 0x02
#: Where the crypto operation is among the signatures, on the way from memory to wire.
WIRE_SIGNATURE, MEMORY_SIGNATURE, RAW_WIRE, RAW_MEMORY = 0, 1, 2, 3
ENCRYPTS_ON_TX = (WIRE_SIGNATURE, RAW_WIRE)

#: size and flags, check mask, copy mask or wire block size, memory block size, raw data size, wire
#: and memory format and PSV.
_BASIC = struct.Struct('>BBBBIII')
#: validity, application tag, reference tag, guard, repetition and seed, increment and escapes, mask
#: of the application tag.
_INLINE = struct.Struct('>HHIBB3xBH')
#: size and type, order, standard, raw data size, block size, tweak, key, keytag.
_CRYPTO = struct.Struct('>BBxBIB7x16sI4x8s16x')


class BsfError(Exception):
    """A format that the card does not know or cannot do."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The signature of blocks in memory or on the wire."""
    guard: Guard
    #: Bytes of data in a block, and of the signature after it.
    block: int
    size: int
    #: Number of the PSV that the first block starts from; later blocks start from ``seed``.
    psv: int
    seed: int
    #: T10-DIF: two tags follow the guard.
    dif: bool = False
    increment: bool = False
    #: 0, or which tags of all ones exempt a block from being checked.
    escape: int = 0
    app_mask: int = 0xffff

    def escaped(self, signature: bytes) -> bool:
        """Whether a block's tags say that it is not to be checked."""
        if not self.escape:
            return False
        return signature[2:4] == b'\xff\xff' and (self.escape == _DIF_ESCAPE_APP or
                                                  signature[4:8] == b'\xff\xff\xff\xff')


@dataclass(frozen=True, slots=True)
class Signature:
    """Signatures behind a key: of both sides, what of them is checked, and what is taken over from
    one to the other."""
    memory: Domain | None
    wire: Domain | None
    check: int
    copy: int
    raw_size: int


@dataclass(frozen=True, slots=True)
class Crypto:
    """Encryption behind a key."""
    order: int
    unit: int
    tweak: bytes
    dek: int
    keytag: bytes
    raw_size: int


@dataclass(frozen=True, slots=True)
class Bsf:
    """All that is to be done between memory and wire."""
    signature: Signature | None
    crypto: Crypto | None


def capabilities(bsf: Bsf) -> set[str]:
    """General capabilities that a card needs for the formats."""
    out = set()
    if bsf.crypto is not None:
        out.add('crypto')
    domains = (bsf.signature.memory, bsf.signature.wire) if bsf.signature is not None else ()
    for domain in domains:
        if domain is not None:
            out |= {
                name for name, guard in (('sig_crc32c', CRC32C), ('sig_crc64_xp10', CRC64))
                if domain.guard is guard}
            if domain.block == BLOCK_SIZES[_BLOCK_4048]:
                out.add('sig_block_4048')
    return out


def parse(raw: bytes) -> Bsf:
    """Read the formats of a UMR.

    :param raw: 64 or 128 bytes.
    :raises BsfError: unknown, or not supported.
    """
    if len(raw) == BSF_SIZE:
        if raw[0] >> 6 != _WITH_INLINE:
            raise BsfError('size of the format')
        if raw[0] & 0xf == _TYPE_CRYPTO:
            return Bsf(None, _crypto(raw))
        return Bsf(_signature(raw), None)
    if len(raw) != 2 * BSF_SIZE or raw[0] >> 6 != _SIGNATURE_AND_CRYPTO or raw[
            BSF_SIZE] >> 6 != _SIGNATURE_AND_CRYPTO:
        raise BsfError('size of the format')
    signature, crypto = _signature(raw[:BSF_SIZE]), _crypto(raw[BSF_SIZE:])
    if crypto.order in (
            RAW_WIRE, RAW_MEMORY
    ) and signature is not None and signature.memory is not None and signature.wire is not None:
        raise BsfError('raw encryption between two signatures')
    return Bsf(signature, crypto)


def _block(selector: int) -> int:
    try:
        return BLOCK_SIZES[selector]
    except KeyError:
        raise BsfError('block size') from None


def _signature(raw: bytes) -> Signature | None:
    flags, check, copy, selector, raw_size, wire, memory = _BASIC.unpack_from(raw)
    if flags & 0x2f:
        raise BsfError('type of the format')
    if any(raw[16:32]):
        raise BsfError('signatures of transactions are not supported')
    same = bool(flags & _SAME_STRUCTURE)
    inside = _domain(selector, memory, raw[48:64])
    outside = _domain(selector if same else copy, wire, raw[32:48])
    if same and (inside is None or outside is None or inside.size != outside.size or
                 inside.dif != outside.dif):
        raise BsfError('domains are not of the same structure')
    if inside is None and outside is None:
        return None
    return Signature(inside, outside, check, copy if same else 0, raw_size)


def _domain(selector: int, word: int, inline: bytes) -> Domain | None:
    """The domain of a block size selector, 0 for none."""
    block_format, psv = word >> 24, word & 0xffffff
    if not selector:
        if block_format or any(inline):
            raise BsfError('signature without a block size')
        return None
    block = _block(selector)
    if block_format:
        if (block_format & 0xf0 not in _CRCS or block_format & 0xc or
                not block_format & _CRC_REPEAT or any(inline)):
            raise BsfError('block format')
        guard, bits = _CRCS[block_format & 0xf0]
        return Domain(guard, block, guard.size, psv, 0 if block_format & _CRC_ZERO_SEED else
                      (1 << bits) - 1)
    valid, _, _, kind, repeat, check, app_mask = _INLINE.unpack(inline)
    if not valid & _INLINE_VALID or valid & ~(_INLINE_VALID | _INLINE_REFRESH) or any(
            inline[10:13]):
        raise BsfError('inline section')
    if kind not in _DIF_GUARDS or repeat & ~_DIF_ONES_SEED != _DIF_REPEAT:
        raise BsfError('guard of the inline section')
    if check & ~(_DIF_INCREMENT | _DIF_ESCAPE_APP | _DIF_ESCAPE_BOTH) or check & 3 == 3:
        raise BsfError('checks of the inline section')
    return Domain(_DIF_GUARDS[kind], block, 8, psv, 0xffff if repeat & _DIF_ONES_SEED else 0, True,
                  bool(check & _DIF_INCREMENT), check & 3, app_mask)


def _crypto(raw: bytes) -> Crypto:
    size_type, order, standard, raw_size, selector, tweak, dek, keytag = _CRYPTO.unpack(raw)
    if size_type & 0x3f != _TYPE_CRYPTO or order > RAW_MEMORY or standard or dek >> 24:
        raise BsfError('encryption')
    if raw[2] or any(raw[9:16]) or any(raw[36:40]) or any(raw[48:64]):
        raise BsfError('reserved bytes of the encryption')
    return Crypto(order, _block(selector), tweak, dek, keytag, raw_size)
