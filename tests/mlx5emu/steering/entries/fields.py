# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the card knows of a packet when it looks it up in steering table entries: every field that a
tag may hold, and the tags."""
import struct
from typing import TYPE_CHECKING

from ... import prm
from ..packet import (
    ESP,
    GENEVE_PORT,
    GRE,
    ICMP,
    ICMPV6,
    MPLS,
    ROCE_PORT,
    TCP,
    UDP,
    VLAN,
    VXLAN_PORT,
    Headers,
    Packet,
    inner_headers,
    l3_ok,
    l4_ok,
)

if TYPE_CHECKING:
    from ...card import Card

#: Types in tags: of the network and transport header, and of a VLAN tag.
L3_IPV4, L3_IPV6, L4_TCP, L4_UDP, L4_SPI, SVLAN, CVLAN = 1, 2, 1, 2, 3, 1, 2
#: UDP ports of tunnels besides Geneve and VXLAN: VXLAN-GPE, GTP-U.
VXLAN_GPE_PORT, GTPU_PORT = 4790, 2152

#: A field's names in the several tags: {name: name here}.
_ALIASES = {
    'ethertype': ('l3_ethertype', ),
    'first_vlan_qualifier': ('first_vlan_type', ),
    'second_vlan_qualifier': ('second_vlan_type', ),
    'fragmented': ('ip_fragmented', 'ip_frag'),
    'src_ip_31_0': ('source_address', 'ip_src_addr', 'src_ipv6_31_0'),
    'dst_ip_31_0': ('destination_address', 'ip_dst_addr', 'dst_ipv6_31_0'),
    **{
        f'{way}_ip_{part}': (f'{way}_ipv6_{part}', )
        for way in ('src', 'dst') for part in ('127_96', '95_64', '63_32')},
    'src_port': ('source_port', 'l4_sport'),
    'dst_port': ('destination_port', 'l4_dport'),
    'protocol': ('ip_protocol', ),
    'dscp': ('ip_dscp', ),
    'ecn': ('ip_ecn', ),
    'time_to_live': ('ipv6_hop_limit', 'ip_ttl'),
    'version': ('ip_version', 'ipv6_version'),
    'ihl': ('ip_ihl', ),
    'identification': ('ip_identification', ),
    'flags': ('ip_flags', ),
    'fragment_offset': ('ip_fragment_offset', ),
    'total_length': ('ip_total_length', ),
    'checksum': ('ip_checksum', ),
    'flow_label': ('ip_flow_label', ),
    'ipv6_payload_length': ('ip_payload_length', ),
    'tcp_data_offset': ('data_offset', ),
    'source_qp': ('source_sqn', ), }
_NAME = {other: name for name, others in _ALIASES.items() for other in others}


def _tci(v: dict[str, int], which: str, data: bytes, at: int) -> None:
    tci = int.from_bytes(data[at + 2:at + 4], 'big')
    v[f'{which}_priority'], v[f'{which}_cfi'], v[
        f'{which}_vlan_id'] = tci >> 13, tci >> 12 & 1, tci & 0xfff
    v[f'{which}_vlan_qualifier'] = CVLAN if int.from_bytes(data[at:at +
                                                                2], 'big') == VLAN else SVLAN


def _ip(v: dict[str, int], data: bytes, h: Headers) -> None:
    at = h.l3
    v['version'], v['protocol'], v['fragmented'] = h.ip, h.protocol, int(h.fragment)
    v['l3_type'] = L3_IPV4 if h.ip == 4 else L3_IPV6
    v['l4_type'] = {TCP: L4_TCP, UDP: L4_UDP, ESP: L4_SPI}.get(h.protocol, 0)
    if h.ip == 4:
        (first, dsfield, length, identification, fragment, ttl, _, check, source,
         destination) = struct.unpack_from('>BBHHHBBHII', data, at)
        v.update(ihl=first & 0xf, dscp=dsfield >> 2, ecn=dsfield & 3, total_length=length,
                 identification=identification, flags=fragment >> 13,
                 fragment_offset=fragment & 0x1fff, time_to_live=ttl, checksum=check,
                 src_ip_31_0=source, dst_ip_31_0=destination)
        v['first_fragment'] = int(h.fragment and not fragment & 0x1fff)
    else:
        word, length = struct.unpack_from('>IH', data, at)
        v.update(dscp=word >> 22 & 0x3f, ecn=word >> 20 & 3, flow_label=word & 0xfffff,
                 ipv6_payload_length=length, time_to_live=data[at + 7])
        for way, start in (('src', at + 8), ('dst', at + 24)):
            for k, part in enumerate(('127_96', '95_64', '63_32', '31_0')):
                v[f'{way}_ip_{part}'] = int.from_bytes(data[start + 4 * k:start + 4 * k + 4], 'big')
        v['first_fragment'] = int(h.fragment and h.l4 >= 0)


def _l4(v: dict[str, int], data: bytes, h: Headers) -> None:
    v['src_port'], v['dst_port'] = struct.unpack_from('>HH', data, h.l4)
    if h.protocol == TCP:
        sequence, acknowledged, flags, window, check, urgent = struct.unpack_from(
            '>IIHHHH', data, h.l4 + 4)
        v.update(seq_num=sequence, ack_num=acknowledged, tcp_data_offset=flags >> 12,
                 window_size=window, l4_checksum=check, urgent_pointer=urgent)
        for bit, name in enumerate(('fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr', 'ns')):
            v[f'tcp_{name}'] = flags >> bit & 1
    else:
        v['udp_length'], v['l4_checksum'] = struct.unpack_from('>HH', data, h.l4 + 4)


def header_fields(data: bytes, h: Headers) -> dict[str, int]:
    """Fields of one set of headers, the outer or the inner; what it has not is left out."""
    v: dict[str, int] = {'ethertype': h.ethertype}
    if h.l2 >= 0:
        at = h.l2
        d, s = int.from_bytes(data[at:at + 6], 'big'), int.from_bytes(data[at + 6:at + 12], 'big')
        v.update(l2_ok=1, dmac_47_16=d >> 16, dmac_15_0=d & 0xffff, smac_47_16=s >> 16,
                 smac_15_0=s & 0xffff, smac_47_32=s >> 32, smac_31_0=s & 0xffffffff)
        for k, which in enumerate(('first', 'second')[:h.tags]):
            _tci(v, which, data, at + 12 + 4 * k)
    if h.ip:
        _ip(v, data, h)
        v['l3_ok'] = 1
        if h.l4 >= 0:
            _l4(v, data, h)
            v['l4_ok'] = 1
    return v


#: Fields that take a look at the whole packet: read only when a tag holds them.
_CHECKS = {
    'ipv4_checksum_ok': lambda data, h: h.ip == 4 and l3_ok(data, h), 'l4_checksum_ok': l4_ok}


def _dw(data: bytes, at: int) -> int:
    """Four bytes, zeroes behind the end."""
    return int.from_bytes(data[at:at + 4].ljust(4, b'\0'), 'big')


class PacketFields:
    """The fields of a packet as it is now.

    :param rx: whether it is in a receive domain, where the source's queue pair and function are
        known of what came back.
    """

    def __init__(self, card: 'Card', packet: Packet, rx: bool) -> None:
        self.card, self.packet, self.rx = card, packet, rx
        self._values: tuple[dict[str, int], dict[str, int], dict[str, int]] | None = None
        self._inner: Headers | None = None
        self._tags: dict[tuple[str, bool], int] = {}

    def changed(self) -> None:
        """The packet was changed: forget what was read from it."""
        self._values = None
        self._tags.clear()

    def _read(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """Fields of the packet as a whole, of its outer and of its inner headers."""
        if self._values is None:
            data, h = self.packet.data, self.packet.headers
            self._inner = inner = inner_headers(data, h)
            self._values = (self._whole(data, h), header_fields(
                data, h), {} if inner is None else header_fields(data, inner))
        return self._values

    def _whole(self, data: bytes, h: Headers) -> dict[str, int]:
        v = dict(self.packet.registers)
        v['eth_packet_length'] = len(data) & 0xffff
        loopback = self.rx and self.packet.sqn != 0
        v['source_qp'] = self.packet.sqn
        v['functional_lb'] = int(loopback)
        v['source_gvmi'] = self.card.caps.get('vhca_id') if loopback or not self.rx else 0
        at = h.payload
        if h.protocol == GRE and at >= 0:
            self._gre(v, data, at)
        elif h.protocol in (ICMP, ICMPV6) and at >= 0:
            v['icmp_type'], v['icmp_code'] = _dw(data, at) >> 24, _dw(data, at) >> 16 & 0xff
            v['icmp_header_data'], v['icmp_payload_data'] = _dw(data, at + 4), _dw(data, at + 8)
            cap = self.card.caps.page('general')
            kind = 'icmp' if h.protocol == ICMP else 'icmpv6'
            for word in (0, 1) if cap['flex_parser_protocols'] else ():
                # Format 0 sees ICMP through flex parsers: type and code in one, the second four
                # bytes in another.
                v[f'flex_parser_{cap[f"flex_parser_id_{kind}_dw{word}"]}'] = _dw(
                    data, at + 4 * word)
        elif h.protocol == UDP and h.l4 >= 0:
            self._udp(v, data, h)
        if h.ethertype == MPLS:
            at = h.l2 + 14 + 4 * h.tags
            for k in range(3):
                v[f'mpls{k}'] = _dw(data, at + 4 * k)
                if v[f'mpls{k}'] >> 8 & 1:      # bottom of the stack
                    break
        return v

    @staticmethod
    def _gre(v: dict[str, int], data: bytes, at: int) -> None:
        flags = data[at] if at < len(data) else 0
        v['gre_0'] = v['tunnel_header_0'] = _dw(data, at)
        v['tunnel_header_1'] = _dw(data, at + 4)
        key = at + 4 + 4 * (flags >> 7 & 1)
        if flags & 0x20:
            v['gre_key'] = _dw(data, key)
        if flags & 0x10:
            v['gre_seq_num'] = _dw(data, key + 4 * (flags >> 5 & 1))

    @staticmethod
    def _udp(v: dict[str, int], data: bytes, h: Headers) -> None:
        port, at = int.from_bytes(data[h.l4 + 2:h.l4 + 4], 'big'), h.payload
        if port in (VXLAN_PORT, GENEVE_PORT, VXLAN_GPE_PORT, GTPU_PORT):
            v['tunnel_header_0'], v['tunnel_header_1'] = _dw(data, at), _dw(data, at + 4)
            if port == VXLAN_PORT:
                v['l2_tunneling_network_id'] = v['tunnel_header_1'] & 0xffffff00
        elif port == ROCE_PORT and len(data) - at >= 12:
            opcode, flags, pkey, qp, ask = struct.unpack_from('>BBHII', data, at)
            v.update(bth_opcode=opcode, bth_se=flags >> 7, bth_migreq=flags >> 6 & 1,
                     bth_pad_count=flags >> 4 & 3, bth_tver=flags & 0xf, bth_pkey=pkey,
                     bth_dst_qp=qp & 0xffffff, bth_a=ask >> 31)

    def _value(self, name: str, inner: bool) -> int:
        whole, outside, inside = self._read()
        if name.startswith('outer_'):
            name, inner = name[6:], False
        elif name.startswith('inner_'):
            name, inner = name[6:], True
        name = _NAME.get(name, name)
        if name in _CHECKS:
            h = self._inner if inner else self.packet.headers
            return int(h is not None and _CHECKS[name](self.packet.data, h))
        headers = inside if inner else outside
        return headers.get(name, whole.get(name, 0))

    def tag(self, layout: str, inner: bool = False) -> int:
        """The tag of a layout as one big-endian integer.

        :param layout: name without ``ste_``.
        :param inner: whether plain names mean the headers inside a tunnel.
        """
        key = (layout, inner)
        value = self._tags.get(key)
        if value is None:
            value, size = 0, prm.layout_bits(f'ste_{layout}')
            for name, (offset, bits, _, _) in prm.fields(f'ste_{layout}').items():
                value |= (self._value(name, inner) & (1 << bits) - 1) << size - offset - bits
            self._tags[key] = value
        return value

    @property
    def is_icmp(self) -> bool:
        """Whether the outer headers lead to an ICMP message."""
        return self.packet.headers.protocol in (ICMP, ICMPV6)
