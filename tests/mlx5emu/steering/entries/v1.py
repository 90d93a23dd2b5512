# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Steering table entries of format 1 (ConnectX-6 Dx) and 2 (ConnectX-7): 16-byte tags with a mask
or 32-byte tags of a match definer.

Actions follow each other in the entry, four or eight bytes each; longer lists lie in ICM.
"""
from collections.abc import Callable

from ... import prm
from ...firmware.caps import ICM_LINE, MAX_REFORMATS
from ..header_rewrite import MAX_FRAME, encapsulate
from ..packet import inner_headers
from .format import SteError, Visit, byte_masked, hash_index, miss_address, next_base
from .rewrite import Part, add, put, read

#: entry_format: tag and mask with room for two actions or for three, each for lookup types below
#: 0x100 and from there on; a match definer.
BWC_BYTE, BWC_DW, MASK_AND_MATCH_BYTE, MASK_AND_MATCH_DW, MATCH = 0, 1, 2, 3, 4
#: Index of the definer that matches everything.
DONT_CARE = 0xf

#: {lookup type: (tag, whether of the inner headers)}
LOOKUPS: dict[int, tuple[str, bool]] = {
    0x0000: ('dont_care', False),
    0x0002: ('eth_l2_tnl_v1', True),
    0x0003: ('eth_l2_dst_v1', False),
    0x0004: ('eth_l2_dst_v1', True),
    0x0005: ('eth_l2_src_v1', False),
    0x0006: ('eth_l2_src_v1', True),
    0x0007: ('eth_l3_ipv4_5_tuple_v1', False),
    0x0008: ('eth_l3_ipv4_5_tuple_v1', True),
    0x0009: ('eth_l4_v1', False),
    0x000a: ('eth_l4_v1', True),
    0x000b: ('eth_l2_src_dst_v1', False),
    0x000c: ('eth_l2_src_dst_v1', True),
    0x000d: ('eth_l3_ipv4_misc_v1', False),
    0x000e: ('flex_parser_tnl_header', False),
    0x000f: ('eth_l3_ipv4_misc_v1', True),
    0x0103: ('ib_l4', False),
    0x0104: ('src_gvmi_qp_v1', False),
    0x0107: ('eth_l3_ipv6_dst', False),
    0x0108: ('eth_l3_ipv6_dst', True),
    0x0109: ('eth_l3_ipv6_src', False),
    0x010a: ('eth_l3_ipv6_src', True),
    0x010b: ('mpls_v1', False),
    0x010d: ('gre_v1', False),
    0x010e: ('general_purpose', False),
    0x010f: ('register_0', False),
    0x0110: ('register_1', False),
    0x0111: ('flex_parser_0', False),
    0x0112: ('flex_parser_1', False),
    0x0113: ('eth_l4_misc_v1', False),
    0x0114: ('eth_l4_misc_v1', True), }
#: The lookup type that is another tag for ICMP.
_L4_MISC = 0x0113

# ---- actions

NOP, COPY, SET, ADD = 0x00, 0x05, 0x06, 0x07
REMOVE_BY_SIZE, REMOVE_HEADER_TO_HEADER, INSERT_INLINE, INSERT_POINTER = 0x08, 0x09, 0x0a, 0x0b
FLOW_TAG, ACCELERATED_LIST, MODIFY_LIST = 0x0c, 0x0e, 0x0f
#: Bytes of an entry or list, and of one action of a list.
LINE, ACTION = ICM_LINE, 8
#: attributes of an inserted header.
INSERT_PLAIN, INSERT_ENCAP = 0, 1
#: Shifters count bits of a quadword, whose high half is the word that the action names and whose
#: low half is the next.
_HIGH_WORD = 32
START, FIRST_VLAN, IP, INNER_MAC, INNER_IP = 0x00, 0x02, 0x07, 0x13, 0x19

_P4 = ('OUT_TCP_SPORT', 'OUT_UDP_SPORT'), ('OUT_TCP_DPORT', 'OUT_UDP_DPORT')


def words(registers: int) -> dict[int, tuple[Part, ...]]:
    """The words that modify actions know.

    :param registers: number of the first of the register words: C4, C5, C2, C3, C0, C1.
    """
    out: dict[int, tuple[Part, ...]] = {
        0x00: ((0, 32, ('OUT_DMAC_47_16', )), ),
        0x01: ((0, 16, ('OUT_ETHERTYPE', )), (16, 16, ('OUT_DMAC_15_0', ))),
        0x02: ((0, 16, ('FIRST_TCI', )), ),
        0x08: ((0, 32, ('OUT_SMAC_47_16', )), ),
        0x09: ((16, 16, ('OUT_SMAC_15_0', )), ),
        0x0e: ((8, 8, ('OUT_IP_TTL', 'OUT_IPV6_HOPLIMIT')), (16, 2, ('OUT_IP_ECN', )),
               (18, 6, ('OUT_IP_DSCP', ))),
        0x18: ((0, 16, _P4[1]), (16, 16, _P4[0])),
        0x19: ((16, 9, ('OUT_TCP_FLAGS', )), ),
        0x40: ((0, 32, ('OUT_SIPV4', )), ),
        0x41: ((0, 32, ('OUT_DIPV4', )), ),
        0x5e: ((0, 32, ('OUT_TCP_SEQ_NUM', )), ),
        0x5f: ((0, 32, ('OUT_TCP_ACK_NUM', )), ),
        0x7b: ((0, 32, ('metadata_reg_b', )), ),
        0x7c: ((0, 32, ('metadata_reg_a', )), ), }
    for first, side in ((0x44, 'D'), (0x4c, 'S')):
        for k, part in enumerate(('127_96', '95_64', '63_32', '31_0')):
            out[first + k] = ((0, 32, (f'OUT_{side}IPV6_{part}',)),)
    for k, c in enumerate((4, 5, 2, 3, 0, 1)):
        out[registers + k] = ((0, 32, (f'metadata_reg_c_{c}',)),)
    return out


def _anchor(visit: Visit, anchor: int) -> int | None:
    """Byte of the frame that an anchor means; None when the frame has no such header.

    :raises SteError: unknown anchor.
    """
    h = visit.packet.headers
    if anchor == START:
        return 0
    if anchor == FIRST_VLAN:
        return h.l2 + 12 if h.tags else None
    if anchor == IP:
        return h.l3 if h.l3 >= 0 else None
    if anchor not in (INNER_MAC, INNER_IP):
        raise SteError(f'header anchor {anchor:#x}')
    inner = inner_headers(visit.packet.data, h)
    at = -1 if inner is None else inner.l2 if anchor == INNER_MAC else inner.l3
    return at if at >= 0 else None


class FormatV1:
    """Format 1.

    :param registers: number of the first register word.
    """

    def __init__(self, registers: int = 0x8c) -> None:
        self.words = words(registers)
        self.actions: dict[int, tuple[int, Callable[[bytes, Visit], None]]] = {
            NOP: (4, lambda raw, visit: None),
            FLOW_TAG: (4, self._flow_tag),
            REMOVE_BY_SIZE: (4, self._remove_by_size),
            REMOVE_HEADER_TO_HEADER: (4, self._remove_header),
            MODIFY_LIST: (4, self._modify_list),
            COPY: (8, self._copy),
            SET: (8, self._set),
            ADD: (8, self._add),
            INSERT_INLINE: (8, self._insert_inline),
            INSERT_POINTER: (8, self._insert_pointer),
            ACCELERATED_LIST: (8, self._accelerated_list), }

    # ---- matching

    @staticmethod
    def _view(raw: bytes) -> prm.View:
        return prm.view(
            'ste_match_bwc_v1' if raw[0] in (BWC_BYTE, BWC_DW) else 'ste_mask_and_match_v1', raw)

    @staticmethod
    def _tag(lookup: int, visit: Visit) -> int | None:
        if lookup == _L4_MISC and visit.fields.is_icmp:
            return visit.fields.tag('icmp_v1')
        known = LOOKUPS.get(lookup)
        return None if known is None else visit.fields.tag(*known)

    @staticmethod
    def _definer(index: int, visit: Visit) -> tuple[int, int]:
        """Tag and mask by a match definer."""
        if index == DONT_CARE:
            return 0, 0
        definer = visit.card.match_definers.find(index)
        if definer is None:
            raise SteError(f'no match definer {index:#x}')
        return visit.fields.tag(definer.layout), definer.mask

    def matches(self, raw: bytes, visit: Visit) -> bool:
        """Whether the packet is what the entry matches."""
        view = self._view(raw)
        if view['match_polarity']:
            raise SteError('match_polarity')
        if raw[0] == MATCH:
            tag, mask = self._definer(view['match_definer_ctx_idx'], visit)
            return tag & mask == int.from_bytes(raw[32:64], 'big')
        if raw[0] > MASK_AND_MATCH_DW or (raw[0] <= BWC_DW and view['mask_mode']):
            raise SteError(f'entry format {raw[0]:#x}')
        mask, want = int.from_bytes(raw[32:48], 'big'), int.from_bytes(raw[48:64], 'big')
        if not mask:
            return not want
        lookup = (raw[0] & 1) << 8 | view['match_definer_ctx_idx']
        known = self._tag(lookup, visit)
        if known is None:
            raise SteError(f'lookup type {lookup:#x}')
        return known & mask == want

    def counter(self, raw: bytes) -> int:
        """Number of the flow counter of a hit, 0 for none."""
        return int.from_bytes(raw[1:4], 'big')

    def miss(self, raw: bytes) -> int:
        """Address where a miss goes on."""
        return miss_address(self._view(raw))

    def next_table(self, raw: bytes, visit: Visit) -> int:
        """Address where a hit goes on."""
        view = self._view(raw)
        base, entries = next_base(view)
        if entries == 1:
            return base
        if view['hash_type']:
            raise SteError('hash_type')
        index = view['hash_definer_ctx_idx']
        if raw[0] == MATCH:
            tag, mask = self._definer(index, visit)
            return base + 64 * hash_index((tag & mask).to_bytes(32, 'big'), entries)
        if raw[0] > BWC_DW:
            raise SteError('hash of an entry that has no byte mask')
        if not view['byte_mask']:
            return base
        known = self._tag(view['next_entry_format'] << 8 | index, visit)
        if known is None:
            raise SteError('lookup type of the next table')
        return base + 64 * hash_index(byte_masked(known, view['byte_mask']), entries)

    # ---- acting

    def act(self, raw: bytes, visit: Visit) -> None:
        """Carry out the actions of a hit."""
        self._run(self._view(raw)['action'], visit)

    def _run(self, actions: bytes, visit: Visit) -> None:
        at = 0
        while at < len(actions):
            size, action = self._find(actions[at])
            if at + size > len(actions):
                raise SteError('action is cut off')
            action(actions[at:at + size], visit)
            at += size

    def _find(self, action_id: int) -> tuple[int, Callable[[bytes, Visit], None]]:
        found = self.actions.get(action_id)
        if found is None:
            raise SteError(f'action {action_id:#x}')
        return found

    @staticmethod
    def _flow_tag(raw: bytes, visit: Visit) -> None:
        if not visit.rx:
            raise SteError('flow tag in a transmit domain')
        visit.packet.tag = int.from_bytes(raw[1:4], 'big')

    @staticmethod
    def _cut(visit: Visit, start: int, end: int) -> None:
        data = visit.packet.data
        visit.spend(64 + len(data))
        visit.change(data[:start] + data[end:])

    @staticmethod
    def _insert(visit: Visit, at: int, header: bytes) -> None:
        data = visit.packet.data
        visit.spend(64 + len(data))
        if len(data) > MAX_FRAME or at > len(data):
            raise SteError('inserted header')
        visit.change(data[:at] + header + data[at:])

    def _remove_by_size(self, raw: bytes, visit: Visit) -> None:
        """Offset and size count words of two bytes."""
        v = prm.view('ste_single_action_remove_header_size_v1', raw)
        if v['outer_l4_remove']:
            raise SteError('outer_l4_remove')
        start = _anchor(visit, v['start_anchor'])
        if start is not None:
            start += 2 * v['start_offset']
            self._cut(visit, start, start + 2 * v['remove_size'])

    def _remove_header(self, raw: bytes, visit: Visit) -> None:
        v = prm.view('ste_single_action_remove_header_v1', raw)
        start, end = _anchor(visit, v['start_anchor']), _anchor(visit, v['end_anchor'])
        if start is not None and end is not None and start < end:
            self._cut(visit, start, end)

    def _insert_inline(self, raw: bytes, visit: Visit) -> None:
        v = prm.view('ste_double_action_insert_with_inline_v1', raw)
        at = _anchor(visit, v['start_anchor'])
        if at is not None:
            self._insert(visit, at + 2 * v['start_offset'], raw[4:8])

    def _insert_pointer(self, raw: bytes, visit: Visit) -> None:
        """A header of ``size`` words: of a reformat context, or out of software's ICM."""
        v = prm.view('ste_double_action_insert_with_ptr_v1', raw)
        at, n = _anchor(visit, v['start_anchor']), 2 * v['size']
        if at is None:
            return
        at += 2 * v['start_offset']
        header = self._header(visit, v['pointer'], n)
        if v['attributes'] == INSERT_PLAIN:
            self._insert(visit, at, header)
        elif v['attributes'] == INSERT_ENCAP and at == 0:
            visit.spend(64 + 2 * len(visit.packet.data))
            encapsulate(visit.packet, header)
            visit.changed()
        else:
            raise SteError('attributes of an inserted header')

    @staticmethod
    def _header(visit: Visit, pointer: int, n: int) -> bytes:
        if pointer < MAX_REFORMATS:
            context = visit.card.packet_reformats.find(pointer)
            if context is None or len(context.data) < n:
                raise SteError(f'packet reformat context {pointer:#x}')
            return context.data[:n]
        ranges = visit.card.icm.ranges()
        if 'encap' not in ranges:
            raise SteError('no encapsulation ICM')
        return visit.icm(ranges['encap'][0] + LINE * (pointer - MAX_REFORMATS), n)

    # ---- header modification

    def _place(self, word: int, shifter: int) -> tuple[int, int]:
        """Word and lowest bit in it."""
        return (word, shifter - _HIGH_WORD) if shifter >= _HIGH_WORD else (word + 1, shifter)

    def _set(self, raw: bytes, visit: Visit) -> None:
        v = prm.view('ste_double_action_set_v1', raw)
        word, low = self._place(v['destination_dw_offset'], v['destination_left_shifter'])
        put(visit, self.words, word, low, v['destination_length'] or 32, v['inline_data'])

    def _add(self, raw: bytes, visit: Visit) -> None:
        v = prm.view('ste_double_action_set_v1', raw)
        word, low = self._place(v['destination_dw_offset'], v['destination_left_shifter'])
        add(visit, self.words, word, low, v['destination_length'] or 32, v['inline_data'])

    def _copy(self, raw: bytes, visit: Visit) -> None:
        v = prm.view('ste_double_action_copy_v1', raw)
        source, right = self._place(v['source_dw_offset'], v['source_right_shifter'])
        word, low = self._place(v['destination_dw_offset'], v['destination_left_shifter'])
        put(visit, self.words, word, low, v['destination_length'] or 32,
            read(visit, self.words, source) >> right)

    def _list(self, actions: bytes, visit: Visit) -> None:
        """Actions of eight bytes each, whatever their size; lists in lists are not done."""
        for at in range(0, len(actions), ACTION):
            raw = actions[at:at + ACTION]
            visit.spend(64)
            if raw[0] in (MODIFY_LIST, ACCELERATED_LIST):
                raise SteError('list in a list')
            self._find(raw[0])[1](raw, visit)

    def _modify_list(self, raw: bytes, visit: Visit) -> None:
        v = prm.view('ste_single_action_modify_list_v1', raw)
        base = visit.card.icm.ranges()['header_modify'][0]
        self._list(
            visit.icm(base + LINE * v['modify_actions_ptr'], ACTION * v['num_of_modify_actions']),
            visit)

    def _accelerated_list(self, raw: bytes, visit: Visit) -> None:
        """A pattern, with the values that differ from rule to rule out of an argument: one is or-ed
        to the other."""
        v = prm.view('ste_double_action_accelerated_modify_action_list_v1', raw)
        n = ACTION * v['number_of_modify_actions']
        ranges = visit.card.icm.ranges()
        if 'header_modify_pattern' not in ranges:
            raise SteError('no pattern ICM')
        pattern = visit.icm(
            ranges['header_modify_pattern'][0] + LINE * v['modify_actions_pattern_pointer'], n)
        number = v['modify_actions_argument_pointer']
        argument = visit.card.header_modify_arguments.space.lookup(number)
        if argument is None:
            raise SteError(f'no header modify argument {number:#x}')
        values = argument.read(number, n)
        if values is None:
            raise SteError('header modify argument is too short')
        self._list(bytes(a | b for a, b in zip(pattern, values, strict=True)), visit)


FORMAT = FormatV1()
#: ConnectX-7 knows the registers by other numbers.
FORMAT_V2 = FormatV1(registers=0x90)
