# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""UMR work requests: a WQE that changes a memory key, binds a memory window or invalidates a key;
and remote invalidation."""
from array import array
from typing import TYPE_CHECKING

from ..prm.wqe import (
    DATA,
    UMR_CHECK_FREE,
    UMR_CHECK_NOT_FREE,
    UMR_CHECK_QPN,
    UMR_CTRL,
    UMR_INLINE,
    UMR_OFFSET,
)
from .bsf import BSF_OCTOWORDS, Bsf, BsfError, capabilities, parse
from .mkey import ANY_QP, KLM, KSM, LOCAL_READ, MTT, AccessError, Mkey
from .transfer import ReadFault, read_all

if TYPE_CHECKING:
    from ..card import Card
    from ..datapath.requester import Requester
    from ..queues.queue import Queue

_CTRL_AT, _MKC_AT, _DATA_AT = 16, 64, 128
#: Bit of the mkey mask: (doubleword of the context, bits of it).
FIELDS: dict[int, tuple[tuple[int, int], ...]] = {
    0: ((6, 0xffffffff), (7, 0xffffffff), (3, 1 << 31)),  # length and length64
    1: ((14, 0x1f), ),  # page size
    6: ((4, 0xffffffff), (5, 0xffffffff)),  # start address
    7: ((3, 0xffffff), ),  # PD
    8: ((3, 1 << 24), ),  # remote invalidation
    9: ((3, 1 << 26), ),  # expected signature errors
    12: ((3, 1 << 30), ),  # byte stream formats in force
    13: ((1, 0xff), ),  # key byte
    14: ((1, 0xffffff00), ),  # QP number
    17: ((0, 1 << 10), ),
    18: ((0, 1 << 11), ),
    19: ((0, 1 << 12), ),
    20: ((0, 1 << 13), ),
    21: ((0, 1 << 14), ),
    23: ((0, 1 << 16), ),
    25: ((0, 1 << 18), ),
    29: ((0, 1 << 30), ),
    42: ((14, 0x20), ),
    47: ((14, 0x40), ), }
_KNOWN = sum(1 << bit for bit in FIELDS)
_PD_BIT = 1 << 7
#: bsf_en of the context: byte and bit.
_BSF_EN_AT, _BSF_EN = 12, 0x40
#: Longest list of translation entries that one WQE may bring, in bytes: the octoword count has 16
#: bits.
_MAX_LIST = 0xffff * 16


class BindError(Exception):
    """The key may not be changed this way."""


def _find(requester: 'Requester', qp: 'Queue', key: int) -> Mkey:
    mkey = requester.card.mkeys.find(key >> 8)
    if mkey is None:
        raise BindError('no such key')
    if not mkey.umr_en:
        raise BindError('key does not take UMR')
    if qp.st != REG_UMR and mkey.pd != qp.pd:
        raise BindError('protection domain')
    return mkey


REG_UMR = 0xc


def update(requester: 'Requester', qp: 'Queue', wqe: bytes, key: int) -> None:
    """Carry a UMR WQE out: all of it, or nothing.

    :param key: of the memory key to change, from the control segment.
    :raises BindError: the key may not be changed so.
    :raises AccessError: the list of translation entries may not be read.
    :raises ReadFault: it cannot be read.
    :raises struct.error: the WQE is too short.
    """
    flags, octowords, low, mask, high = UMR_CTRL.unpack_from(wqe, _CTRL_AT)
    mkey = _find(requester, qp, key)
    if mask & ~_KNOWN:
        raise BindError('field that UMR cannot change')
    if mask and len(wqe) < _MKC_AT + 64:
        raise BindError('context segment is missing')
    if flags & UMR_CHECK_NOT_FREE and not mkey.free:
        raise BindError('key is not free')
    if flags & UMR_CHECK_FREE and mkey.free:
        raise BindError('key is free')
    if flags & UMR_CHECK_QPN and mkey.qpn not in (qp.number, ANY_QP):
        raise BindError('key is bound to another QP')
    formats = 0 if flags & UMR_OFFSET else low
    new = bytearray(mkey.mkc)
    given = wqe[_MKC_AT:_MKC_AT + 64]
    for bit, parts in FIELDS.items():
        if mask >> bit & 1:
            for dword, bits in parts:
                at = 4 * dword
                old = int.from_bytes(new[at:at + 4], 'big')
                new[at:at + 4] = (old & ~bits |
                                  int.from_bytes(given[at:at + 4], 'big') & bits).to_bytes(
                                      4, 'big')
    domain = None
    if mask & _PD_BIT:
        number = int.from_bytes(new[13:16], 'big')
        domain = requester.card.pds.find(number)
        if domain is None or (qp.st != REG_UMR and number != qp.pd):
            raise BindError('protection domain')
    if new[_BSF_EN_AT] & _BSF_EN and not mkey.bsf_octowords:
        raise BindError('key has no room for byte stream formats')
    if octowords or formats:
        raw = _list(requester, qp, wqe, octowords + formats, bool(flags & UMR_INLINE))
        bsf = _formats(mkey, raw[16 * octowords:]) if formats else mkey.bsf
        if octowords:
            _store(mkey, (low | high << 16) * 2 if flags & UMR_OFFSET else 0, raw[:16 * octowords])
        mkey.bsf = bsf
    mkey.mkc[:] = new
    mkey.decode()
    if domain is not None:
        mkey.belong(domain)


def _formats(mkey: Mkey, raw: bytes) -> Bsf:
    if len(raw) > 16 * mkey.bsf_octowords or len(raw) % (16 * BSF_OCTOWORDS):
        raise BindError('size of the byte stream formats')
    try:
        bsf = parse(raw)
    except BsfError as e:
        raise BindError(str(e)) from e
    for name in capabilities(bsf):
        if not mkey.card.caps.get(name):
            raise BindError(f'byte stream format without {name}')
    return bsf


def _store(mkey: Mkey, at: int, raw: bytes) -> None:
    if mkey.mode not in (MTT, KLM, KSM):
        raise BindError('key has no translation entries')
    values: array[int] = array('Q')
    values.frombytes(raw)
    values.byteswap()
    # Entries come in units of 64 bytes; the padding of the last unit may pass the key's own size.
    room = 2 * mkey.capacity - at
    if len(values) > room >= 0:
        if any(values[room:]):
            raise BindError('translation entries beyond the size of the key')
        del values[room:]
    try:
        mkey.store(at, values)
    except AccessError as e:
        raise BindError(str(e)) from e


def _list(requester: 'Requester', qp: 'Queue', wqe: bytes, octowords: int, inline: bool) -> bytes:
    n = octowords * 16
    if inline:
        raw = wqe[_DATA_AT:_DATA_AT + n].ljust(n, b'\0') if len(wqe) > _DATA_AT else b''
        if not raw:
            raise BindError('translation entries are missing')
    else:
        count, key, addr = DATA.unpack_from(wqe, _DATA_AT)
        if count < n or n > _MAX_LIST:
            raise BindError('translation list is shorter than its octowords')
        raw = read_all(requester.local(qp, key, addr, n, LOCAL_READ, qp.pd))
    return raw


def invalidate(card: 'Card', qp: 'Queue', key: int) -> None:
    """A send with invalidate arrived: free the key.

    :raises AccessError: the key is not there, does not take it, or is another QP's.
    """
    mkey = card.mkeys.find(key >> 8)
    if (mkey is None or mkey.variant != key & 0xff or mkey.free or mkey.pd != qp.pd or
            not mkey.en_rinval):
        raise AccessError('key to invalidate')
    if mkey.qpn not in (ANY_QP, qp.number):
        raise AccessError('key to invalidate is bound to another QP')
    mkey.mkc[0] |= 1 << 6
    mkey.decode()


__all__ = ['BindError', 'ReadFault', 'invalidate', 'update']
