# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Capability pages and profiles: the only place with capability values.

What is set here is emulated; a feature that is not (yet) stays zero, whatever the real card has.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import prm
from ..prm import ste_layouts
from . import firmware_icm
from .flow_namespace import UPLINK
from .status import Status

PAGE_SIZE = 4096

# ---- Places in BAR0 that the driver reads from the pages; bus/bar0.py has what is there.
#: MEMIC; the addresses of its operations, for each of them an alias of all of MEMIC; in bytes.
MEMIC_START, MEMIC_SIZE = 16 << 20, 1 << 20
MEMIC_OPERATION_START = 24 << 20
#: Doorbell pages of virtqueues: where they begin, log2 of how many, log2 bytes of one.
VIRTIO_START, LOG_VIRTIO_PAGES, LOG_VIRTIO_STRIDE = 12 << 20, 6, 12

# ---- Limits that the pages tell and the objects hold.
#: Greatest MEMIC in bytes; least unit as log2 bytes; greatest alignment as the command has it, log2
#: of a multiple of 64 bytes.
MAX_MEMIC, LOG_MIN_MEMIC, LOG_MAX_MEMIC_ALIGN = 256 << 10, 6, 12
#: Operations of MEMIC, the bits of memic_operations, and the access sizes in bytes as a bit mask:
#: all that NVIDIA's published interface names but for accesses of 16 bytes, which no CPU
#: instruction of the driver's makes as one.
MEMIC_INCREMENT, MEMIC_TEST_AND_SET = 0, 1
MEMIC_OPERATION_SIZES = 1 | 2 | 4 | 8
#: Most completions of a session of compressed CQEs, and cqe_compression_timeout in microseconds:
#: sessions end with the doorbell, well before.
CQE_COMPRESSION_MAX, CQE_COMPRESSION_TIMEOUT_US = 64, 16
#: Actions of one modify header context, bytes of one packet reformat.
MAX_MODIFY_ACTIONS, MAX_ENCAP_HEADER = 64, 512
#: What steering entries number: reformat contexts of firmware come first, then lines of the ICM
#: range of encapsulations, of so many bytes each.
MAX_REFORMATS, ICM_LINE = 1 << 20, 64
#: Virtqueues: a split ring, events by a QP, and bytes of each of the three umems that the card may
#: use, for one entry of the queue.
VIRTIO_SPLIT, VIRTIO_EVENT_QP, VIRTIO_UMEM_BYTES = 0, 1, 64

#: Capability types of QUERY_HCA_CAP by name: (type, layout).
PAGES = {
    'general': (0x0, 'cmd_hca_cap'),
    'ethernet': (0x1, 'per_protocol_networking_offload_caps'),
    'odp': (0x2, 'odp_cap'),
    'atomic': (0x3, 'atomic_caps'),
    'roce': (0x4, 'roce_cap'),
    'flow_table': (0x7, 'flow_table_nic_cap'),
    'eswitch_flow_table': (0x8, 'flow_table_eswitch_cap'),
    'eswitch': (0x9, 'e_switch_cap'),
    'qos': (0xc, 'qos_cap'),
    'device_memory': (0xf, 'device_mem_cap'),
    'virtio_emulation': (0x13, 'virtio_emulation_cap'),
    'general_2': (0x20, 'cmd_hca_cap_2'),
    'adv_rdma': (0x28, 'adv_rdma_cap'),
    'crypto': (0x1a, 'crypto_cap'),
}
BY_TYPE = {number: name for name, (number, _) in PAGES.items()}

#: What SET_HCA_CAP changes, by page; everything else of the page the card ignores.
SETTABLE = {
    'general': ('log_max_qp', 'pkey_table_size', 'cmdif_checksum', 'uar_4k', 'log_uar_page_sz',
                'cache_line_128byte', 'dct', 'roce', 'num_vhca_ports', 'log_max_current_uc_list'),
    'atomic': ('atomic_req_8B_endianness_mode', ),
    'roce': ('sw_r_roce_src_udp_port', ),
    'odp':
    ('mem_page_fault',
     *(f'transport_page_fault_scheme_cap.{f}'
       for f in ('ud_odp_caps.srq_receive', 'rc_odp_caps.srq_receive',
                 *(f'{t}_odp_caps.{f}' for t in ('xrc', 'dc')
                   for f in ('srq_receive', 'send', 'receive', 'write', 'read', 'atomic'))))), }
#: Types of general objects: SW_ICM, FLOW_METER, FLOW_SAMPLER, SCHEDULING_ELEMENT, RESERVED_QPN; and
#: those that came with ConnectX-6 Dx: MATCH_DEFINER, HEADER_MODIFY_ARGUMENT, AV_QP_MAPPING.
GENERAL_OBJECTS = (8, 0xa, 0x20, 0x26, 0x2c)
LATER_GENERAL_OBJECTS = (0x18, 0x23, 0x3a)
#: Of cards with a crypto engine: encryption keys, crypto login.
CRYPTO_OBJECTS = (0xc, 0x1f)
#: Of functions with an Ethernet port: VIRTIO_NET_Q.
ETHERNET_OBJECTS = (0xd,)
#: The first function of the card, as ICM addresses of firmware's objects name it; the others
#: follow.
VHCA_ID = 1
# Fields that are no upper bound: any value is taken.
_FREE = ('pkey_table_size', 'log_uar_page_sz', 'atomic_req_8B_endianness_mode')


@dataclass(frozen=True)
class Profile:
    """What tells one card from another."""
    name: str
    device_id: int
    fw_major: int
    fw_minor: int
    fw_subminor: int
    psid: str
    #: steering_format_version of SW steering: 0 ConnectX-5, 1 ConnectX-6 Dx, 2 ConnectX-7.
    steering_format: int
    frequency_khz: int
    #: Link layers that the card is sold with, the one to start with first.
    link_layers: tuple[str, ...]


PROFILES = {p.name: p for p in (
    Profile('connectx5', 0x1017, 16, 35, 4030, 'MT_0000000012', 0, 156250, ('ib', 'eth')),
    Profile('connectx6dx', 0x101d, 22, 41, 1000, 'MT_0000000359', 1, 1000000, ('eth',)),
    Profile('connectx7', 0x1021, 28, 41, 1000, 'MT_0000000838', 2, 1000000, ('ib', 'eth')),
)}


def parse_override(text: str) -> tuple[str, str, int]:
    """Split PAGE.FIELD=VALUE, for example device_memory.memic=0.

    :return: page, field, value
    :raises ValueError: the text, the page or the value cannot be; the text says what is possible
    """
    path, equals, number = text.partition('=')
    page, _, field = path.partition('.')
    if not equals or not field:
        raise ValueError(f'{text}: want PAGE.FIELD=VALUE, as in device_memory.memic=0')
    if page not in PAGES:
        raise ValueError(f'{text}: the pages are {", ".join(PAGES)}')
    try:
        return page, field, int(number, 0)
    except ValueError:
        raise ValueError(f'{text}: {number} is not a number') from None


class Capabilities:
    """Maximal and current values of every page.

    :param overrides: PAGE.FIELD=VALUE each, put in place of the profile's value
    :param index: number of the function on the card
    :raises ValueError: an override that names no field of the header at hand, or a value that does
        not fit it
    """

    def __init__(self, profile: Profile, link_layer: str, overrides: Sequence[str] = (),
                 index: int = 0) -> None:
        self.maximal: dict[str, prm.View] = {}
        self.current: dict[str, prm.View] = {}
        values = _values(profile, link_layer, VHCA_ID + index)
        for name, (_, layout) in PAGES.items():
            # Fields beyond the layout exist in the page; the layout of an older header may lack
            # fields of ours.
            view = self.maximal[name] = prm.View(layout, bytearray(PAGE_SIZE))
            for field, value in values.get(name, {}).items():
                if view.has(field):
                    view[field] = value
        for text in overrides:
            page, field, value = parse_override(text)
            try:
                self.maximal[page][field] = value
            except prm.LayoutError:
                raise ValueError(f'{text}: {PAGES[page][1]} has no field {field}') from None
        for name, view in self.maximal.items():
            self.current[name] = prm.View(view.name, bytearray(view.buf))
        # On-demand paging beyond the basics is off until the driver asks for it.
        for field in SETTABLE['odp']:
            if self.current['odp'].has(field):
                self.current['odp'][field] = 0

    def page(self, name: str) -> prm.View:
        """Current values of a page."""
        return self.current[name]

    def get(self, field: str) -> Any:
        """Current value of a general capability."""
        return self.current['general'][field]

    def by_type(self, number: int, current: bool = True) -> prm.View | None:
        """A page by its number in QUERY_HCA_CAP; None when the card has no such page."""
        name = BY_TYPE.get(number)
        return None if name is None else (self.current if current else self.maximal)[name]

    def set(self, name: str, raw: bytes) -> None:
        """Take the settable fields of a page from the driver's copy of it.

        :raises Status: BAD_PARAM when a value is more than the card has.
        """
        view = self.current[name]
        given = prm.View(view.name, bytes(raw).ljust(PAGE_SIZE, b'\0'))
        fields = [f for f in SETTABLE.get(name, ()) if view.has(f)]
        for field in fields:
            if field not in _FREE and given[field] > self.maximal[name][field]:
                raise Status('BAD_PARAM', f'{field} is above the maximum')
        for field in fields:
            view[field] = given[field]


def _general(profile: Profile, eth: bool) -> dict[str, int]:
    out = {
        # identity and ports
        'port_type': int(eth),
        'num_ports': 1,
        'native_port_num': 1,
        'vport_group_manager': 1,
        'driver_version': 1,
        'ib_virt': int(not eth),
        'eth_virt': int(eth),
        'gid_table_size': 0,
        'pkey_table_size': 0,
        'nic_vport_change_event': int(eth),
        'disable_local_lb_uc': 1,
        'disable_local_lb_mc': 1,
        'block_lb_mc': 1,
        'vport_counters': 1,
        'local_ca_ack_delay': 16,
        # pages, doorbells, time
        'log_pg_sz': 12,
        'uar_sz': 5,
        # BlueFlame takes eight stores a WQE, each of which waits for QEMU, and the card needs the
        # first alone: --cap general.bf=1 has it.
        'bf': 0,
        'log_bf_reg_size': 9,
        'num_of_uars_per_page': 1,
        'log_max_eq': 7,
        'log_max_eq_sz': 16,
        'max_num_eqs': 124,
        'device_frequency_khz': profile.frequency_khz,
        'device_frequency_mhz': profile.frequency_khz // 1000,
        # domains and keys
        'log_max_pd': 16,
        'log_max_transport_domain': 12,
        'log_max_xrcd': 12,
        'log_max_mkey': 18,
        'log_max_mrw_sz': 64,
        'log_max_klm_list_size': 16,
        'log_max_bsf_list_size': 6,
        'max_indirection': 32,
        'fixed_buffer_size': 1,
        'null_mkey': 1,
        'pg': 1,
        'dump_fill_mkey': 1,
        'terminate_scatter_list_mkey': 1,
        'umr_extended_translation_offset': 1,
        'relaxed_ordering_write': 1,
        'relaxed_ordering_read': 1,
        'relaxed_ordering_write_umr': 1,
        'relaxed_ordering_read_umr': 1,
        'relaxed_ordering_read_pci_enabled': 1,
        # signatures and encryption behind keys
        'sho': 1,
        'sigerr_cqe': 1,
        'sigerr_domain_and_sig_type': 1,
        'drain_sigerr': 1,
        **_offloads(profile),
        # completion queues
        'log_max_cq': 16,
        'log_max_cq_sz': 22,
        'cqe_version': 1,
        'cq_oi': 1,
        'cqe_128_always': 1,
        'cq_resize': 1,
        'cq_moderation': 1,
        **_compression(profile),
        'cq_period_start_from_cqe': 1,
        'cq_period_mode_modify': 1,
        # queue pairs and shared receive queues
        'log_max_qp': 17,
        'log_max_qp_sz': 15,
        'log_max_srq': 16,
        'log_max_srq_sz': 15,
        'rts2rts_qp_udp_sport': 1,
        'log_max_ra_req_qp': 4,
        'log_max_ra_res_qp': 4,
        'log_max_msg': 30,
        'max_wqe_sz_sq': 1024,
        'max_wqe_sz_rq': 512,
        'max_wqe_sz_sq_dc': 1024,
        'log_max_ra_req_dc': 4,
        'log_max_ra_res_dc': 4,
        'rc': 1,
        'uc': 1,
        'ud': 1,
        'xrc': 1,
        'dct': 1,
        'imaicl': 1,
        'atomic': 1,
        'qkv': 1,
        'pkv': 1,
        'sctr_data_cqe': 1,
        'compact_address_vector': 1,
        'stat_rate_support': 0x3f,
        'max_tc': 8,
        'max_qp_mcg': 240,
        'log_max_mcg': 21,
        'max_qp_cnt': 10,
        'rts2rts_qp_counters_set_id': 1,
        'out_of_seq_cnt': 1,
        'retransmission_q_counters': 1,
        'enhanced_error_q_counters': 1,
        'modify_rq_counter_set_id': 1,
        # work queues
        'log_max_rq': 14,
        'log_max_sq': 14,
        'log_max_tir': 14,
        'log_max_tis': 14,
        'log_max_rmp': 14,
        'log_max_rqt': 14,
        'log_max_rqt_size': 11,
        'log_max_tis_per_sq': 3,
        'log_max_wq_sz': 15,
        'log_max_stride_sz_rq': 11,
        'log_min_stride_sz_rq': 4,
        'log_max_stride_sz_sq': 11,
        'log_min_stride_sz_sq': 6,
        'basic_cyclic_rcv_wqe': 1,
        # user contexts and objects
        'log_max_uctx': 7,
        'uctx_cap': 3,
        'log_max_umem': 16,
        'umem_uid_0': 1,
        'device_memory': 1,
        'hca_cap_2': 1,
        'general_obj_types': sum(1 << n for n in _general_objects(profile, eth)),
        # steering
        'max_flow_counter_15_0': 0xffff,
        'log_max_flow_counter_bulk': 15,
        # Bulks of 128, 256 and 512.
        'flow_counter_bulk_alloc': 4,
        'nic_flow_table': 1,
        'steering_format_version': profile.steering_format,
        # quality of service
        'qos': 1,
        'qpc_extension': 1,
        # which management registers there are, as firmware versions by component
        'mcam_reg': 1, }
    if not eth:
        # The library connects its command QP without a GRH, which the driver refuses on Ethernet.
        out |= {'tag_matching': 1, 'rndv_offload_rc': 1, 'log_tag_matching_list_sz': 7}
    if profile.steering_format >= 2:
        # Rights to control RDMA of the function and of others: what Linux 6.15 and later give by
        # files in /dev/infiniband.
        out |= {'adv_rdma': 1, 'uctx_cap': out['uctx_cap'] | 1 << 3 | 1 << 4}
    if profile.steering_format:
        out |= {
            'log_max_dci_stream_channels': 6, 'log_max_dci_errored_streams': 6,
            'dp_ordering_ooo_all_rc': 1, 'dp_ordering_ooo_all_xrc': 1, 'dp_ordering_ooo_all_dc': 1}
    if eth:
        out |= {
            'roce':
            1,
            'roce_rw_supported':
            1,
            'eth_net_offloads':
            1,
            'pcam_reg':
            1,
            'qcam_reg':
            1,
            'log_max_vlan_list':
            12,
            'log_max_current_mc_list':
            14,
            'log_max_current_uc_list':
            7,
            # A switch with no other port on it: no virtual functions, no tables of its own.
            'eswitch_manager':
            1,
            'fl_rc_qp_when_roce_disabled':
            1,
            **_flex_parsers(profile),
            # Two ports that could be bonded, and are not (lag_master, lag_dct).
            'num_lag_ports':
            2,
            'lag_tx_port_affinity':
            1,
            'rts2rts_lag_tx_port_affinity':
            1,
            'init2_lag_tx_port_affinity':
            1, }
    return out


def _flex_parsers(profile: Profile) -> dict[str, int]:
    """What the first steering format sees through flexible parsers the later ones have fields for;
    definers came with them."""
    if profile.steering_format:
        return {
            'match_definer_format_supported': sum(1 << n for n in ste_layouts.DEFINERS),
            'log_max_num_header_modify_argument': 16, 'log_header_modify_argument_granularity': 0,
            'log_header_modify_argument_max_alloc': 10}
    # Geneve, VXLAN-GPE, ICMPv4, ICMPv6.
    return {
        'flex_parser_protocols': 1 << 3 | 1 << 7 | 1 << 8 | 1 << 9, 'flex_parser_id_icmp_dw0': 0,
        'flex_parser_id_icmp_dw1': 1, 'flex_parser_id_icmpv6_dw0': 2, 'flex_parser_id_icmpv6_dw1':
        3}


def _general_objects(profile: Profile, eth: bool) -> tuple[int, ...]:
    later = LATER_GENERAL_OBJECTS + CRYPTO_OBJECTS if profile.steering_format else ()
    return GENERAL_OBJECTS + later + (ETHERNET_OBJECTS if eth else ())


def _general_2(profile: Profile) -> dict[str, int]:
    out = {
        'log_max_num_reserved_qpn': 15, 'log_reserved_qpn_granularity': 6,
        'log_reserved_qpn_max_alloc': 10}
    if profile.steering_format:
        # Any send queue may do without a doorbell record.
        out |= {
            'send_dbr_mode_no_dbr_ext': 1, 'log_max_send_dbr_less_qp_sq': 17, 'dp_ordering_force':
            1}
    return out


def _offloads(profile: Profile) -> dict[str, int]:
    """Signatures, and the crypto engine, that came after ConnectX-5."""
    if not profile.steering_format:
        return {}
    return {
        'sig_block_4048': 1, 'sig_crc32c': 1, 'sig_crc64_xp10': 1, 'crypto': 1,
        'aes_xts_multi_block_be_tweak': 1}


def _compression(profile: Profile) -> dict[str, int]:
    return {
        'cqe_compression': 1, 'cqe_compression_128': 1, 'cqe_compression_timeout':
        CQE_COMPRESSION_TIMEOUT_US, 'cqe_compression_max_num': CQE_COMPRESSION_MAX,
        'mini_cqe_resp_stride_index': int(profile.steering_format > 0)}


def _crypto(profile: Profile) -> dict[str, int]:
    """A crypto officer has been here: keys come wrapped, and there is one import KEK and one
    credential."""
    if not profile.steering_format:
        return {}
    return {
        'wrapped_crypto_operational': 1, 'wrapped_import_method': 4, 'log_max_num_deks': 12,
        'num_nv_import_keks': 1, 'num_nv_credentials': 1}


#: Flow tables that firmware manages.
_FIRMWARE_TABLES = {
    'ft_support': 1, 'flow_counter': 1, 'flow_modify_en': 1, 'modify_root': 1,
    'identified_miss_table_mode': 1, 'flow_table_modify': 1, 'log_max_ft_size': 20, 'max_ft_level':
    64, 'log_max_ft_num': 12, 'log_max_flow': 20, 'log_max_destination': 9, 'log_max_flow_counter':
    16}


def _adv_rdma(profile: Profile) -> dict[str, int]:
    """Flow tables of the RDMA transport domain, which came with ConnectX-7."""
    if profile.steering_format < 2:
        return {}
    return {
        f'rdma_transport_{way}_flow_table_properties.{k}': v for way in ('rx', 'tx')
        for k, v in _FIRMWARE_TABLES.items()}


def _flow_table(profile: Profile, eth: bool, vhca_id: int) -> dict[str, int]:
    steering = {
        'sw_owner': int(profile.steering_format == 0), 'sw_owner_v2':
        int(profile.steering_format > 0)}
    firmware = _FIRMWARE_TABLES
    change = {
        'reformat': 1, 'decap': 1, 'reformat_l3_tunnel_to_l2': 1, 'reformat_l2_to_l3_tunnel': 1,
        'reformat_and_modify_action': 1, 'reformat_and_vlan_action': 1, 'pop_vlan': 1, 'push_vlan':
        1, 'pop_vlan_2': 1, 'push_vlan_2': 1, 'log_max_modify_header_context': 12,
        'max_modify_header_actions': MAX_MODIFY_ACTIONS} if eth else {}
    out: dict[str, int] = {}
    for direction in ('nic_receive', 'nic_transmit'):
        prefix = f'flow_table_properties_{direction}'
        # InfiniBand ports have receive tables, which only IPoIB's frames would come to.
        table = firmware if eth or direction == 'nic_receive' else {}
        out |= {f'{prefix}.{k}': v for k, v in (steering | table | change).items()}
        if eth:
            for field in _match_fields():
                out[f'{prefix}.ft_field_support.{field}'] = 1
    # RDMA traffic has tables on both link layers.
    out['flow_table_properties_nic_receive_rdma.table_miss_action_domain'] = 1
    out |= {
        f'flow_table_properties_nic_{way}_rdma.{k}': v for way in ('receive', 'transmit')
        for k, v in firmware.items()}
    if eth:
        out |= {
            'encap_general_header': 1, 'log_max_packet_reformat_context': 12,
            'max_encap_header_size': MAX_ENCAP_HEADER}
    # Where software steering sends what it drops or lets through.
    for what, kind in (('rx_action_drop', firmware_icm.DROP_RX),
                       ('tx_action_drop', firmware_icm.DROP_TX), ('tx_action_allow',
                                                                  firmware_icm.ALLOW_TX)):
        out[f'sw_steering_nic_{what}_icm_address'] = firmware_icm.address_of(vhca_id, kind)
    return out


def _eswitch_flow_table(profile: Profile, vhca_id: int) -> dict[str, int]:
    """The switch between the function and the wire: tables of firmware and of software, without
    tunnels."""
    nic = _flow_table(profile, True, vhca_id)
    prefix, able = 'flow_table_properties_nic_receive.', 'flow_table_properties_nic_esw_fdb.'
    out = {able + k.removeprefix(prefix): v for k, v in nic.items()
           if k.startswith(prefix) and 'reformat' not in k and not k.endswith('decap')}
    for k, side, drop in ((0, 'rx', firmware_icm.DROP_RX), (1, 'tx', firmware_icm.DROP_TX)):
        out[f'sw_steering_fdb_action_drop_icm_address_{side}'] = firmware_icm.address_of(
            vhca_id, drop)
        out[f'sw_steering_uplink_icm_address_{side}'] = firmware_icm.address_of(
            vhca_id, firmware_icm.VPORT, UPLINK << 1 | k)
    return out


def _qos(eth: bool) -> dict[str, int]:
    """Scheduling elements of the NIC hierarchy: TSARs (bit 0) with DWRR, and queue groups (bit 4).
    Pacing is for raw send queues."""
    out = {
        'nic_qp_scheduling': 1, 'nic_sq_scheduling': int(eth), 'nic_bw_share': 1, 'nic_rate_limit':
        1, 'log_max_qos_nic_queue_group': 8, 'nic_element_type': 1 << 0 | 1 << 4, 'nic_tsar_type':
        1, 'max_tsar_bw_share': 100}
    if eth:
        out |= {
            'flow_meter': 1, 'flow_meter_old': 1, 'log_max_flow_meter': 16, 'flow_meter_reg_id':
            0x3c}
        # Rates in kilobits a second.
        out |= {
            'packet_pacing': 1, 'packet_pacing_burst_bound': 1, 'packet_pacing_typical_size': 1,
            'packet_pacing_uid': 1, 'packet_pacing_min_rate': 1, 'packet_pacing_max_rate':
            100_000_000, 'packet_pacing_rate_table_size': 128}
    return out


def _match_fields() -> list[str]:
    return [f for f, (_, bits, sub, _) in prm.fields('flow_table_fields_supported').items()
            if bits == 1 and sub is None and not f.startswith('reserved')]


def _odp(profile: Profile) -> dict[str, int]:
    """On-demand paging; ConnectX-7 has the memory scheme besides the transport scheme."""
    everything = ('send', 'receive', 'write', 'read', 'atomic', 'srq_receive')
    transports = {'rc': everything, 'xrc': everything, 'dc': everything, 'ud': ('send',)}
    each = {
        f'{transport}_odp_caps.{what}': 1 for transport, all_of_it in transports.items()
        for what in all_of_it}
    out = {f'transport_page_fault_scheme_cap.{k}': v for k, v in each.items()}
    if profile.steering_format >= 2:
        out |= {'mem_page_fault': 1, 'memory_page_fault_scheme_cap.page_prefetch': 1,
                **{f'memory_page_fault_scheme_cap.{k}': v for k, v in each.items()}}
    return out


def _device_memory(profile: Profile) -> dict[str, int]:
    """MEMIC, and one range of software-managed ICM for each kind; modify patterns came with the
    second steering format."""
    out = {
        'memic': 1,
        'memic_bar_start_addr': MEMIC_START,
        'memic_bar_size': MEMIC_SIZE,
        'max_memic_size': MAX_MEMIC,
        'log_min_memic_alloc_size': LOG_MIN_MEMIC,
        'log_max_memic_addr_alignment': LOG_MAX_MEMIC_ALIGN,
        'memic_operations': 1 << MEMIC_INCREMENT | 1 << MEMIC_TEST_AND_SET,
        'memic_increment_size': MEMIC_OPERATION_SIZES,
        'memic_test_and_set_size': MEMIC_OPERATION_SIZES,
        'log_sw_icm_alloc_granularity': 12,
        'steering_sw_icm_start_address': 0x10_0000_0000,
        'log_steering_sw_icm_size': 28,
        'header_modify_sw_icm_start_address': 0x20_0000_0000,
        'log_header_modify_sw_icm_size': 24, }
    if profile.steering_format:
        out |= {
            'header_modify_pattern_sw_icm_start_address': 0x30_0000_0000,
            'log_header_modify_pattern_sw_icm_size': 22, 'indirect_encap_sw_icm_start_address':
            0x40_0000_0000, 'log_indirect_encap_sw_icm_size': 24, 'indirect_encap_icm_base':
            0x40_0000_0000 - MAX_REFORMATS * ICM_LINE}
    return out


def _values(profile: Profile, link_layer: str, vhca_id: int = VHCA_ID) -> dict[str, dict[str, int]]:
    eth = link_layer == 'eth'
    out = {
        'general': _general(profile, eth) | {'vhca_id': vhca_id},
        'atomic': {
            'supported_atomic_req_8B_endianness_mode_1': 1, 'atomic_operations': 3,
            'atomic_size_qp': 1 << 3, 'atomic_size_dc': 1 << 3},
        'flow_table': _flow_table(profile, eth, vhca_id),
        'odp': _odp(profile),
        'qos': _qos(eth),
        'virtio_emulation': {
            'eth_frame_offload_type': 1, 'virtio_version_1_0': 1, 'virtio_queue_type':
            1 << VIRTIO_SPLIT, 'event_mode': 1 << VIRTIO_EVENT_QP,
            'log_doorbell_stride': LOG_VIRTIO_STRIDE, 'log_doorbell_bar_size':
            LOG_VIRTIO_PAGES, 'doorbell_bar_offset': VIRTIO_START,
            'max_num_virtio_queues': 1024, **{
                f'umem_{k}_buffer_param_a': VIRTIO_UMEM_BYTES for k in (1, 2, 3)}},
        'device_memory': _device_memory(profile),
        'crypto': _crypto(profile),
        'general_2': _general_2(profile),
        'adv_rdma': _adv_rdma(profile), }
    if eth:
        out['eswitch_flow_table'] = _eswitch_flow_table(profile, vhca_id)
        # RoCE version: bit 0 is v1, bit 2 is v2; l3_type: bit 1 IPv4, bit 2 IPv6.
        out['roce'] = {
            'fl_rc_qp_when_roce_enabled': 1, 'fl_rc_qp_when_roce_disabled': 1, 'l3_type': 6,
            'roce_version': 5, 'r_roce_dest_udp_port': 4791, 'r_roce_min_src_udp_port': 0xc000,
            'r_roce_max_src_udp_port': 0xffff, 'roce_address_table_size': 255}
        out['ethernet'] = {
            'csum_cap': 1, 'vlan_cap': 1, 'max_lso_cap': 18, 'rss_ind_tbl_cap': 11,
            'self_lb_en_modifiable': 1, 'wqe_inline_mode': 1}
    return out
