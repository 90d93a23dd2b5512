# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Layouts of steering table entries, which the kernel's header lacks: control halves, tags by
lookup type, actions.

An STE is 64 bytes.  Formats: 0 (ConnectX-5) and 1 (ConnectX-6 Dx, ConnectX-7, which differ in what
actions may modify).  Of tags only the fields are named that the card fills in; the others read as
zero.
"""
from . import layouts as prm

STE_SIZE, CONTROL_SIZE = 64, 32

# ---- format 0: the control half by entry type

_V0_HEAD = [('entry_type', 4), ('', 4), ('entry_sub_type', 8), ('byte_mask', 16),
            ('next_table_base_63_48', 16), ('next_lu_type', 8), ('next_table_base_39_32_size', 8),
            ('next_table_base_31_5_size', 27)]
_V0_MISS = [('miss_address_63_48', 16), ('counter_trigger_23_16', 8), ('miss_address_39_32', 8),
            ('miss_address_31_6', 26), ('learning_point', 1), ('fail_on_error', 1),
            ('match_polarity', 1), ('mask_mode', 1), ('miss_rank', 2)]
prm.declare('ste_sx_transmit', [
    *_V0_HEAD, ('@', 0x66), ('action_type', 3), ('', 1), ('action_description', 6), ('gvmi', 16),
    ('encap_pointer_vlan_data', 32), ('', 16), ('counter_trigger_15_0', 16), *_V0_MISS])
prm.declare('ste_rx_steering_mult', [
    *_V0_HEAD, ('@', 0x60), ('member_count', 16), ('gvmi', 16), ('qp_list_pointer', 32), ('', 1),
    ('tunneling_action', 3), ('action_description', 4), ('', 8),
    ('counter_trigger_15_0', 16), *_V0_MISS])
prm.declare('ste_modify_packet', [
    *_V0_HEAD, ('@', 0x60), ('number_of_re_write_actions', 16), ('gvmi', 16),
    ('header_re_write_actions_pointer', 32), ('', 1), ('tunneling_action', 3),
    ('action_description', 4), ('', 8), ('counter_trigger_15_0', 16), *_V0_MISS])

# ---- format 1: both kinds of entries share all but the end

_V1_HEAD = [('entry_format', 8), ('counter_id', 24), ('miss_address_63_48', 16),
            ('match_definer_ctx_idx', 8), ('miss_address_39_32', 8), ('miss_address_31_6', 26),
            ('', 1), ('match_polarity', 1), ('reparse', 1), ('', 3), ('next_table_base_63_48', 16),
            ('hash_definer_ctx_idx', 8), ('next_table_base_39_32_size', 8),
            ('next_table_base_31_5_size', 27), ('hash_type', 2), ('hash_after_actions', 1), ('', 2)]
prm.declare('ste_match_bwc_v1', [
    *_V1_HEAD, ('byte_mask', 16), ('next_entry_format', 1), ('mask_mode', 1), ('gvmi', 14),
    ('action', 8, 8)])
prm.declare('ste_mask_and_match_v1', [*_V1_HEAD, ('action', 8, 12)])

# ---- actions of format 1: four or eight bytes each

prm.declare('ste_single_action_flow_tag_v1', [('action_id', 8), ('flow_tag', 24)])
prm.declare('ste_single_action_modify_list_v1', [('action_id', 8), ('num_of_modify_actions', 8),
                                                 ('modify_actions_ptr', 16)])
prm.declare('ste_single_action_remove_header_v1', [('action_id', 8), ('', 2), ('start_anchor', 6),
                                                   ('', 2), ('end_anchor', 6), ('', 4),
                                                   ('decap', 1), ('vni_to_cqe', 1),
                                                   ('qos_profile', 2)])
prm.declare('ste_single_action_remove_header_size_v1', [('action_id', 8), ('', 2),
                                                        ('start_anchor', 6), ('outer_l4_remove', 1),
                                                        ('', 1), ('start_offset', 7), ('', 1),
                                                        ('remove_size', 6)])
prm.declare('ste_double_action_copy_v1', [('action_id', 8), ('destination_dw_offset', 8), ('', 2),
                                          ('destination_left_shifter', 6), ('', 2),
                                          ('destination_length', 6), ('', 8),
                                          ('source_dw_offset', 8), ('', 2),
                                          ('source_right_shifter', 6), ('', 8)])
prm.declare('ste_double_action_set_v1', [('action_id', 8), ('destination_dw_offset', 8), ('', 2),
                                         ('destination_left_shifter', 6), ('', 2),
                                         ('destination_length', 6), ('inline_data', 32)])
prm.declare('ste_double_action_insert_with_inline_v1', [('action_id', 8), ('', 2),
                                                        ('start_anchor', 6), ('start_offset', 7),
                                                        ('', 9), ('inline_data', 32)])
prm.declare('ste_double_action_insert_with_ptr_v1', [('action_id', 8), ('', 2), ('start_anchor', 6),
                                                     ('start_offset', 7), ('size', 6),
                                                     ('attributes', 3), ('pointer', 32)])
prm.declare('ste_double_action_accelerated_modify_action_list_v1',
            [('action_id', 8), ('modify_actions_pattern_pointer', 24),
             ('number_of_modify_actions', 8), ('modify_actions_argument_pointer', 24)])

# ---- modify actions of format 0

prm.declare('dr_action_hw_set', [('opcode', 8), ('destination_field_code', 8), ('', 2),
                                 ('destination_left_shifter', 6), ('', 3),
                                 ('destination_length', 5), ('inline_data', 32)])
prm.declare('dr_action_hw_copy', [('opcode', 8), ('destination_field_code', 8), ('', 2),
                                  ('destination_left_shifter', 6), ('', 2),
                                  ('destination_length', 6), ('', 8), ('source_field_code', 8),
                                  ('', 2), ('source_left_shifter', 6), ('', 8)])

# ---- tags of 16 bytes: format 0

_TCP_FLAGS = [
    (f'tcp_{f}', 1) for f in ('ns', 'cwr', 'ece', 'urg', 'ack', 'psh', 'rst', 'syn', 'fin')]
_SECOND_V0 = [('@', 0x60), ('ip_fragmented', 1), ('tcp_syn', 1), ('@', 0x64), ('l3_type', 2),
              ('l4_type', 2), ('', 4), ('second_priority', 3), ('second_cfi', 1),
              ('second_vlan_qualifier', 2), ('', 2), ('second_vlan_id', 12)]
_FIRST_V0 = [('@', 0x46), ('functional_lb', 1), ('@', 0x4c), ('first_priority', 3),
             ('first_cfi', 1), ('first_vlan_qualifier', 2), ('', 2), ('first_vlan_id', 12)]


def _tag(name: str, fields: list[tuple], size: int = 128) -> None:
    prm.declare(f'ste_{name}', fields, size=size)


for _side in ('src', 'dst'):
    _mac = f'{_side[0]}mac'
    _tag(f'eth_l2_{_side}', [(f'{_mac}_47_16', 32), (f'{_mac}_15_0', 16),
                             ('l3_ethertype', 16), *_FIRST_V0, *_SECOND_V0])
_tag('eth_l2_src_dst', [
    ('dmac_47_16', 32), ('dmac_15_0', 16), ('smac_47_32', 16), ('smac_31_0', 32), ('', 2),
    ('functional_lb', 1), ('', 1), ('l3_type', 2), ('', 6), ('first_priority', 3), ('first_cfi', 1),
    ('first_vlan_qualifier', 2), ('', 2), ('first_vlan_id', 12)])
_tag('eth_l3_ipv4_5_tuple', [('destination_address', 32), ('source_address', 32),
                             ('source_port', 16), ('destination_port', 16), ('fragmented', 1),
                             ('first_fragment', 1), ('', 3), ('ecn', 2), *_TCP_FLAGS, ('dscp', 6),
                             ('', 2), ('protocol', 8)])
_tag('eth_l3_ipv6_dst', [('dst_ip_127_96', 32), ('dst_ip_95_64', 32), ('dst_ip_63_32', 32),
                         ('dst_ip_31_0', 32)])
_tag('eth_l3_ipv6_src', [('src_ip_127_96', 32), ('src_ip_95_64', 32), ('src_ip_63_32', 32),
                         ('src_ip_31_0', 32)])
_tag('eth_l2_tnl', [('dmac_47_16', 32), ('dmac_15_0', 16), ('l3_ethertype', 16),
                    ('l2_tunneling_network_id', 32), ('ip_fragmented', 1), ('tcp_syn', 1), ('', 2),
                    ('l3_type', 2), ('l4_type', 2), ('first_priority', 3), ('first_cfi', 1),
                    ('', 4), ('first_vlan_qualifier', 2), ('', 2), ('first_vlan_id', 12)])
_tag('eth_l3_ipv4_misc', [('version', 4), ('ihl', 4), ('', 8), ('total_length', 16),
                          ('identification', 16), ('flags', 3), ('fragment_offset', 13),
                          ('time_to_live', 8), ('', 8), ('checksum', 16)])
_tag('eth_l4', [('fragmented', 1), ('first_fragment', 1), ('', 6), ('protocol', 8),
                ('dst_port', 16), ('ipv6_version', 4), ('', 1), ('ecn', 2), *_TCP_FLAGS,
                ('src_port', 16), ('ipv6_payload_length', 16), ('ipv6_hop_limit', 8), ('dscp', 6),
                ('', 2), ('tcp_data_offset', 4), ('', 8), ('flow_label', 20)])
_tag('eth_l4_misc', [('l4_checksum', 16), ('udp_length', 16), ('seq_num', 32), ('ack_num', 32),
                     ('urgent_pointer', 16), ('window_size', 16)])
_tag('mpls', [('mpls0', 32), ('mpls1', 32), ('mpls2', 32)])
_tag('register_0', [(f'metadata_reg_c_{k}', 32) for k in range(4)])
_tag('register_1', [(f'metadata_reg_c_{k}', 32) for k in range(4, 8)])
_tag('gre', [('gre_0', 32), ('', 32), ('gre_key', 32), ('gre_seq_num', 32)])
_tag('flex_parser_0', [(f'flex_parser_{k}', 32) for k in (3, 2, 1, 0)])
_tag('flex_parser_1', [(f'flex_parser_{k}', 32) for k in (7, 6, 5, 4)])
_tag('flex_parser_tnl_header', [('tunnel_header_0', 32), ('tunnel_header_1', 32)])
_tag('general_purpose', [('metadata_reg_a', 32)])
_tag('src_gvmi_qp', [('@', 16), ('source_gvmi', 16), ('@', 0x26), ('functional_lb', 1), ('', 1),
                     ('source_qp', 24)])
_tag('dont_care', [])

# ---- tags of 16 bytes: format 1

_FIRST_V1 = [('l3_type', 2), ('l4_type', 2), ('first_vlan_qualifier', 2), ('first_priority', 3),
             ('first_cfi', 1), ('first_vlan_id', 12)]
_SECOND_V1 = [('second_vlan_qualifier', 2), ('second_priority', 3), ('second_cfi', 1),
              ('second_vlan_id', 12)]
for _side in ('src', 'dst'):
    _mac = f'{_side[0]}mac'
    _tag(f'eth_l2_{_side}_v1', [('', 2), ('functional_lb', 1), ('ip_fragmented', 1),
                                ('', 6), *_FIRST_V1, (f'{_mac}_47_16', 32), (f'{_mac}_15_0', 16),
                                ('l3_ethertype', 16), ('', 6), ('tcp_syn', 1), ('@', 0x6b),
                                ('l2_ok', 1), ('l3_ok', 1), ('l4_ok', 1), *_SECOND_V1])
_tag('eth_l2_src_dst_v1', [('dmac_47_16', 32), ('smac_47_16', 32), ('dmac_15_0', 16), ('', 2),
                           ('functional_lb', 1), ('', 7), ('l3_type', 2), ('', 2), *_FIRST_V1[2:],
                           ('smac_15_0', 16)])
_tag('eth_l3_ipv4_5_tuple_v1', [('source_address', 32), ('destination_address', 32),
                                ('source_port', 16), ('destination_port', 16), ('', 4),
                                ('l4_ok', 1), ('l3_ok', 1), ('fragmented', 1), *_TCP_FLAGS,
                                ('dscp', 6), ('ecn', 2), ('protocol', 8)])
_tag('eth_l2_tnl_v1', [('l2_tunneling_network_id', 32), ('dmac_47_16', 32), ('dmac_15_0', 16),
                       ('l3_ethertype', 16), ('', 3), ('ip_fragmented', 1), ('', 6), *_FIRST_V1])
_tag('eth_l3_ipv4_misc_v1', [('identification', 16), ('flags', 3), ('fragment_offset', 13),
                             ('total_length', 16), ('checksum', 16), ('version', 4), ('ihl', 4),
                             ('time_to_live', 8)])
_tag('eth_l4_v1', [('ipv6_version', 4), ('', 4), ('dscp', 6), ('ecn', 2), ('ipv6_hop_limit', 8),
                   ('protocol', 8), ('src_port', 16), ('dst_port', 16), ('first_fragment', 1),
                   ('', 11), ('flow_label', 20), ('tcp_data_offset', 4), ('l4_ok', 1), ('l3_ok', 1),
                   ('fragmented', 1), *_TCP_FLAGS, ('ipv6_payload_length', 16)])
_tag('eth_l4_misc_v1', [('window_size', 16), ('urgent_pointer', 16), ('ack_num', 32),
                        ('seq_num', 32), ('udp_length', 16), ('l4_checksum', 16)])
#: What the same lookup type holds of an ICMP message.
_tag('icmp_v1', [('icmp_payload_data', 32), ('icmp_header_data', 32), ('icmp_type', 8),
                 ('icmp_code', 8)])
_tag('mpls_v1', [('@', 32), ('mpls0', 32), ('mpls1', 32), ('mpls2', 32)])
_tag('gre_v1', [('gre_0', 32), ('', 32), ('gre_key', 32)])
_tag('src_gvmi_qp_v1', [('@', 15), ('functional_lb', 1), ('source_gvmi', 16), ('@', 0x28),
                        ('source_qp', 24)])
_tag('ib_l4', [('bth_opcode', 8), ('bth_dst_qp', 24), ('bth_se', 1), ('bth_migreq', 1),
               ('bth_a', 1), ('@', 0x2a), ('bth_pad_count', 2), ('bth_tver', 4), ('bth_pkey', 16)])

# ---- tags of 32 bytes: match definers by format

_OK_BITS = [('inner_ipv4_checksum_ok', 1), ('inner_l4_checksum_ok', 1),
            ('outer_ipv4_checksum_ok', 1), ('outer_l4_checksum_ok', 1), ('inner_l3_ok', 1),
            ('inner_l4_ok', 1), ('outer_l3_ok', 1), ('outer_l4_ok', 1)]
_TYPES = [('outer_l3_type', 2), ('outer_l4_type', 2)]
_FIRST = [('first_vlan_qualifier', 2), ('first_priority', 3), ('first_cfi', 1),
          ('first_vlan_id', 12)]
_PACKET = [('', 2), ('functional_lb', 1), ('outer_ip_frag', 1), ('', 6), *_TYPES, *_FIRST]
_PROTOCOLS = [('inner_ip_protocol', 8), ('inner_l3_type', 2), ('inner_l4_type', 2),
              ('inner_first_vlan_type', 2), ('inner_ip_frag', 1), ('functional_lb', 1),
              ('outer_ip_protocol', 8), *_TYPES, ('outer_first_vlan_type', 2), ('outer_ip_frag', 1)]
_DEFINERS: dict[int, list[tuple]] = {
    0: [('metadata_reg_c_0', 32), ('metadata_reg_c_1', 32), ('dmac_47_16', 32), ('dmac_15_0', 16),
        ('ethertype', 16), *_PACKET, ('', 14), *_SECOND_V1, ('smac_47_16', 32), ('smac_15_0', 16),
        *_OK_BITS, *_TCP_FLAGS[1:]],
    2: [('metadata_reg_a', 32), ('outer_ip_version', 4), ('outer_ip_ihl', 4), ('outer_ip_dscp', 6),
        ('outer_ip_ecn', 2), ('outer_ip_ttl', 8), ('outer_ip_protocol', 8),
        ('outer_ip_identification', 16), ('outer_ip_flags', 3), ('outer_ip_fragment_offset', 13),
        ('outer_ip_total_length', 16), ('outer_ip_checksum', 16), ('', 12),
        ('outer_ip_flow_label', 20), ('outer_eth_packet_length', 16),
        ('outer_ip_payload_length', 16), ('outer_l4_sport', 16), ('outer_l4_dport', 16),
        ('outer_data_offset', 4), ('', 2), ('outer_ip_frag', 1), *_TCP_FLAGS, ('', 8), *_OK_BITS],
    6: [('dst_ipv6_127_96', 32), ('dst_ipv6_95_64', 32), ('dst_ipv6_63_32', 32),
        ('dst_ipv6_31_0', 32), ('@', 0xc0), ('outer_l4_sport', 16), ('outer_l4_dport', 16), ('', 4),
        ('l4_ok', 1), ('l3_ok', 1), ('ip_frag', 1), *_TCP_FLAGS],
    16: [('tunnel_header_0', 32), ('tunnel_header_1', 32), ('@', 0xa0), ('metadata_reg_a', 32),
         ('', 8), *_TYPES, ('outer_first_vlan_type', 2), ('', 1), ('functional_lb', 1),
         ('source_gvmi', 16), ('', 1), ('outer_ip_frag', 1), ('@', 0xe8), ('source_sqn', 24)],
    22: [('outer_ip_src_addr', 32), ('outer_ip_dst_addr', 32), ('outer_l4_sport', 16),
         ('outer_l4_dport', 16), *_PACKET, ('metadata_reg_c_0', 32), ('outer_dmac_47_16', 32),
         ('outer_smac_47_16', 32), ('outer_smac_15_0', 16), ('outer_dmac_15_0', 16)],
    24: [('metadata_reg_c_2', 32), ('metadata_reg_c_3', 32), ('metadata_reg_c_0', 32),
         ('metadata_reg_c_1', 32), ('outer_ip_src_addr', 32), ('outer_ip_dst_addr', 32),
         ('outer_l4_sport', 16), ('outer_l4_dport', 16), *_PROTOCOLS],
    25: [('inner_ip_src_addr', 32), ('inner_ip_dst_addr', 32), ('inner_l4_sport', 16),
         ('inner_l4_dport', 16), ('tunnel_header_0', 32), ('tunnel_header_1', 32), ('@', 0xc2),
         ('inner_l3_type', 2), ('inner_l4_type', 2), ('inner_first_vlan_type', 2), ('', 2), *_TYPES,
         ('outer_first_vlan_type', 2), ('outer_l4_dport', 16)],
    26: [('src_ipv6_127_96', 32), ('src_ipv6_95_64', 32), ('src_ipv6_63_32', 32),
         ('src_ipv6_31_0', 32), ('', 3), ('ip_frag', 1), ('', 6), ('l3_type', 2), ('l4_type', 2),
         ('first_vlan_type', 2), ('first_priority', 3), ('first_cfi', 1), ('first_vlan_id', 12),
         ('@', 0xab), ('l2_ok', 1), ('l3_ok', 1), ('l4_ok', 1),
         ('second_vlan_type', 2), *_SECOND_V1[1:], ('smac_47_16', 32), ('smac_15_0', 16),
         ('ip_protocol', 8), *_TCP_FLAGS[1:]],
    28: [('inner_l4_sport', 16), ('inner_l4_dport', 16), ('', 32), ('inner_ip_src_addr', 32),
         ('inner_ip_dst_addr', 32), ('outer_ip_src_addr', 32), ('outer_ip_dst_addr', 32),
         ('outer_l4_sport', 16), ('outer_l4_dport', 16), *_PROTOCOLS],
    33: [('outer_ip_src_addr', 32), ('outer_ip_dst_addr', 32), ('outer_l4_sport', 16),
         ('outer_l4_dport', 16), *_PACKET, ('@', 0xe0), ('outer_ip_version', 4),
         ('outer_ip_ihl', 4), *_OK_BITS, ('outer_ip_ttl', 8), ('outer_ip_protocol', 8)], }
#: Formats of match definers.
DEFINERS = tuple(_DEFINERS)
for _number, _fields in _DEFINERS.items():
    _tag(f'def{_number}_v1', _fields, 256)
