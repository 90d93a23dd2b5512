# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""RDMA packets in the RDMA flow tables: whether the sender's let them out and the receiver's let
them in."""
import struct
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.flow_namespace import RDMA_RX, RDMA_TX, TRANSPORT_RX, TRANSPORT_TX
from ..steering.packet import IPV4, IPV6, ROCE_PORT, Headers, Packet
from .fabric import Address
from .headers import ROCE_V2_IPV4, ROCE_V2_IPV6, grh

if TYPE_CHECKING:
    from .port import Port

_ROCE_V1_ETHERTYPE = 0x8915
_BTH = 12
MIN_SPORT = 0xc000


def frame(source: 'Port', address: Address, sgid_index: int, qpn: int, sport: int = 0) -> bytes:
    """The headers of a RoCE packet to a QP, as far as flow tables look at them.

    :param sport: UDP source port; 0: the least of the card's range.
    """
    header = grh(source.card, 0, sgid_index << 20, 0, 64, address.gid)
    bth = bytes(5) + qpn.to_bytes(3, 'big') + bytes(_BTH - 8)
    ethernet = address.mac.rjust(6, b'\0') + source.card.vport.mac.to_bytes(6, 'big')
    if header.l3_type not in (ROCE_V2_IPV4, ROCE_V2_IPV6):
        return ethernet + struct.pack('>H', _ROCE_V1_ETHERTYPE) + header.data + bth
    udp = struct.pack('>HHHH', sport or MIN_SPORT, ROCE_PORT, 8 + _BTH, 0)
    if header.l3_type == ROCE_V2_IPV4:
        return ethernet + struct.pack('>H', IPV4) + header.data[20:] + udp + bth
    return ethernet + struct.pack('>H', IPV6) + header.data + udp + bth


def infiniband_packet(qpn: int, sqn: int) -> Packet:
    """A packet of an InfiniBand port: there are no Ethernet or IP headers in it to match, but its
    transport header."""
    packet = Packet(bytes(_BTH), sqn)
    packet._headers = Headers()
    view = prm.new('fte_match_param')
    misc = view.sub('misc_parameters')
    misc['source_sqn'] = sqn
    if misc.has('bth_dst_qp'):
        misc['bth_dst_qp'] = qpn
    packet._key = int.from_bytes(view.buf, 'big')
    return packet


def passes(source: 'Port', target: 'Port', address: Address, sgid_index: int, qpn: int,
           sport: int = 0, sqn: int = 0) -> bool:
    """Whether an RDMA packet gets from one port to the other.

    :param qpn: of the queue that it is for.
    :param sqn: of the queue that sends it.
    """
    out, into = source.card.flow_roots, target.card.flow_roots
    leaves = [kind for kind in (RDMA_TX, TRANSPORT_TX) if kind in out]
    enters = [kind for kind in (TRANSPORT_RX, RDMA_RX) if kind in into]
    if not leaves and not enters:
        return True
    if source.card.link_layer == 'ib':
        def packet(number: int) -> Packet:
            return infiniband_packet(qpn, number)
    else:
        data = frame(source, address, sgid_index, qpn, sport)

        def packet(number: int) -> Packet:
            return Packet(data, number)
    return all(source.steering.walk(kind, packet(sqn)) for kind in leaves) and all(
        target.steering.walk(kind, packet(0)) for kind in enters)
