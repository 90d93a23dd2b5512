# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Steering table entries of format 0 (ConnectX-5): 16-byte tags with a mask; the entry's type says
what its control half can do."""
from ... import prm
from ..header_rewrite import decapsulate, encapsulate, pop_vlan, push_vlan
from ..packet import VLAN
from .format import SteError, Visit, byte_masked, hash_index, miss_address, next_base
from .rewrite import VLAN_QUALIFIER, Part, add, put, read

#: entry_type.
TX, RX, MODIFY_PACKET = 1, 2, 6
_LAYOUTS = {TX: 'ste_sx_transmit', RX: 'ste_rx_steering_mult', MODIFY_PACKET: 'ste_modify_packet'}
#: tunneling_action of receive and modify entries.
NONE, ENABLE, DECAP, L3_DECAP, POP_VLAN = 0, 1, 2, 3, 4
#: action_type of transmit entries.
PUSH_VLAN, ENCAP_L3, ENCAP = 1, 3, 4
#: Bit of qp_list_pointer: the rest is a flow tag.
ENABLE_FLOW_TAG = 1 << 31
#: Opcodes of modify actions, eight bytes each.
COPY, SET, ADD = 1, 2, 3
LINE, ACTION = 64, 8
_HEADER, _HEADER_WITH_TAG = bytes(14), bytes(12) + VLAN.to_bytes(2, 'big') + bytes(4)

#: {tag: lookup types of the outer headers in transmit and in receive domains, and of the inner
#: headers}
_TYPES: dict[str, tuple[int | None, ...]] = {
    'eth_l2_dst': (0x06, 0x1b, 0x07),
    'eth_l2_src': (0x08, 0x1c, 0x09),
    'eth_l2_src_dst': (0x36, 0x38, 0x37),
    'eth_l2_tnl': (None, None, 0x0a),
    'eth_l3_ipv6_dst': (0x0d, 0x1e, 0x0e),
    'eth_l3_ipv6_src': (0x0f, 0x1f, 0x10),
    'eth_l3_ipv4_5_tuple': (0x11, 0x20, 0x12),
    'eth_l3_ipv4_misc': (0x29, 0x2b, 0x2a),
    'eth_l4': (0x13, 0x21, 0x14),
    'eth_l4_misc': (0x2c, 0x2e, 0x2d),
    'mpls': (0x15, 0x25, None),
    'gre': (0x16, None, None),
    'flex_parser_0': (0x22, None, None),
    'flex_parser_1': (0x23, None, None),
    'flex_parser_tnl_header': (0x19, 0x34, None),
    'general_purpose': (0x18, None, None),
    'register_0': (0x2f, None, None),
    'register_1': (0x30, None, None),
    'src_gvmi_qp': (0x05, None, None),
    'dont_care': (0x00, 0x0f, None), }
#: {lookup type: (tag, whether of the inner headers)}
LOOKUPS = {
    number: (tag, k == 2) for tag, numbers in _TYPES.items() for k, number in enumerate(numbers)
    if number is not None}

_V6 = ('127_96', '95_64', '63_32', '31_0')
#: Words of 64 bits that modify actions know.
WORDS: dict[int, tuple[Part, ...]] = {
    0x00: ((0, 16, ('OUT_DMAC_15_0', )), (16, 32, ('OUT_DMAC_47_16', ))),
    0x01: ((0, 16, ('OUT_SMAC_15_0', )), (16, 32, ('OUT_SMAC_47_16', ))),
    0x02: ((0, 16, ('FIRST_TCI', )), (32, 16, ('OUT_ETHERTYPE', )), (48, 2, (VLAN_QUALIFIER, ))),
    0x03:
    ((0, 32, ('OUT_SIPV4', f'OUT_DIPV6_{_V6[1]}')), (32, 32, ('OUT_DIPV4', f'OUT_DIPV6_{_V6[0]}'))),
    0x04: ((0, 6, ('OUT_IP_DSCP', )), (6, 2, ('OUT_IP_ECN', )), (8, 8, ('OUT_IP_TTL',
                                                                        'OUT_IPV6_HOPLIMIT'))),
    0x05: ((0, 32, (f'OUT_DIPV6_{_V6[3]}', )), (32, 32, (f'OUT_DIPV6_{_V6[2]}', ))),
    0x06: ((0, 32, (f'OUT_SIPV6_{_V6[1]}', )), (32, 32, (f'OUT_SIPV6_{_V6[0]}', ))),
    0x07: ((0, 32, (f'OUT_SIPV6_{_V6[3]}', )), (32, 32, (f'OUT_SIPV6_{_V6[2]}', ))),
    0x08: ((0, 16, ('OUT_TCP_SPORT', 'OUT_UDP_SPORT')),
           (16, 16, ('OUT_TCP_DPORT', 'OUT_UDP_DPORT')), (48, 9, ('OUT_TCP_FLAGS', ))),
    0x09: ((0, 32, ('OUT_TCP_ACK_NUM', )), (32, 32, ('OUT_TCP_SEQ_NUM', ))),
    **{
        0x0c + k: ((0, 32, (f'metadata_reg_c_{2 * k + 1}', )), (32, 32, (f'metadata_reg_c_{2 * k}',
                                                                         ))) for k in range(3)},
    0x16: ((0, 32, ('metadata_reg_a', )), (32, 32, ('metadata_reg_b', ))), }


class FormatV0:
    """Format 0."""

    @staticmethod
    def _view(raw: bytes) -> prm.View:
        layout = _LAYOUTS.get(raw[0] >> 4)
        if layout is None:
            raise SteError(f'entry type {raw[0] >> 4:#x}')
        return prm.view(layout, raw)

    def matches(self, raw: bytes, visit: Visit) -> bool:
        """Whether the packet is what the entry matches."""
        view = self._view(raw)
        if view['match_polarity'] or view['mask_mode']:
            raise SteError('match_polarity or mask_mode')
        if view['entry_type'] == (TX if visit.rx else RX):
            raise SteError('entry of the other direction')
        want, mask = int.from_bytes(raw[32:48], 'big'), int.from_bytes(raw[48:64], 'big')
        if not mask:
            return not want
        return self._tag(view['entry_sub_type'], visit) & mask == want

    @staticmethod
    def _tag(lookup: int, visit: Visit) -> int:
        known = LOOKUPS.get(lookup)
        if known is None:
            raise SteError(f'lookup type {lookup:#x}')
        return visit.fields.tag(*known)

    def counter(self, raw: bytes) -> int:
        """Number of the flow counter of a hit, 0 for none."""
        view = self._view(raw)
        return int(view['counter_trigger_23_16'] << 16 | view['counter_trigger_15_0'])

    def miss(self, raw: bytes) -> int:
        """Address where a miss goes on."""
        return miss_address(self._view(raw))

    def next_table(self, raw: bytes, visit: Visit) -> int:
        """Address where a hit goes on."""
        view = self._view(raw)
        base, entries = next_base(view)
        if entries == 1 or not view['byte_mask']:
            return base
        return base + 64 * hash_index(
            byte_masked(self._tag(view['next_lu_type'], visit), view['byte_mask']), entries)

    def act(self, raw: bytes, visit: Visit) -> None:
        """Carry out the actions of a hit."""
        view = self._view(raw)
        if view['entry_type'] == TX:
            self._transmit(view, visit)
            return
        self._tunnel(view, visit)
        if view['entry_type'] == MODIFY_PACKET:
            self._modify(view, visit)
        elif view['member_count']:
            raise SteError('member_count')
        elif view['qp_list_pointer']:
            if not view['qp_list_pointer'] & ENABLE_FLOW_TAG:
                raise SteError('qp_list_pointer')
            visit.packet.tag = view['qp_list_pointer'] & 0xffffff

    @staticmethod
    def _transmit(view: prm.View, visit: Visit) -> None:
        kind, packet = view['action_type'], visit.packet
        if not kind:
            return
        visit.spend(64 + 2 * len(packet.data))
        if kind == PUSH_VLAN:
            header = view['encap_pointer_vlan_data']
            push_vlan(packet, header >> 16, header & 0xffff)
        elif kind in (ENCAP, ENCAP_L3):
            context, n = visit.card.packet_reformats.find(
                view['encap_pointer_vlan_data']), 2 * view['action_description']
            if context is None or len(context.data) < n:
                raise SteError('packet reformat context')
            encapsulate(packet, context.data[:n], kind == ENCAP)
        else:
            raise SteError(f'action_type {kind}')
        visit.changed()

    @staticmethod
    def _tunnel(view: prm.View, visit: Visit) -> None:
        kind, packet = view['tunneling_action'], visit.packet
        if kind in (NONE, ENABLE):
            return
        before = packet.data
        visit.spend(64 + len(before))
        if kind == DECAP:
            decapsulate(packet)
        elif kind == L3_DECAP and view['entry_type'] == MODIFY_PACKET:
            decapsulate(packet, _HEADER_WITH_TAG if view['action_description'] & 1 else _HEADER)
        elif kind == POP_VLAN:
            pop_vlan(packet)
        else:
            raise SteError(f'tunneling_action {kind}')
        if view['fail_on_error'] and packet.data is before:
            raise SteError('nothing to take off')
        visit.changed()

    def _modify(self, view: prm.View, visit: Visit) -> None:
        base = visit.card.icm.ranges()['header_modify'][0]
        actions = visit.icm(base + LINE * view['header_re_write_actions_pointer'],
                            ACTION * view['number_of_re_write_actions'])
        for at in range(0, len(actions), ACTION):
            visit.spend(64)
            self._one(actions[at:at + ACTION], visit)

    @staticmethod
    def _one(raw: bytes, visit: Visit) -> None:
        v = prm.view('dr_action_hw_set', raw)
        opcode, word, low = v['opcode'], v['destination_field_code'], v['destination_left_shifter']
        if opcode == SET:
            put(visit, WORDS, word, low, v['destination_length'] or 32, v['inline_data'])
        elif opcode == ADD:
            add(visit, WORDS, word, low, v['destination_length'] or 32, v['inline_data'])
        elif opcode == COPY:
            c = prm.view('dr_action_hw_copy', raw)
            value = read(visit, WORDS, c['source_field_code']) >> c['source_left_shifter']
            put(visit, WORDS, word, low, c['destination_length'] or 32, value)
        elif opcode:
            raise SteError(f'modify action {opcode:#x}')


FORMAT = FormatV0()
