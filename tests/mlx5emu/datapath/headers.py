# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Network headers that a datagram leaves in the first 40 bytes of the receive buffer."""
import ipaddress
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..prm.wqe import AV_GRH

if TYPE_CHECKING:
    from ..card import Card

GRH_BYTES = 40
#: BTH and DETH after the network header, invariant CRC after the data.
_TRANSPORT = 12 + 8 + 4
_UDP = 8
_ROCE_PORT = 4791
#: l3 type of a RoCE receive CQE, and the flag that a GRH is in the buffer.
G_IN_BUFFER = 1
ROCE_V1, ROCE_V2_IPV6, ROCE_V2_IPV4 = 0, 1, 2


class Grh(NamedTuple):
    """40 bytes for the buffer, and what the CQE says of them."""
    data: bytes
    g: int
    l3_type: int = 0


_NONE = Grh(bytes(GRH_BYTES), 0)


def grh(card: 'Card', n: int, flow: int, tclass: int, hops: int, destination: bytes) -> Grh:
    """The network header of a datagram of ``n`` bytes, as the receiver sees it.

    :param flow: grh_gid_fl of the address vector.
    """
    if card.link_layer == 'ib' and not flow & AV_GRH:
        return _NONE
    source, version, l3_type = card.vport.source_gid(flow >> 20 & 0xff)
    length = n + _TRANSPORT
    if version == 2 and not l3_type:
        total = 20 + _UDP + length
        ip = struct.pack('>BBHHHBBH4s4s', 0x45, tclass, total & 0xffff, 0, 0x4000, hops, 17, 0,
                         source[12:], destination[12:])
        check = sum(struct.unpack('>10H', ip))
        check = (check & 0xffff) + (check >> 16)
        check = ~((check & 0xffff) + (check >> 16)) & 0xffff
        return Grh(
            bytes(20) + ip[:10] + check.to_bytes(2, 'big') + ip[12:], G_IN_BUFFER, ROCE_V2_IPV4)
    following, l3 = (17, ROCE_V2_IPV6) if version == 2 else (0x1b, ROCE_V1)
    if version == 2:
        length += _UDP
    first = 6 << 28 | tclass << 20 | flow & 0xfffff
    return Grh(
        struct.pack('>IHBB16s16s', first, length & 0xffff, following, hops, source, destination),
        G_IN_BUFFER, l3)


def is_multicast(gid: bytes) -> bool:
    """Whether a GID names a multicast group, also one mapped from IPv4."""
    address = ipaddress.IPv6Address(gid)
    return address.is_multicast or (address.ipv4_mapped is not None and
                                    address.ipv4_mapped.is_multicast)
