# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Guards of data blocks: CRC32, CRC32C, CRC64 XP10, and the two guards of T10-DIF.

Each is a function of data and seed, the register before the first byte.  Seeds come from the key:
all ones or zero.
"""
import functools
import zlib
from array import array
from collections.abc import Callable
from typing import Literal, NamedTuple

#: Polynomials, reflected where the CRC is.
CRC32C_POLYNOMIAL, CRC64_POLYNOMIAL, T10_POLYNOMIAL = 0x82f63b78, 0x9a6c9329ac4bc9b5, 0x8bb7


class Guard(NamedTuple):
    """A way to guard a block: its bytes in the signature, the order of the signature's bytes, and
    how it is computed."""
    size: int
    order: Literal['little', 'big']
    compute: Callable[[bytes, int], int]


@functools.cache
def _reflected_table(polynomial: int) -> 'array[int]':
    """What two bytes at once do to the register of a reflected CRC; made when it is first asked
    for."""
    single = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        single.append(value)
    return array(
        'Q',
        [single[single[k & 0xff] & 0xff ^ k >> 8] ^ single[k & 0xff] >> 8 for k in range(1 << 16)])


@functools.cache
def _t10_table() -> 'array[int]':
    single = []
    for value in range(256):
        value <<= 8
        for _ in range(8):
            value = (value << 1 ^ (T10_POLYNOMIAL if value & 0x8000 else 0)) & 0xffff
        single.append(value)
    return array('H', [
        single[single[k >> 8] >> 8 ^ k & 0xff] ^ (single[k >> 8] & 0xff) << 8
        for k in range(1 << 16)])


def _words(data: bytes, big: bool) -> 'array[int]':
    out = array('H', data[:len(data) & ~1])
    if big:
        out.byteswap()
    return out


def _reflected(data: bytes, crc: int, polynomial: int) -> int:
    table = _reflected_table(polynomial)
    for word in _words(data, big=False):
        crc = crc >> 16 ^ table[(crc ^ word) & 0xffff]
    if len(data) & 1:
        # Half a step: what a byte does to the register is what it does before a byte of zeroes,
        # undone by shifting eight times.
        crc ^= data[-1]
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return crc


def crc32(data: bytes, seed: int) -> int:
    """FC-PH's CRC: that of Ethernet, complemented at the end."""
    return zlib.crc32(data, seed ^ 0xffffffff)


def crc32c(data: bytes, seed: int) -> int:
    """Castagnoli's CRC, complemented at the end, as iSCSI has it."""
    return _reflected(data, seed, CRC32C_POLYNOMIAL) ^ 0xffffffff


def crc64_xp10(data: bytes, seed: int) -> int:
    """The CRC of XP10, complemented at the end."""
    return _reflected(data, seed, CRC64_POLYNOMIAL) ^ 0xffffffffffffffff


def t10_crc(data: bytes, seed: int) -> int:
    """T10-DIF's CRC; blocks have an even number of bytes."""
    table, crc = _t10_table(), seed
    for word in _words(data, big=True):
        crc = table[crc ^ word]
    return crc


def t10_checksum(data: bytes, seed: int) -> int:
    """The Internet checksum in place of the CRC; blocks have an even number of bytes."""
    total = sum(_words(data, big=True)) + seed
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


#: By name; reflected CRCs lie in memory with the least byte first, as they go over a wire, those of
#: T10-DIF with the greatest.
CRC32, CRC32C, CRC64 = Guard(4, 'little', crc32), Guard(4, 'little', crc32c), Guard(
    8, 'little', crc64_xp10)
T10_CRC, T10_CHECKSUM = Guard(2, 'big', t10_crc), Guard(2, 'big', t10_checksum)
