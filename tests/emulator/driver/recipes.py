# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""How an object of each kind is made, destroyed and named, and a card that has one of each."""
import struct
from collections.abc import Callable
from typing import Any

from emulator.driver.commands import run
from emulator.driver.guest import PAGE, Guest
from mlx5emu.firmware.uctx import RAW_TX


class World:
    """A guest's card with one object of each kind, of user context ``mine``; :data:`RECIPES` says
    what uses what."""

    def __init__(self) -> None:
        self.g = Guest(link_layer='eth')
        self.card = self.g.card
        self.mine, self.yours = (run(self.card, 'CREATE_UCTX', {'uctx.cap': RAW_TX})['uid']
                                 for _ in range(2))
        self.dbr = self.g.alloc(PAGE)
        self.make(self.mine)

    def make(self, uid: int) -> None:
        """An object of each kind for a user context; ``numbers`` are theirs from now on."""
        self.numbers: dict[str, int] = {'eq': self.g.eqn}
        for kind in RECIPES:
            self.numbers[kind] = self.create(kind, uid)

    def create(self, kind: str, uid: int | None = None, **changes: Any) -> int:
        """Make another one; its number."""
        command, result, fields, tail = RECIPES[kind]
        out = self.g.cmd(
            command,
            tail(self) if tail else b'', uid=self.mine if uid is None else uid,
            **{**{k: v(self) if callable(v) else v for k, v in fields.items()}, **changes})
        return out[result]

    def status(self, kind: str, uid: int | None = None, **changes: Any) -> str:
        """How making another one ends."""
        command, _, fields, tail = RECIPES[kind]
        return self.g.fails(
            command,
            tail(self) if tail else b'', uid=self.mine if uid is None else uid,
            **{**{k: v(self) if callable(v) else v for k, v in fields.items()}, **changes})


def number(kind: str) -> Callable[[World], int]:
    """The number of the world's object."""
    return lambda w: w.numbers[kind]


def dbr(w: World) -> int:
    """An address of a doorbell record."""
    return w.dbr


def pages(w: World) -> bytes:
    """A page list of two pages."""
    return struct.pack('>QQ', *(w.g.alloc(PAGE) for _ in range(2)))


_RING = {
    'ctx.wq.wq_type': 1, 'ctx.wq.log_wq_stride': 6, 'ctx.wq.log_wq_sz': 3, 'ctx.wq.pd':
    number('pd'), 'ctx.wq.dbr_addr': dbr}
Recipe = tuple[str, str, dict[str, Any], Callable[[World], bytes] | None]
#: kind: (command, field of the answer, fields, tail), in an order in which they can be made.
RECIPES: dict[str, Recipe] = {
    'pd': ('ALLOC_PD', 'pd', {}, None),
    'transport_domain': ('ALLOC_TRANSPORT_DOMAIN', 'transport_domain', {}, None),
    'xrcd': ('ALLOC_XRCD', 'xrcd', {}, None),
    'uar': ('ALLOC_UAR', 'uar', {}, None),
    'q_counter': ('ALLOC_Q_COUNTER', 'counter_set_id', {}, None),
    'umem': ('CREATE_UMEM', 'umem_id', {'umem.num_of_mtt': 2},
             lambda w: struct.pack('>QQ', *(w.g.alloc(PAGE) | 3 for _ in range(2)))),
    'mkey': ('CREATE_MKEY', 'mkey_index', {
        'translations_octword_actual_size': 1, 'memory_key_mkey_entry.access_mode_1_0': 1,
        'memory_key_mkey_entry.len': PAGE, 'memory_key_mkey_entry.log_page_size': 12,
        'memory_key_mkey_entry.translations_octword_size': 1, 'memory_key_mkey_entry.pd':
        number('pd')}, pages),
    'cq': ('CREATE_CQ', 'cqn', {
        'cq_context.log_cq_size': 6, 'cq_context.c_eqn_or_apu_element': number('eq'),
        'cq_context.uar_page': number('uar'), 'cq_context.dbr_addr': dbr}, pages),
    'xrc_srq': ('CREATE_XRC_SRQ', 'xrc_srqn', {
        f'xrc_srq_context_entry.{k}': v for k, v in {
            'log_xrc_srq_size': 4, 'log_rq_stride': 2, 'xrcd': number('xrcd'), 'cqn': number('cq'),
            'pd': number('pd')}.items()}, pages),
    'rmp': ('CREATE_RMP', 'rmpn', {**_RING, 'ctx.wq.wq_type': 0, 'ctx.state': 1}, pages),
    'qp': ('CREATE_QP', 'qpn', {
        f'qpc.{k}': v for k, v in {
            'pd': number('pd'), 'log_rq_size': 3, 'log_rq_stride': 2, 'log_sq_size': 5, 'cqn_snd':
            number('cq'), 'cqn_rcv': number('cq'), 'uar_page': number(
                'uar'), 'dbr_addr': dbr}.items()}, pages),
    'dct': ('CREATE_DCT', 'dctn', {
        f'dct_context_entry.{k}': v
        for k, v in {'pd': number('pd'), 'cqn': number('cq'), 'srqn_xrqn': number('rmp')}.items()},
            None),
    'tis': ('CREATE_TIS', 'tisn', {'ctx.transport_domain': number('transport_domain')}, None),
    'sq': ('CREATE_SQ', 'sqn', {
        **_RING, 'ctx.cqn': number('cq'), 'ctx.wq.uar_page': number('uar'), 'ctx.tis_lst_sz': 1,
        'ctx.tis_num_0': number('tis')}, pages),
    'rq': ('CREATE_RQ', 'rqn', {**_RING, 'ctx.cqn': number('cq')}, pages),
    'rqt': ('CREATE_RQT', 'rqtn', {'rqt_context.rqt_max_size': 1, 'rqt_context.rqt_actual_size':
                                   1}, lambda w: struct.pack('>I', w.numbers['rq'])),
    'tir': ('CREATE_TIR', 'tirn', {
        'ctx.disp_type': 1, 'ctx.indirect_table': number('rqt'), 'ctx.transport_domain':
        number('transport_domain')}, None),
    'flow_table': ('CREATE_FLOW_TABLE', 'table_id', {'flow_table_context.log_size': 4}, None),
    'flow_counter': ('ALLOC_FLOW_COUNTER', 'flow_counter_id', {}, None),
    'packet_reformat': ('ALLOC_PACKET_REFORMAT_CONTEXT', 'packet_reformat_id', {
        'packet_reformat_context.reformat_type': 3, 'packet_reformat_context.reformat_data_size':
        14}, lambda w: bytes(14)),
    'modify_header': ('ALLOC_MODIFY_HEADER_CONTEXT', 'modify_header_id', {
        'num_of_actions': 1}, lambda w: struct.pack('>II', 1 << 28 | 1 << 16, 0)),
    'tsar': ('CREATE_SCHEDULING_ELEMENT', 'scheduling_element_id', {'scheduling_hierarchy':
                                                                    3}, None),
    'queue_group': ('CREATE_SCHEDULING_ELEMENT', 'scheduling_element_id', {
        'scheduling_hierarchy': 3, 'scheduling_context.element_type': 4,
        'scheduling_context.parent_element_id': number('tsar')}, None), }
#: (kind, field that names another object, kind of that).
REFERENCES = [('mkey', 'memory_key_mkey_entry.pd', 'pd'),
              ('cq', 'cq_context.c_eqn_or_apu_element', 'eq'), ('cq', 'cq_context.uar_page', 'uar'),
              ('xrc_srq', 'xrc_srq_context_entry.xrcd', 'xrcd'),
              ('xrc_srq', 'xrc_srq_context_entry.cqn', 'cq'),
              ('xrc_srq', 'xrc_srq_context_entry.pd', 'pd'), ('rmp', 'ctx.wq.pd', 'pd'),
              ('qp', 'qpc.pd', 'pd'), ('qp', 'qpc.cqn_snd', 'cq'), ('qp', 'qpc.cqn_rcv', 'cq'),
              ('qp', 'qpc.uar_page', 'uar'), ('dct', 'dct_context_entry.pd', 'pd'),
              ('dct', 'dct_context_entry.cqn', 'cq'), ('dct', 'dct_context_entry.srqn_xrqn', 'rmp'),
              ('tis', 'ctx.transport_domain', 'transport_domain'), ('sq', 'ctx.cqn', 'cq'),
              ('sq', 'ctx.wq.uar_page', 'uar'), ('sq', 'ctx.tis_num_0', 'tis'),
              ('sq', 'ctx.wq.pd', 'pd'), ('rq', 'ctx.cqn', 'cq'), ('rq', 'ctx.wq.pd', 'pd'),
              ('tir', 'ctx.indirect_table', 'rqt'),
              ('tir', 'ctx.transport_domain', 'transport_domain'),
              ('queue_group', 'scheduling_context.parent_element_id', 'tsar')]
#: The kernel's own, which its users' queues name; and what may go while queues still name it.
KERNELS, NOT_HELD = ('eq',), ('uar',)
#: How each kind is destroyed: (command, field that names it).
DESTROY = {
    'pd': ('DEALLOC_PD', 'pd'), 'transport_domain': ('DEALLOC_TRANSPORT_DOMAIN',
                                                     'transport_domain'), 'xrcd':
    ('DEALLOC_XRCD', 'xrcd'), 'uar': ('DEALLOC_UAR', 'uar'), 'q_counter':
    ('DEALLOC_Q_COUNTER', 'counter_set_id'), 'umem': ('DESTROY_UMEM', 'umem_id'), 'mkey':
    ('DESTROY_MKEY', 'mkey_index'), 'eq': ('DESTROY_EQ', 'eq_number'), 'cq': ('DESTROY_CQ', 'cqn'),
    'xrc_srq': ('DESTROY_XRC_SRQ', 'xrc_srqn'), 'rmp': ('DESTROY_RMP', 'rmpn'), 'qp':
    ('DESTROY_QP', 'qpn'), 'dct': ('DESTROY_DCT', 'dctn'), 'tis': ('DESTROY_TIS', 'tisn'), 'sq':
    ('DESTROY_SQ', 'sqn'), 'rq': ('DESTROY_RQ', 'rqn'), 'rqt': ('DESTROY_RQT', 'rqtn'), 'tir':
    ('DESTROY_TIR', 'tirn'), 'flow_table': ('DESTROY_FLOW_TABLE', 'table_id'), 'flow_counter':
    ('DEALLOC_FLOW_COUNTER', 'flow_counter_id'), 'packet_reformat':
    ('DEALLOC_PACKET_REFORMAT_CONTEXT',
     'packet_reformat_id'), 'modify_header': ('DEALLOC_MODIFY_HEADER_CONTEXT', 'modify_header_id'),
    'tsar': ('DESTROY_SCHEDULING_ELEMENT',
             'scheduling_element_id'), 'queue_group': ('DESTROY_SCHEDULING_ELEMENT',
                                                       'scheduling_element_id')}
#: Other commands that name an object: (command, field, kind, what else they need).
NAMING = [
    (c, f, k, {})
    for c, f, k in [('QUERY_Q_COUNTER', 'counter_set_id',
                     'q_counter'), ('QUERY_MKEY', 'mkey_index',
                                    'mkey'), ('QUERY_CQ', 'cqn',
                                              'cq'), ('MODIFY_CQ', 'cqn',
                                                      'cq'), ('QUERY_XRC_SRQ', 'xrc_srqn',
                                                              'xrc_srq'),
                    ('QUERY_RMP', 'rmpn',
                     'rmp'), ('MODIFY_RMP', 'rmpn',
                              'rmp'), ('QUERY_QP', 'qpn',
                                       'qp'), ('RST2INIT_QP', 'qpn',
                                               'qp'), ('INIT2INIT_QP', 'qpn',
                                                       'qp'), ('INIT2RTR_QP', 'qpn',
                                                               'qp'), ('RTR2RTS_QP', 'qpn', 'qp'),
                    ('RTS2RTS_QP', 'qpn',
                     'qp'), ('SQERR2RTS_QP', 'qpn',
                             'qp'), ('SQD_RTS_QP', 'qpn',
                                     'qp'), ('2ERR_QP', 'qpn',
                                             'qp'), ('2RST_QP', 'qpn',
                                                     'qp'), ('ATTACH_TO_MCG', 'qpn', 'qp'),
                    ('DETACH_FROM_MCG', 'qpn',
                     'qp'), ('QUERY_DCT', 'dctn',
                             'dct'), ('DRAIN_DCT', 'dctn',
                                      'dct'), ('ARM_DCT_FOR_KEY_VIOLATION', 'dct_number',
                                               'dct'), ('QUERY_TIS', 'tisn',
                                                        'tis'), ('MODIFY_TIS', 'tisn',
                                                                 'tis'), ('QUERY_SQ', 'sqn', 'sq'),
                    ('MODIFY_SQ', 'sqn',
                     'sq'), ('QUERY_RQ', 'rqn',
                             'rq'), ('MODIFY_RQ', 'rqn',
                                     'rq'), ('QUERY_RQT', 'rqtn',
                                             'rqt'), ('MODIFY_RQT', 'rqtn',
                                                      'rqt'), ('QUERY_TIR', 'tirn', 'tir'),
                    ('MODIFY_TIR', 'tirn',
                     'tir'), ('QUERY_FLOW_TABLE', 'table_id',
                              'flow_table'), ('SET_FLOW_TABLE_ROOT', 'table_id', 'flow_table'),
                    ('CREATE_FLOW_GROUP', 'table_id',
                     'flow_table'), ('DESTROY_FLOW_GROUP', 'table_id',
                                     'flow_table'), ('QUERY_FLOW_GROUP', 'table_id', 'flow_table'),
                    ('SET_FLOW_TABLE_ENTRY', 'table_id',
                     'flow_table'), ('DELETE_FLOW_TABLE_ENTRY', 'table_id',
                                     'flow_table'), ('MODIFY_FLOW_TABLE', 'table_id',
                                                     'flow_table')]]
NAMING += [
    ('QUERY_EQ', 'eq_number', 'eq', {}),
    ('QUERY_FLOW_COUNTER', 'flow_counter_id', 'flow_counter', {'out_len': 32}),
    ('ARM_XRC_SRQ', 'xrc_srqn', 'xrc_srq', {'op_mod': 1}),
    ('ARM_RQ', 'srq_number', 'rmp', {'op_mod': 1}),
    ('QUERY_SCHEDULING_ELEMENT', 'scheduling_element_id', 'tsar', {'scheduling_hierarchy': 3}),
    ('MODIFY_SCHEDULING_ELEMENT', 'scheduling_element_id', 'tsar', {'scheduling_hierarchy': 3})]
NAMING += [
    (c, f, k, {'scheduling_hierarchy': 3} if 'SCHED' in c else {}) for k, (c, f) in DESTROY.items()]
#: A number of each kind that nothing has.
ABSENT = {'q_counter': 0xfd, 'eq': 0x7e, 'uar': 0x7ff}
