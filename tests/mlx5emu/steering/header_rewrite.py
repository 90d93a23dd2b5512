# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What flow entries do to packets: modify header and packet reformat contexts, VLAN tags,
tunnels."""
from typing import TYPE_CHECKING, NamedTuple

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.flow_namespace import properties
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from .packet import (
    IPV4,
    IPV6,
    REGISTERS,
    TCP,
    UDP,
    VLAN,
    Headers,
    Packet,
    fill_checksums,
    inner_headers,
    l3_ok,
    l4_ok,
    parse,
)

if TYPE_CHECKING:
    from ..card import Card

SET, ADD, COPY = 1, 2, 3
L2_TO_VXLAN, L2_TO_NVGRE, L2_TO_L2_TUNNEL, L3_TUNNEL_TO_L2, L2_TO_L3_TUNNEL = 0, 1, 2, 3, 4
_ADDS = (L2_TO_VXLAN, L2_TO_NVGRE, L2_TO_L2_TUNNEL, L2_TO_L3_TUNNEL)
#: What pushed tags and decapsulation may make of a frame, in bytes.
MAX_FRAME = 1 << 18


class Field(NamedTuple):
    """Where a header field lies: which header, first byte, bytes, bits to its right, bits; ``only``
    an IP version or protocol."""
    base: str
    at: int
    size: int
    shift: int = 0
    width: int = 32
    only: tuple[str, int] | None = None


_F = 'MLX5_ACTION_IN_FIELD_'
_IP4, _IP6, _TCP, _UDP = ('ip', 4), ('ip', 6), ('protocol', TCP), ('protocol', UDP)
_FIELDS: dict[str, tuple[Field, ...]] = {
    'OUT_SMAC_47_16': (Field('l2', 6, 4), ),
    'OUT_SMAC_15_0': (Field('l2', 10, 2, 0, 16), ),
    'OUT_ETHERTYPE': (Field('type', 0, 2, 0, 16), ),
    'OUT_DMAC_47_16': (Field('l2', 0, 4), ),
    'OUT_DMAC_15_0': (Field('l2', 4, 2, 0, 16), ),
    'OUT_IP_DSCP': (Field('l3', 1, 1, 2, 6, _IP4), Field('l3', 0, 2, 6, 6, _IP6)),
    'OUT_IP_ECN': (Field('l3', 1, 1, 0, 2, _IP4), Field('l3', 0, 2, 4, 2, _IP6)),
    'OUT_TCP_FLAGS': (Field('l4', 12, 2, 0, 9, _TCP), ),
    'OUT_TCP_SPORT': (Field('l4', 0, 2, 0, 16, _TCP), ),
    'OUT_TCP_DPORT': (Field('l4', 2, 2, 0, 16, _TCP), ),
    'OUT_UDP_SPORT': (Field('l4', 0, 2, 0, 16, _UDP), ),
    'OUT_UDP_DPORT': (Field('l4', 2, 2, 0, 16, _UDP), ),
    'OUT_IP_TTL': (Field('l3', 8, 1, 0, 8, _IP4), ),
    'OUT_IPV6_HOPLIMIT': (Field('l3', 7, 1, 0, 8, _IP6), ),
    'OUT_SIPV4': (Field('l3', 12, 4, 0, 32, _IP4), ),
    'OUT_DIPV4': (Field('l3', 16, 4, 0, 32, _IP4), ),
    'OUT_FIRST_VID': (Field('tag', 0, 2, 0, 12), ),
    'FIRST_TCI': (Field('tag', 0, 2, 0, 16), ),
    'OUT_TCP_SEQ_NUM': (Field('l4', 4, 4, 0, 32, _TCP), ),
    'OUT_TCP_ACK_NUM': (Field('l4', 8, 4, 0, 32, _TCP), ), } | {
        f'OUT_{side}IPV6_{high}_{high - 31}':
        (Field('l3', start + 12 - (high >> 5) * 4, 4, 0, 32, _IP6), )
        for side, start in (('S', 8), ('D', 24)) for high in (127, 95, 63, 31)}


def _fields() -> dict[int, str]:
    """Field number of an action: name, of a header field or of a metadata register."""
    prm.load()
    names = {prm.ENUM[_F + name]: name for name in _FIELDS if _F + name in prm.ENUM}
    for register in REGISTERS:
        number = prm.ENUM.get(_F + register.upper())
        if number is not None:
            names[number] = register
    return names


class Action(NamedTuple):
    """One header modification; ``offset`` and ``length`` in bits, ``source`` of a copy."""
    kind: int
    field: str
    offset: int
    length: int
    data: int
    source: str = ''
    source_offset: int = 0


def decode_actions(raw: bytes) -> list[Action]:
    """Actions of 8 bytes each.

    :raises Status: BAD_PARAM for what the card cannot do.
    """
    names, out = _fields(), []
    for at in range(0, len(raw), 8):
        v = prm.view('set_action_in', raw, at)
        kind = v['action_type']
        name = names.get(v['field'])
        if name is None or kind not in (SET, ADD, COPY):
            raise Status('BAD_PARAM', 'modify header action')
        if kind == SET:
            out.append(Action(kind, name, v['offset'], v['length'] or 32, v['data']))
        elif kind == ADD:
            out.append(Action(kind, name, 0, 32, v['data']))
        else:
            c = prm.view('copy_action_in', raw, at)
            destination = names.get(c['dst_field'])
            if destination is None:
                raise Status('BAD_PARAM', 'modify header action')
            out.append(
                Action(kind, destination, c['dst_offset'], c['length'] or 32, 0, name,
                       c['src_offset']))
    return out


def _place(h: Headers, field: str) -> tuple[int, Field] | None:
    """First byte of a field in the frame; None when the frame has no such header."""
    for f in _FIELDS[field]:
        if f.only is not None and getattr(h, f.only[0]) != f.only[1]:
            continue
        if f.base == 'type':
            at = h.l2 + 12 + 4 * h.tags if h.l2 >= 0 else -1
        elif f.base == 'tag':
            at = h.l2 + 14 if h.l2 >= 0 and h.tags else -1
        else:
            at = getattr(h, f.base)
        if at >= 0:
            return at + f.at, f
    return None


def has_field(packet: Packet, name: str) -> bool:
    """Whether the packet has the header that a field is of; registers are always there."""
    return name not in _FIELDS or _place(packet.headers, name) is not None


def get_field(packet: Packet, name: str) -> int:
    """Value of a header field or register; 0 when the packet has none."""
    if name not in _FIELDS:
        return packet.registers.get(name, 0)
    place = _place(packet.headers, name)
    if place is None:
        return 0
    at, f = place
    return int.from_bytes(packet.data[at:at + f.size], 'big') >> f.shift & (1 << f.width) - 1


def set_field(packet: Packet, name: str, value: int) -> None:
    """Change a header field or register; checksums that were right stay right.  Without the header
    nothing happens."""
    if name not in _FIELDS:
        packet.set_register(name, value & 0xffffffff)
        return
    h, data = packet.headers, packet.data
    place = _place(h, name)
    if place is None:
        return
    at, f = place
    mask = (1 << f.width) - 1 << f.shift
    old = int.from_bytes(data[at:at + f.size], 'big')
    new = data[:at] + (old & ~mask | value << f.shift & mask).to_bytes(f.size,
                                                                       'big') + data[at + f.size:]
    if f.base in ('l3', 'l4'):
        l4 = l4_ok(data, h) and not (h.protocol == UDP and not any(data[h.l4 + 6:h.l4 + 8]))
        new = fill_checksums(new, l3_ok(data, h), l4)
    packet.data = new


def modify(packet: Packet, actions: list[Action]) -> None:
    """Carry out header modifications, one after the other."""
    for a in actions:
        old = get_field(packet, a.field)
        if a.kind == ADD:
            set_field(packet, a.field, old + a.data)
            continue
        value = a.data if a.kind == SET else get_field(packet, a.source) >> a.source_offset
        mask = (1 << a.length) - 1 << a.offset
        set_field(packet, a.field, old & ~mask | value << a.offset & mask)


# ---- tags and tunnels

def push_vlan(packet: Packet, ethertype: int, tci: int) -> None:
    """A tag becomes the outermost."""
    data = packet.data
    if len(data) >= 12 and len(data) < MAX_FRAME:
        packet.data = data[:12] + ethertype.to_bytes(2, 'big') + tci.to_bytes(2, 'big') + data[12:]


def pop_vlan(packet: Packet) -> int | None:
    """The outermost tag goes; its TCI, or None when there is no tag."""
    h, data = packet.headers, packet.data
    if h.l2 < 0 or not h.tags:
        return None
    packet.data = data[:12] + data[16:]
    return int.from_bytes(data[14:16], 'big')


def encapsulate(packet: Packet, header: bytes, keep_l2: bool = True) -> None:
    """Put headers before the packet and make their lengths fit.

    :param keep_l2: whether the packet's own Ethernet header goes into the tunnel.
    """
    data = packet.data
    if not keep_l2:
        if packet.headers.l3 < 0:
            return
        data = data[packet.headers.l3:]
    if len(data) > MAX_FRAME:
        return
    out = bytearray(header + data)
    h = parse(bytes(out))
    if 0 <= h.l3 < len(header):
        if h.ip == 4:
            out[h.l3 + 2:h.l3 + 4] = min(len(out) - h.l3, 0xffff).to_bytes(2, 'big')
        else:
            out[h.l3 + 4:h.l3 + 6] = min(len(out) - h.l3 - 40, 0xffff).to_bytes(2, 'big')
        if h.protocol == UDP and 0 <= h.l4 < len(header):
            out[h.l4 + 4:h.l4 + 6] = min(len(out) - h.l4, 0xffff).to_bytes(2, 'big')
    packet.data = fill_checksums(bytes(out), True, False)


def decapsulate(packet: Packet, l2_header: bytes | None = None) -> None:
    """Take the outer headers of a tunnel off.

    :param l2_header: Ethernet header to put before the packet of a layer 3 tunnel; None for a
        tunnel that has frames in it.
    """
    data = packet.data
    inner = inner_headers(data, packet.headers)
    if inner is None:
        return
    if l2_header is None:
        if inner.l2 >= 0:
            packet.data = data[inner.l2:]
    elif inner.l3 >= 0:
        kind = IPV4 if inner.ip == 4 else IPV6
        if len(l2_header) >= 14:
            l2_header = l2_header[:-2] + kind.to_bytes(2, 'big')
        packet.data = l2_header + data[inner.l3:]


# ---- commands

class ModifyHeader(Object):
    """A modify header context."""

    kind = declare('modify_header', 'modify_headers', 1, 1 << 12,
                   destroy=('DEALLOC_MODIFY_HEADER_CONTEXT', 'modify_header_id'))

    def __init__(self, table_type: int, actions: list[Action]) -> None:
        super().__init__()
        self.table_type, self.actions = table_type, actions


class PacketReformat(Object):
    """A packet reformat context."""

    kind = declare('packet_reformat', 'packet_reformats', 1, 1 << 12,
                   destroy=('DEALLOC_PACKET_REFORMAT_CONTEXT', 'packet_reformat_id'))

    def __init__(self, reformat_type: int, data: bytes) -> None:
        super().__init__()
        self.reformat_type, self.data = reformat_type, data

    def apply(self, packet: Packet) -> None:
        """Change the packet."""
        if self.reformat_type == L3_TUNNEL_TO_L2:
            decapsulate(packet, self.data)
        else:
            encapsulate(packet, self.data, self.reformat_type != L2_TO_L3_TUNNEL)


@command('ALLOC_MODIFY_HEADER_CONTEXT')
def alloc_modify_header_context(card: 'Card', cmd: Command) -> None:
    """Keep a list of actions. Refused when there are too many, or one that the card does not
    know."""
    limit = properties(card, cmd.inp['table_type'])['max_modify_header_actions']
    n = cmd.inp['num_of_actions']
    if not n or n > limit:
        raise Status('BAD_PARAM', 'num_of_actions')
    at = cmd.inp.offset('actions')
    if len(cmd.raw) - at < 8 * n:
        raise Status('BAD_INP_LEN', 'actions')
    context = ModifyHeader(cmd.inp['table_type'], decode_actions(bytes(cmd.raw[at:at + 8 * n])))
    cmd.out['modify_header_id'] = card.modify_headers.alloc(context, cmd.uid)


@command('DEALLOC_MODIFY_HEADER_CONTEXT')
def dealloc_modify_header_context(card: 'Card', cmd: Command) -> None:
    """Free a list of actions. Refused while a flow entry uses it."""
    card.modify_headers.free(cmd.inp['modify_header_id'], cmd.uid)


@command('ALLOC_PACKET_REFORMAT_CONTEXT')
def alloc_packet_reformat_context(card: 'Card', cmd: Command) -> None:
    """Headers to add, or the Ethernet header that takes a tunnel's place."""
    cap = card.caps.page('flow_table')
    c = cmd.inp.sub('packet_reformat_context')
    kind, n = c['reformat_type'], c['reformat_data_size']
    if not cap['log_max_packet_reformat_context'] or kind not in (*_ADDS, L3_TUNNEL_TO_L2):
        raise Status('BAD_PARAM', 'reformat_type')
    if not n or n > cap['max_encap_header_size'] or (kind == L3_TUNNEL_TO_L2 and n not in (14, 18)):
        raise Status('BAD_PARAM', 'reformat_data_size')
    at = c.offset('reformat_data')
    if len(cmd.raw) - at < n:
        raise Status('BAD_INP_LEN', 'reformat_data')
    context = PacketReformat(kind, bytes(cmd.raw[at:at + n]))
    cmd.out['packet_reformat_id'] = card.packet_reformats.alloc(context, cmd.uid, cost=n)


@command('DEALLOC_PACKET_REFORMAT_CONTEXT')
def dealloc_packet_reformat_context(card: 'Card', cmd: Command) -> None:
    """Free a packet reformat. Refused while a flow entry uses it."""
    card.packet_reformats.free(cmd.inp['packet_reformat_id'], cmd.uid)


__all__ = [
    'VLAN', 'Action', 'ModifyHeader', 'PacketReformat', 'decapsulate', 'encapsulate', 'get_field',
    'has_field', 'modify', 'pop_vlan', 'push_vlan', 'set_field']
