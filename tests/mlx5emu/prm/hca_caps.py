# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Fields of the capability pages that the kernel's header, or that of an older kernel, lacks."""
from .layouts import declare, extend

extend(
    'cmd_hca_cap', {
        'rts2rts_qp_udp_sport': (0x151, 1), 'qpc_extension':
        (0x122, 1), 'dp_ordering_ooo_all_xrc': (0x332, 1), 'dp_ordering_ooo_all_dc':
        (0x333, 1), 'dp_ordering_ooo_all_rc': (0x334, 1)})
# Headers before Linux 6.15 lack the page.
extend('cmd_hca_cap', {'adv_rdma': (0x571, 1)})
declare('adv_rdma_cap',
            [('rdma_transport_manager', 1), ('', 0x1ff),
             ('rdma_transport_rx_flow_table_properties', 'flow_table_prop_layout'),
             ('rdma_transport_tx_flow_table_properties', 'flow_table_prop_layout')])
extend(
    'cmd_hca_cap_2', {
        'dp_ordering_force': (0x88, 1), 'general_obj_types_127_64':
        (0x1c0, 64), 'log_max_num_reserved_qpn': (0x8b, 5), 'log_reserved_qpn_granularity':
        (0x93, 5), 'log_reserved_qpn_max_alloc': (0x9b, 5), 'send_dbr_mode_no_dbr_int':
        (0x2e0, 1), 'send_dbr_mode_no_dbr_ext': (0x2e1, 1), 'log_max_send_dbr_less_qp_sq':
        (0x2e3, 5)})
extend('cmd_hca_cap', {'rts2rts_lag_tx_port_affinity': (0x152, 1)})
extend(
    'cmd_hca_cap', {
        'dma_mmo_sq': (0x153, 1), 'dma_mmo_qp': (0x748, 1), 'log_dma_mmo_max_size':
        (0x6b, 5), 'sig_crc64_xp10': (0x147, 1), 'sig_crc32c': (0x148, 1), 'sig_block_4048':
        (0x1f0, 1), 'sigerr_domain_and_sig_type':
        (0x480, 1), 'aes_xts_single_block_le_tweak':
        (0x3f1, 1), 'aes_xts_multi_block_be_tweak': (0x3f2, 1)})
extend(
    'crypto_cap', {
        'wrapped_crypto_operational': (0, 1), 'wrapped_import_method':
        (0x18, 8), 'log_max_num_import_keks': (0x33, 5), 'log_max_num_creds':
        (0x3b, 5), 'num_nv_import_keks': (0x50, 8), 'num_nv_credentials': (0x58, 8)})
extend(
    'qos_cap', {
        'nic_qp_scheduling': (0x21, 1), 'log_max_flow_meter':
        (0x10, 8), 'flow_meter_reg_id': (0x18, 8), 'flow_meter_old': (0x7, 1), 'flow_meter':
        (0x28, 1)})
extend(
    'device_mem_cap', {
        'memic_increment_size': (0x20, 8), 'memic_test_and_set_size':
        (0x30, 8), 'indirect_encap_icm_base': (0x280, 64)})
