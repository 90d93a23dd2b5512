# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Ethernet frames: their headers as match parameters, Internet checksums, and where each header
begins."""
import struct

from .. import prm

VLAN, SERVICE_VLAN, IPV4, IPV6, BRIDGING, MPLS = 0x8100, 0x88a8, 0x0800, 0x86dd, 0x6558, 0x8847
TCP, UDP, GRE, ICMP, ICMPV6, ESP = 6, 17, 47, 1, 58, 50
VXLAN_PORT, GENEVE_PORT, ROCE_PORT = 4789, 6081, 4791
#: Shortest frame that has an Ethernet header.
HEADER = 14
#: IPv6 extension headers that are passed over to find the transport header, and how many at most.
_EXTENSIONS, _MAX_EXTENSIONS, _FRAGMENT = (0, 43, 60, 135), 8, 44
#: Metadata registers of a packet on its way through tables: names of misc_parameters_2.
REGISTERS = ('metadata_reg_a', *(f'metadata_reg_c_{k}' for k in range(8)))


class Headers:
    """Where the headers of one frame (the outer or an inner one) begin; -1 for what it has not.

    ``l2`` first byte of the Ethernet header (-1 below a layer 3 tunnel), ``tags`` VLAN tags,
    ``ethertype`` after them, ``ip`` 4, 6 or 0, ``protocol`` of the transport, ``end`` where the
    frame's IP packet ends, ``payload`` behind the transport header.
    """

    __slots__ = ('l2', 'tags', 'ethertype', 'ip', 'l3', 'protocol', 'l4', 'payload', 'end',
                 'fragment')

    def __init__(self) -> None:
        self.l2 = self.l3 = self.l4 = self.payload = -1
        self.tags = self.ethertype = self.ip = self.protocol = self.end = 0
        self.fragment = False


def parse(data: bytes, at: int = 0, ethertype: int | None = None) -> Headers:
    """Find the headers; what is cut off counts as not there.

    :param at: where the Ethernet header begins, or the network header when ``ethertype`` tells
        which it is.
    """
    h = Headers()
    size = h.end = len(data)
    if ethertype is None:
        if size - at < HEADER:
            return h
        h.l2, at = at, at + 12
        ethertype = int.from_bytes(data[at:at + 2], 'big')
        while ethertype in (VLAN, SERVICE_VLAN) and h.tags < 2 and size - at >= 6:
            h.tags += 1
            at += 4
            ethertype = int.from_bytes(data[at:at + 2], 'big')
        at += 2
    h.ethertype = ethertype
    if ethertype == IPV4 and size - at >= 20 and data[at] >> 4 == 4:
        length = (data[at] & 0xf) * 4
        if length < 20 or size - at < length:
            return h
        h.ip, h.l3, h.protocol = 4, at, data[at + 9]
        h.fragment = bool(int.from_bytes(data[at + 6:at + 8], 'big') & 0x3fff)
        first = not int.from_bytes(data[at + 6:at + 8], 'big') & 0x1fff
        h.end = min(size, at + max(length, int.from_bytes(data[at + 2:at + 4], 'big')))
        at += length
        if not first:
            return h
    elif ethertype == IPV6 and size - at >= 40 and data[at] >> 4 == 6:
        h.ip, h.l3, h.protocol = 6, at, data[at + 6]
        h.end = min(size, at + 40 + int.from_bytes(data[at + 4:at + 6], 'big'))
        at += 40
        for _ in range(_MAX_EXTENSIONS):
            if h.protocol == _FRAGMENT and size - at >= 8:
                h.fragment = True
                h.protocol = data[at]
                if int.from_bytes(data[at + 2:at + 4], 'big') & 0xfff8:
                    return h
                at += 8
            elif h.protocol in _EXTENSIONS and size - at >= 8:
                h.protocol, at = data[at], at + 8 + data[at + 1] * 8
            else:
                break
    else:
        return h
    if h.protocol == TCP and size - at >= 20:
        h.l4, h.payload = at, min(size, at + max(20, (data[at + 12] >> 4) * 4))
    elif h.protocol == UDP and size - at >= 8:
        h.l4, h.payload = at, at + 8
    elif at <= size:
        h.payload = at
    return h


def inner_headers(data: bytes, h: Headers) -> Headers | None:
    """Headers of the frame or packet inside a VXLAN, Geneve or GRE tunnel; None when it is no
    tunnel."""
    if h.protocol == UDP and h.l4 >= 0:
        port = int.from_bytes(data[h.l4 + 2:h.l4 + 4], 'big')
        at = h.payload
        if port == VXLAN_PORT and len(data) - at >= 8:
            return parse(data, at + 8)
        if port == GENEVE_PORT and len(data) - at >= 8:
            return _inside(data, at + 8 + (data[at] & 0x3f) * 4,
                           int.from_bytes(data[at + 2:at + 4], 'big'))
    elif h.protocol == GRE and h.payload >= 0 and len(data) - h.payload >= 4:
        flags = data[h.payload]
        at = h.payload + 4 + 4 * ((flags >> 7 & 1) + (flags >> 5 & 1) + (flags >> 4 & 1))
        return _inside(data, at, int.from_bytes(data[h.payload + 2:h.payload + 4], 'big'))
    return None


def _inside(data: bytes, at: int, ethertype: int) -> Headers:
    return parse(data, at) if ethertype == BRIDGING else parse(data, at, ethertype)


def pop_vlan_tag(data: bytes) -> tuple[bytes, int | None]:
    """The frame without its outermost customer tag, and that tag's TCI; None when it has none."""
    if len(data) >= HEADER + 4 and int.from_bytes(data[12:14], 'big') == VLAN:
        return data[:12] + data[16:], int.from_bytes(data[14:16], 'big')
    return data, None


# ---- match parameters

def _lyr_2_4(v: prm.View, data: bytes, h: Headers) -> None:
    if h.l2 >= 0:
        at = h.l2
        v['dmac_47_16'], v['dmac_15_0'] = int.from_bytes(data[at:at + 4], 'big'), int.from_bytes(
            data[at + 4:at + 6], 'big')
        v['smac_47_16'], v['smac_15_0'] = int.from_bytes(data[at + 6:at + 10],
                                                         'big'), int.from_bytes(
                                                             data[at + 10:at + 12], 'big')
        if h.tags:
            tci = int.from_bytes(data[at + 14:at + 16], 'big')
            v.set(first_prio=tci >> 13, first_cfi=tci >> 12 & 1, first_vid=tci & 0xfff)
            v['cvlan_tag' if int.from_bytes(data[at + 12:at +
                                                 14], 'big') == VLAN else 'svlan_tag'] = 1
    v['ethertype'] = h.ethertype
    if not h.ip:
        return
    at = h.l3
    v['ip_version'], v['ip_protocol'], v['frag'] = h.ip, h.protocol, int(h.fragment)
    if h.ip == 4:
        v.set(ip_dscp=data[at + 1] >> 2, ip_ecn=data[at + 1] & 3, ttl_hoplimit=data[at + 8],
              ipv4_ihl=data[at] & 0xf)
        v['src_ipv4_src_ipv6'], v['dst_ipv4_dst_ipv6'] = bytes(12) + data[at + 12:at + 16], bytes(
            12) + data[at + 16:at + 20]
    else:
        tclass = int.from_bytes(data[at:at + 2], 'big') >> 4 & 0xff
        v.set(ip_dscp=tclass >> 2, ip_ecn=tclass & 3, ttl_hoplimit=data[at + 7])
        v['src_ipv4_src_ipv6'], v['dst_ipv4_dst_ipv6'] = data[at + 8:at + 24], data[at + 24:at + 40]
    if h.l4 >= 0:
        source, destination = struct.unpack_from('>HH', data, h.l4)
        if h.protocol == TCP:
            v.set(tcp_sport=source, tcp_dport=destination,
                  tcp_flags=int.from_bytes(data[h.l4 + 12:h.l4 + 14], 'big') & 0x1ff)
        else:
            v.set(udp_sport=source, udp_dport=destination)


def _misc(v: prm.View, data: bytes, h: Headers, which: str) -> None:
    """What the miscellaneous parameters tell of the outer or inner headers."""
    if h.l2 >= 0 and h.tags == 2:
        tci = int.from_bytes(data[h.l2 + 18:h.l2 + 20], 'big')
        v[f'{which}_second_prio'], v[f'{which}_second_cfi'], v[
            f'{which}_second_vid'] = tci >> 13, tci >> 12 & 1, tci & 0xfff
        kind = 'cvlan' if int.from_bytes(data[h.l2 + 16:h.l2 + 18], 'big') == VLAN else 'svlan'
        v[f'{which}_second_{kind}_tag'] = 1
    if h.ip == 6:
        v[f'{which}_ipv6_flow_label'] = int.from_bytes(data[h.l3:h.l3 + 4], 'big') & 0xfffff


def _tunnel(v: prm.View, data: bytes, h: Headers) -> None:
    if h.protocol == GRE and h.payload >= 0 and len(data) - h.payload >= 4:
        at, flags = h.payload, data[h.payload]
        v.set(gre_c_present=flags >> 7 & 1, gre_k_present=flags >> 5 & 1,
              gre_s_present=flags >> 4 & 1, gre_protocol=int.from_bytes(data[at + 2:at + 4], 'big'))
        key = at + 4 + (flags >> 7 & 1) * 4
        if flags & 0x20 and len(data) - key >= 4:
            v['gre_key'] = data[key:key + 4]
    elif h.protocol == UDP and h.l4 >= 0:
        at, port = h.payload, int.from_bytes(data[h.l4 + 2:h.l4 + 4], 'big')
        if port == VXLAN_PORT and len(data) - at >= 8:
            v['vxlan_vni'] = int.from_bytes(data[at + 4:at + 7], 'big')
        elif port == GENEVE_PORT and len(data) - at >= 8:
            v.set(geneve_vni=int.from_bytes(data[at + 4:at + 7],
                                            'big'), geneve_oam=data[at + 1] >> 7,
                  geneve_opt_len=data[at] & 0x3f, geneve_protocol_type=int.from_bytes(
                      data[at + 2:at + 4], 'big'))
        elif port == ROCE_PORT and len(data) - at >= 12:
            v['bth_opcode'] = data[at]
            if v.has('bth_dst_qp'):
                v['bth_dst_qp'] = int.from_bytes(data[at + 5:at + 8], 'big')


class Packet:
    """A frame on its way through flow tables, with what tables know of it besides its bytes.

    :param data: the frame without its FCS.
    :param sqn: number of the queue that sent it; 0 when it came from the wire.
    """

    def __init__(self, data: bytes, sqn: int = 0) -> None:
        self.sqn, self.tag = sqn, 0
        #: Virtual port of the switch that it came from.
        self.source_port = 0
        self.registers: dict[str, int] = {}
        self._data = data
        self._headers: Headers | None = None
        self._key: int | None = None

    @property
    def data(self) -> bytes:
        """The frame."""
        return self._data

    @data.setter
    def data(self, data: bytes) -> None:
        self._data, self._headers, self._key = data, None, None

    def copy(self) -> 'Packet':
        """The same frame for another way."""
        other = Packet(self._data, self.sqn)
        other.tag, other.registers, other.source_port = self.tag, dict(
            self.registers), self.source_port
        other._headers, other._key = self._headers, self._key
        return other

    def set_register(self, name: str, value: int) -> None:
        """Change a metadata register, a name of :data:`REGISTERS`."""
        self.registers[name], self._key = value, None

    @property
    def headers(self) -> Headers:
        """The outer headers."""
        if self._headers is None:
            self._headers = parse(self._data)
        return self._headers

    @property
    def key(self) -> int:
        """The match parameters (fte_match_param) of the packet as one big-endian integer."""
        if self._key is None:
            view = prm.new('fte_match_param')
            h, data = self.headers, self._data
            _lyr_2_4(view.sub('outer_headers'), data, h)
            misc = view.sub('misc_parameters')
            misc['source_sqn'], misc['source_port'] = self.sqn, self.source_port
            _misc(misc, data, h, 'outer')
            _tunnel(misc, data, h)
            inner = inner_headers(data, h)
            if inner is not None:
                _lyr_2_4(view.sub('inner_headers'), data, inner)
                _misc(misc, data, inner, 'inner')
            for name, value in self.registers.items():
                view[f'misc_parameters_2.{name}'] = value
            if h.protocol in (ICMP, ICMPV6) and h.payload >= 0 and len(data) - h.payload >= 2:
                kind = 'icmp' if h.protocol == ICMP else 'icmpv6'
                view[f'misc_parameters_3.{kind}_type'], view[
                    f'misc_parameters_3.{kind}_code'] = data[h.payload], data[h.payload + 1]
            self._key = int.from_bytes(view.buf, 'big')
        return self._key


#: Sections of fte_match_param by their bit of match_criteria_enable.
SECTIONS = ('outer_headers', 'misc_parameters', 'inner_headers', 'misc_parameters_2',
            'misc_parameters_3', 'misc_parameters_4', 'misc_parameters_5')


def criteria_mask(criteria: bytes, enable: int) -> int:
    """The criteria of the enabled sections as one integer, comparable to :attr:`Packet.key`."""
    view = prm.new('fte_match_param')
    given = prm.view('fte_match_param', criteria)
    for bit, section in enumerate(SECTIONS):
        if enable >> bit & 1 and view.has(section):
            view[section] = given[section]
    return int.from_bytes(view.buf, 'big')


# ---- checksums

def ones_sum(data: bytes, start: int = 0) -> int:
    """16-bit one's complement sum of big-endian words, not inverted."""
    if len(data) & 1:
        data += b'\0'
    total = start + sum(struct.unpack(f'>{len(data) >> 1}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def pseudo_sum(data: bytes, h: Headers) -> int:
    """Sum of the pseudo header of a transport packet."""
    addresses = data[h.l3 + 12:h.l3 + 20] if h.ip == 4 else data[h.l3 + 8:h.l3 + 40]
    return ones_sum(addresses, h.protocol + h.end - h.l4)


def l3_ok(data: bytes, h: Headers) -> bool:
    """Whether the network header's checksum is right; IPv6 has none."""
    if h.ip == 4:
        return ones_sum(data[h.l3:h.l3 + (data[h.l3] & 0xf) * 4]) == 0xffff
    return h.ip == 6


def l4_ok(data: bytes, h: Headers) -> bool:
    """Whether a whole TCP or UDP packet's checksum is right; UDP over IPv4 may have none."""
    if h.l4 < 0 or h.fragment:
        return False
    if h.protocol == UDP and not any(data[h.l4 + 6:h.l4 + 8]):
        return h.ip == 4
    return ones_sum(data[h.l4:h.end], pseudo_sum(data, h)) == 0xffff


def fill_checksums(data: bytes, l3: bool, l4: bool) -> bytes:
    """The frame with the checksums of its outer headers computed, as far as it has them."""
    h = parse(data)
    out = bytearray(data)
    if l3 and h.ip == 4:
        out[h.l3 + 10:h.l3 + 12] = bytes(2)
        length = (data[h.l3] & 0xf) * 4
        out[h.l3 + 10:h.l3 + 12] = (~ones_sum(bytes(out[h.l3:h.l3 + length])) & 0xffff).to_bytes(
            2, 'big')
    if l4 and h.l4 >= 0 and not h.fragment:
        at = h.l4 + (16 if h.protocol == TCP else 6)
        out[at:at + 2] = bytes(2)
        value = ~ones_sum(bytes(out[h.l4:h.end]), pseudo_sum(data, h)) & 0xffff
        out[at:at + 2] = (value or 0xffff if h.protocol == UDP else value).to_bytes(2, 'big')
    return bytes(out)
