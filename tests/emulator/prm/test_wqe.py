# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The data path's precompiled structures say the same as the declared layouts."""
import struct

import pytest
from mlx5emu import prm
from mlx5emu.prm import wqe, wqe_layouts

assert wqe_layouts

CASES = [
    (wqe.DATA, 'wqe_data', ('byte_count', 'lkey', 'addr')),
    (wqe.RADDR, 'wqe_raddr', ('raddr', 'rkey')),
    (wqe.ATOMIC, 'wqe_atomic', ('swap_add', 'compare')),
    (wqe.MASKED_ATOMIC, 'wqe_masked_atomic', ('swap_add', 'compare', 'swap_add_mask',
                                              'compare_mask')),
    (wqe.XRC, 'wqe_xrc', ('xrc_srqn', )),
    (wqe.SRQ_NEXT, 'wqe_srq_next', ('next_wqe_index', )),
    (wqe.SET_PSV, 'wqe_set_psv', ('psv_index', 'syndrome', 'transient_signature')), ]


@pytest.mark.parametrize(('fast', 'layout', 'fields'), CASES, ids=[c[1] for c in CASES])
def test_same_fields(fast: struct.Struct, layout: str, fields: tuple[str, ...]) -> None:
    """Every field at its place, and the size."""
    v = prm.new(layout)
    assert fast.size == v.size
    for k, f in enumerate(fields):
        v[f] = 0x55 + k
    assert fast.unpack(v.buf) == tuple(0x55 + k for k in range(len(fields)))


def test_control_segment() -> None:
    """Index, opcode, QPN, DS, completion bits, immediate."""
    v = prm.new('wqe_ctrl')
    v.set(wqe_index=0x1234, opcode=0x0a, qpn=0xabcdef, ds=5, ce=2, se=1, imm=0x99)
    w0, w1, flags, imm = wqe.CTRL.unpack(v.buf)
    assert (w0, w1, imm) == (0x12340a, 0xabcdef05, 0x99)
    assert flags == wqe.CTRL_CQ_UPDATE | wqe.CTRL_SOLICITED


def test_address_vector() -> None:
    """Both halves of 48 bytes."""
    v = prm.new('wqe_av')
    v.set(q_key=1, ext=1, dqp_dct=2, sl=3, mlid=4, rlid=5, rmac=b'abcdef', tclass=6, hop_limit=7,
          grh=1, src_addr_index=8, flow_label=9, rgid=bytes(range(16)))
    assert wqe.AV_BASE.unpack_from(v.buf) == (1, 0, wqe.EXTENDED_AV | 2, 3, 4, 5)
    assert wqe.AV_GRH_PART.unpack_from(
        v.buf, 16) == (b'abcdef', 6, 7, wqe.AV_GRH | 8 << 20 | 9, bytes(range(16)))
    assert wqe.AV_BASE.size + wqe.AV_GRH_PART.size == v.size == 48


def test_umr_control() -> None:
    """Flags, octowords, both parts of the offset, mask."""
    v = prm.new('wqe_umr_ctrl')
    v.set(inline=1, check_qpn=1, xlt_octowords=2, xlt_offset=3, mkey_mask=4, xlt_offset_47_16=5)
    assert wqe.UMR_CTRL.unpack(v.buf) == (wqe.UMR_INLINE | wqe.UMR_CHECK_QPN, 2, 3, 4, 5)
    for field, bit in (('check_free', wqe.UMR_CHECK_FREE),
                       ('check_not_free', wqe.UMR_CHECK_NOT_FREE), ('translation_offset_en',
                                                                    wqe.UMR_OFFSET)):
        v = prm.new('wqe_umr_ctrl')
        v[field] = 1
        assert wqe.UMR_CTRL.unpack(v.buf)[0] == bit


def test_cqe() -> None:
    """All that the card writes."""
    v = prm.view(
        'cqe64',
        wqe.CQE.pack(1, 2, 1 << 28 | 3 << 24 | 4, 5, 6, 7, 8, 9, 10, 11, 12 << 24 | 13, 14) +
        b'\0\x31')
    names = ('ml_path', 'slid', 'g', 'sl', 'rqpn', 'srqn_uidx', 'imm_inval_pkey', 'app', 'app_op',
             'app_info', 'byte_cnt', 'timestamp', 'send_wqe_opcode', 'qpn', 'wqe_counter', 'opcode',
             'owner')
    assert tuple(v[n] for n in names) == (1, 2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 3, 1)
    assert v.size == 64


def test_error_cqe() -> None:
    """Syndromes and what failed."""
    v = prm.view('error_cqe', wqe.ERROR_CQE.pack(1, 2, 3, 4 << 24 | 5, 6) + b'\0\xd1')
    names = ('srqn_uidx', 'vendor_error_syndrome', 'syndrome', 'send_wqe_opcode', 'qpn',
             'wqe_counter', 'opcode', 'owner')
    assert tuple(v[n] for n in names) == (1, 2, 3, 4, 5, 6, 13, 1)
    assert v.size == 64
