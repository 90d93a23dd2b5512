# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Receive side scaling: which receive queue of a TIR takes a packet."""
from functools import lru_cache
from typing import TYPE_CHECKING

from .. import prm
from ..steering.packet import TCP, UDP, Headers, Packet, inner_headers

if TYPE_CHECKING:
    from ..queues.raw_queues import Rq
    from ..queues.tir import Tir
    from .virtio_net_q import VirtioNetQ


#: disp_type and rx_hash_fn of a TIR.
DIRECT, INDIRECT = 0, 1
NO_HASH, INVERTED_XOR8, TOEPLITZ = 0, 1, 2
#: selected_fields of a hash field selector.
SRC_IP, DST_IP, L4_SPORT, L4_DPORT = 1, 2, 4, 8
#: Bits of rss_hash_type in a CQE.
_IP_TYPE = {4: 1 << 2, 6: 2 << 2}
_L4_TYPE = {TCP: 1 << 6, UDP: 2 << 6}


@lru_cache(256)
def _windows(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key, 'big'), len(key) * 8


def toeplitz(key: bytes, data: bytes) -> int:
    """The 32-bit Toeplitz hash of ``data``.

    :param key: at least four bytes more than ``data``.
    """
    whole, bits = _windows(key)
    out = 0
    for k, byte in enumerate(data):
        for bit in range(8):
            if byte >> (7 - bit) & 1:
                out ^= whole >> (bits - 32 - 8 * k - bit)
    return out & 0xffffffff


def inverted_xor8(data: bytes) -> int:
    """The exclusive or of all bytes, inverted."""
    out = 0
    for byte in data:
        out ^= byte
    return ~out & 0xff


def hash_input(data: bytes, h: Headers, selector: prm.View, symmetric: bool) -> tuple[bytes, int]:
    """(bytes that are hashed, rss_hash_type); empty when the packet is of another protocol than the
    selector's.

    :param symmetric: the lesser of source and destination comes first, so that both directions get
        the same.
    """
    fields = selector['selected_fields']
    if not h.ip or h.ip != (6 if selector['l3_prot_type'] else 4):
        return b'', 0
    ports = fields & (L4_SPORT | L4_DPORT)
    if ports and (h.l4 < 0 or h.fragment or
                  h.protocol != (UDP if selector['l4_prot_type'] else TCP)):
        return b'', 0
    at, n = (h.l3 + 12, 4) if h.ip == 4 else (h.l3 + 8, 16)
    addresses = [data[at:at + n]] if fields & SRC_IP else []
    addresses += [data[at + n:at + 2 * n]] if fields & DST_IP else []
    both = [data[h.l4:h.l4 + 2]] if fields & L4_SPORT else []
    both += [data[h.l4 + 2:h.l4 + 4]] if fields & L4_DPORT else []
    if symmetric:
        addresses.sort()
        both.sort()
    return b''.join(addresses + both), _IP_TYPE[h.ip] | (_L4_TYPE[h.protocol] if ports else 0)


def select_rq(tir: 'Tir', context: prm.View,
              packet: Packet) -> tuple['Rq | VirtioNetQ | None', int, int]:
    """(receive queue or None, hash, rss_hash_type) for a packet."""
    if context['disp_type'] == DIRECT:
        return tir.rq, 0, 0
    rqs = tir.rqt.rqs if tir.rqt is not None else ()
    if not rqs:
        return None, 0, 0
    data, h, selector = packet.data, packet.headers, context.sub('rx_hash_field_selector_outer')
    inner = context.sub('rx_hash_field_selector_inner')
    if inner['selected_fields']:
        inside = inner_headers(data, h)
        if inside is not None:
            h, selector = inside, inner
    value = kind = 0
    fn = context['rx_hash_fn']
    if fn and selector['selected_fields']:
        hashed, kind = hash_input(data, h, selector, bool(context['rx_hash_symmetric']))
        if hashed:
            value = toeplitz(context['rx_hash_toeplitz_key'],
                             hashed) if fn == TOEPLITZ else inverted_xor8(hashed)
    return rqs[value % len(rqs)], value, kind
