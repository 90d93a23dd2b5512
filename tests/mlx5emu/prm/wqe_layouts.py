# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Layouts of WQE segments, CQEs and event data, which the kernel's ``mlx5_ifc.h`` lacks, and
context fields that it leaves out."""
from . import layouts as prm

prm.declare('wqe_ctrl', [('opc_mod', 8), ('wqe_index', 16), ('opcode', 8), ('qpn', 24), ('', 2),
                         ('ds', 6), ('signature', 8), ('dci_stream_channel_id', 16), ('fm', 3),
                         ('', 1), ('ce', 2), ('se', 1), ('', 1), ('imm', 32)])
prm.declare('wqe_data', [('byte_count', 32), ('lkey', 32), ('addr', 64)])
prm.declare('wqe_inline', [('inline', 1), ('', 21), ('byte_count', 10)])
prm.declare('wqe_raddr', [('raddr', 64), ('rkey', 32), ('', 32)])
prm.declare('wqe_atomic', [('swap_add', 64), ('compare', 64)])
prm.declare('wqe_masked_atomic', [('swap_add', 64), ('compare', 64), ('swap_add_mask', 64),
                                  ('compare_mask', 64)])
prm.declare('wqe_xrc', [('', 8), ('xrc_srqn', 24), ('', 96)])
prm.declare('wqe_srq_next', [('', 16), ('next_wqe_index', 16), ('signature', 8), ('', 88)])
prm.declare('wqe_av', [('q_key', 32), ('', 32), ('ext', 1), ('', 7), ('dqp_dct', 24),
                       ('stat_rate', 4), ('sl', 4), ('fl', 1), ('mlid', 7), ('rlid', 16), ('', 32),
                       ('rmac', 8, 6), ('tclass', 8), ('hop_limit', 8), ('', 1), ('grh', 1),
                       ('', 2), ('src_addr_index', 8), ('flow_label', 20), ('rgid', 8, 16)])
prm.declare('wqe_umr_ctrl', [('inline', 1), ('check_free', 1), ('check_not_free', 1),
                             ('translation_offset_en', 1), ('check_qpn', 1), ('', 27),
                             ('xlt_octowords', 16), ('xlt_offset', 16), ('mkey_mask', 64),
                             ('xlt_offset_47_16', 32), ('', 224)])
prm.declare('cqe64', [('', 136), ('ml_path', 8), ('', 32), ('slid', 16), ('', 2), ('g', 2),
                      ('sl', 4), ('rqpn', 24), ('hds_ip_ext', 8), ('l4_l3_hdr_type', 8),
                      ('vlan_info', 16), ('', 8), ('srqn_uidx', 24), ('imm_inval_pkey', 32),
                      ('app', 8), ('app_op', 8), ('app_info', 16), ('byte_cnt', 32),
                      ('timestamp', 64), ('send_wqe_opcode', 8), ('qpn', 24), ('wqe_counter', 16),
                      ('signature', 8), ('opcode', 4), ('format', 2), ('se', 1), ('owner', 1)])
prm.declare('error_cqe', [('', 256), ('', 8), ('srqn_uidx', 24), ('', 144),
                          ('vendor_error_syndrome', 8), ('syndrome', 8), ('send_wqe_opcode', 8),
                          ('qpn', 24), ('wqe_counter', 16), ('signature', 8), ('opcode', 4),
                          ('', 3), ('owner', 1)])
prm.declare('wqe_set_psv', [('psv_index', 32), ('syndrome', 16), ('', 16),
                            ('transient_signature', 64)])
prm.declare('sig_error_cqe', [('', 128), ('expected_trans_sig', 32), ('actual_trans_sig', 32),
                              ('expected_ref_tag', 32), ('actual_ref_tag', 32), ('syndrome', 16),
                              ('sig_type', 8), ('domain', 8), ('mkey', 32), ('sig_err_offset', 64),
                              ('', 64), ('', 8), ('qpn', 24), ('', 16), ('signature', 8),
                              ('opcode', 4), ('', 3), ('owner', 1)])
prm.declare('comp_event', [('', 192), ('', 8), ('cqn', 24)])
prm.declare('qp_event', [('', 160), ('type', 8), ('', 24), ('', 8), ('qpn_rqn_sqn', 24)])
prm.declare('cq_error_event', [('', 8), ('cqn', 24), ('', 56), ('syndrome', 8)])
prm.declare('dct_event', [('', 192), ('', 8), ('dctn', 24)])

# Queues whose buffer or doorbell record lies in a umem name it in fields that the kernel's header
# leaves reserved.
prm.extend('create_cq_in', {'cq_umem_offset': (0x280, 64), 'cq_umem_id': (0x2c0, 32)})
prm.extend('modify_cq_in', {'cq_umem_offset': (0x280, 64), 'cq_umem_id': (0x2c0, 32)})
prm.extend('rts2rts_qp_in', {'opt_param_mask_95_32': (0x840, 64), 'qpc_ext': (0x40, 1)})
prm.extend('init2init_qp_in', {'opt_param_mask_95_32': (0x840, 64), 'qpc_ext': (0x40, 1)})
prm.extend('cqc', {'dbr_umem_id': (0x20, 32)})
prm.extend('qpc', {'dbr_umem_id': (0x720, 32), 'send_dbr_mode': (0x80, 2)})
prm.extend('create_xrc_srq_in',
           {'xrc_srq_umem_offset': (0x280, 64), 'xrc_srq_umem_id': (0x2c0, 32)})
prm.extend('mkc', {'crypto_en': (0x1e3, 2)})
prm.extend('create_mkey_in', {'mkey_umem_id': (0x320, 32), 'mkey_umem_offset': (0x340, 64)})
