# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Every command of the emulated card says no as the PRM does: table-driven, over all that are
registered.

What one command refuses beyond that (states, sizes, combinations) is tested with its object.
"""
import struct
from collections.abc import Callable
from typing import Any

import pytest
from emulator.driver.commands import run
from emulator.driver.guest import PAGE, Guest
from mlx5emu import prm
from mlx5emu.card import Card
from mlx5emu.firmware import dispatch, general_object
from mlx5emu.firmware.context_features import FEATURES
from mlx5emu.firmware.status import Status

Card()      # registers the commands
NAMES = dispatch.names()
BOUND = {name: dispatch._bind(prm.OPCODES[name]) for name in NAMES}
OP_MODS = [n for n in NAMES if BOUND[n].entry.op_mods is not None]
KERNEL = [n for n in NAMES if BOUND[n].entry.kernel]
EARLY = [n for n in NAMES if BOUND[n].entry.state]
#: Commands that change the function as a whole, and those that need nothing and do nothing else
#: than answer.
LIFE = ('ENABLE_HCA', 'DISABLE_HCA', 'INIT_HCA', 'TEARDOWN_HCA')


@pytest.fixture(scope='module')
def one_card():
    """A card after INIT_HCA on Ethernet, with a user context."""
    c = Card('connectx6dx', 'eth')
    c.boot()
    c.user = run(c, 'CREATE_UCTX')['uid']
    return c


@pytest.fixture
def card(one_card):
    """The card, which no test may change: all that it hears is refused."""
    before = one_card.objects()
    yield one_card
    assert one_card.internal_errors == 0 and one_card.objects(
    ) == before and one_card.state == one_card.READY


def blank(name: str, size: int | None = None, uid: int = 0, op_mod: int | None = None) -> bytearray:
    """The command with nothing but its opcode, and the first op_mod that it takes."""
    bound = BOUND[name]
    raw = bytearray(max(16, bound.min_in if size is None else size))
    raw[0:2] = prm.OPCODES[name].to_bytes(2, 'big')
    raw[2:4] = uid.to_bytes(2, 'big')
    if op_mod is None:
        op_mod = min(bound.entry.op_mods or (0,))
    raw[6:8] = op_mod.to_bytes(2, 'big')
    return raw


def answer(card: Card, raw: bytes, name: str) -> tuple[str, int]:
    """(status, syndrome)."""
    out = card.execute(bytes(raw), max(16, BOUND[name].min_out))
    return dispatch.NAMES[out[0]], int.from_bytes(out[4:8], 'big')


def syndrome(reason: str) -> int:
    """What the card answers for a reason."""
    return Status('BAD_PARAM', reason).syndrome


def ends(layout: str) -> list[int]:
    """First and last bit of each run of reserved bits."""
    size, mask = prm.layout_bits(layout), prm.reserved(layout)
    text = f'0{mask:0{size}b}0'
    return [
        k - 1 for k in range(1, size + 1) if text[k] == '1' and '0' in (text[k - 1], text[k + 1])]


def test_every_other_opcode_is_unknown(card) -> None:
    """All that could be near one, and some of the others."""
    known = {prm.OPCODES[n] for n in NAMES}
    for opcode in (*range(1 << 13), *range(1 << 13, 1 << 16, 7)):
        if opcode not in known:
            assert card.execute(opcode.to_bytes(2, 'big') + bytes(62), 64)[0] == 2, hex(opcode)


@pytest.mark.parametrize('name', NAMES)
def test_short_input_and_output(card, name: str) -> None:
    """One byte less than the layout's fixed part."""
    bound = BOUND[name]
    assert answer(card, blank(name)[:max(16, bound.min_in) - 1], name)[0] == 'BAD_INP_LEN'
    least = max(8, bound.min_out)
    assert card.execute(bytes(blank(name)), least - 1)[:1] in (b'\x51', b'')


@pytest.mark.parametrize('name', NAMES)
def test_reserved_bits(card, name: str) -> None:
    """The first and the last of each gap, alone in an empty command; not the uid's place, which the
    kernel fills in whatever the layout says."""
    layout = BOUND[name].layouts[0]
    bits = [b for b in ends(layout) if b >= 32]
    for bit in bits:
        raw = blank(name, prm.layout_bits(layout) // 8)
        raw[bit >> 3] |= 0x80 >> (bit & 7)
        assert answer(card, raw,
                      name) == ('BAD_PARAM', syndrome(f'reserved bit {bit:#x}')), hex(bit)
    assert bits or not prm.reserved(layout)


@pytest.mark.parametrize('number', sorted(general_object.TYPES))
def test_reserved_bits_of_general_objects(card, number: int) -> None:
    """The same behind the general header."""
    layout = general_object.TYPES[number][0]
    for bit in ends(layout):
        raw = blank('CREATE_GENERAL_OBJECT', 16 + prm.layout_bits(layout) // 8, op_mod=number)
        raw[16 + (bit >> 3)] |= 0x80 >> (bit & 7)
        expected = {
            syndrome(f'reserved bit {bit:#x}'),
            syndrome('general object type is not supported')}
        status, why = answer(card, raw, 'CREATE_GENERAL_OBJECT')
        assert status == 'BAD_PARAM' and why in expected, hex(bit)


@pytest.mark.parametrize('name', OP_MODS)
def test_op_mod(card, name: str) -> None:
    """Another one than those that the command has."""
    for op_mod in (1, 2, 3, 4, 5, 0x100, 0xffff):
        if op_mod not in BOUND[name].entry.op_mods:
            assert answer(card, blank(name, op_mod=op_mod),
                          name) == ('BAD_PARAM', syndrome('op_mod')), op_mod


@pytest.mark.parametrize('name', NAMES)
def test_dead_uid(card, name: str) -> None:
    """Of no user context."""
    assert answer(card, blank(name, uid=77), name)[0] == 'BAD_RES'


@pytest.mark.parametrize('name', KERNEL)
def test_commands_of_the_kernel(card, name: str) -> None:
    """Not for a user context."""
    assert answer(card, blank(name, uid=card.user),
                  name) == ('BAD_PARAM', syndrome('not for user contexts'))


def test_kernel_commands_are_those() -> None:
    """What changes the function, its pages, its port, MEMIC or contexts is the kernel's."""
    assert set(KERNEL) >= {
        *LIFE, 'SET_HCA_CAP', 'MANAGE_PAGES', 'QUERY_PAGES', 'SET_ISSI', 'ACCESS_REG',
        'CREATE_UCTX', 'DESTROY_UCTX', 'ALLOC_MEMIC', 'DEALLOC_MEMIC', 'MODIFY_MEMIC',
        'MODIFY_NIC_VPORT_CONTEXT', 'SET_ROCE_ADDRESS', 'MAD_IFC'}


@pytest.mark.parametrize('name', EARLY)
def test_before_the_function_is_enabled(name: str) -> None:
    """Only ENABLE_HCA is taken then."""
    cold = Card('connectx6dx', 'eth')
    assert answer(cold, blank(name), name)[0] == 'BAD_SYS_STATE' and cold.state == cold.RESET


@pytest.mark.parametrize(('name', 'field'), [
    (n, f) for n, fields in FEATURES.items() for f, cap in fields.items() if cap is None])
def test_features_that_no_card_has(card, name: str, field: str) -> None:
    """Refused before anything else is looked at."""
    raw = blank(name, prm.layout_bits(BOUND[name].layouts[0]) // 8)
    prm.View(BOUND[name].layouts[0], raw)[field] = 1
    assert answer(card, raw, name) == ('BAD_PARAM', syndrome(f'{field} is not supported'))


# ---- numbers: absent, foreign, in use, exhausted

class World:
    """A guest's card with one object of each kind, of user context ``mine``; :data:`RECIPES` says
    what uses what."""

    def __init__(self) -> None:
        self.g = Guest(link_layer='eth')
        self.card = self.g.card
        self.mine, self.yours = (run(self.card, 'CREATE_UCTX')['uid'] for _ in range(2))
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


@pytest.fixture
def world():
    """A world, which must not have met a defect, and lost nothing that a command was refused."""
    w = World()
    yield w
    assert w.card.internal_errors == 0


def refs(w: World) -> dict[str, list[int]]:
    """Use counts of everything, by kind."""
    return {kind: [o.refs for o in table] for kind, table in w.card.tables.items()}


@pytest.mark.parametrize(('command', 'field', 'kind', 'more'), NAMING, ids=[n[0] for n in NAMING])
def test_absent_and_foreign(world: World, command: str, field: str, kind: str,
                            more: dict[str, Any]) -> None:
    """BAD_RES for a number that nothing has, and for another user's, and nothing changes."""
    before = refs(world), world.card.memory.used
    assert world.g.fails(command, uid=world.mine, **{field: ABSENT.get(kind, 0xfff0)},
                         **more) == 'BAD_RES'
    assert world.g.fails(command, uid=world.yours, **{field: world.numbers[kind]},
                         **more) == 'BAD_RES'
    assert (refs(world), world.card.memory.used) == before


@pytest.mark.parametrize(('kind', 'field', 'other'), REFERENCES, ids=[
    f'{r[0]}-{r[1]}' for r in REFERENCES])
def test_references(world: World, kind: str, field: str, other: str) -> None:
    """What an object names must be there and its user's, and is held; what is refused leaves
    nothing behind."""
    before = refs(world), world.card.memory.used
    assert world.status(kind, **{field: ABSENT.get(other, 0xfff0)}) == 'BAD_RES'
    if other not in KERNELS:
        mine = world.numbers
        world.make(world.yours)
        before = refs(world), world.card.memory.used
        assert world.status(kind, uid=world.yours, **{field: mine[other]}) == 'BAD_RES'
    assert (refs(world), world.card.memory.used) == before
    if other in NOT_HELD:
        return
    command, name = DESTROY[other]
    more = {'scheduling_hierarchy': 3} if other == 'tsar' else {}
    assert world.g.fails(command, **{name: world.numbers[other]}, **more) == 'BAD_RES_STATE'


@pytest.mark.parametrize('kind', list(RECIPES))
def test_exhausted_table(world: World, kind: str) -> None:
    """EXCEED_LIM, and nothing is left of it."""
    table = {'tsar': 'general_object', 'queue_group': 'general_object'}.get(kind, kind)
    space = world.card.tables[table].space
    before, space.limit = (refs(world), world.card.memory.used), len(space.used)
    assert world.status(kind) == 'EXCEED_LIM'
    assert (refs(world), world.card.memory.used) == before


@pytest.mark.parametrize(
    'kind', ['umem', 'mkey', 'cq', 'xrc_srq', 'rmp', 'qp', 'sq', 'rq', 'packet_reformat'])
def test_exhausted_memory(world: World, kind: str) -> None:
    """What a command makes the card keep is charged; when there is no more, EXCEED_LIM and nothing
    is left of it."""
    before, world.card.memory.limit = (refs(world), world.card.memory.used), world.card.memory.used
    assert world.status(kind) == 'EXCEED_LIM'
    assert (refs(world), world.card.memory.used) == before


def test_every_command_that_names_an_object_is_here() -> None:
    """A new command has to come into one of the tables above, or say here why not."""
    named = {c for c, *_ in NAMING} | {c for c, *_ in RECIPES.values()} | {
        c for c, _ in DESTROY.values()}
    own_tests = {
        'CREATE_EQ', 'CREATE_SRQ', 'QUERY_SRQ', 'DESTROY_SRQ', 'CREATE_PSV', 'DESTROY_PSV',
        'CREATE_XRQ', 'QUERY_XRQ', 'ARM_XRQ', 'DESTROY_XRQ', 'SET_PP_RATE_LIMIT', 'SYNC_STEERING',
        'PAGE_FAULT_RESUME'}
    about_the_port = {
        n for n in NAMES
        if 'VPORT' in n or n in ('SET_ROCE_ADDRESS', 'MAD_IFC', 'QUERY_LAG', 'ACCESS_REG')}
    no_object = {
        *LIFE, 'NOP', 'QUERY_ADAPTER', 'QUERY_HCA_CAP', 'SET_HCA_CAP', 'QUERY_ISSI', 'SET_ISSI',
        'QUERY_PAGES', 'MANAGE_PAGES', 'QUERY_SPECIAL_CONTEXTS', 'SET_DRIVER_VERSION',
        'CREATE_UCTX', 'DESTROY_UCTX', 'ALLOC_MEMIC', 'DEALLOC_MEMIC', 'MODIFY_MEMIC'}
    general = {n for n in NAMES if n.endswith('GENERAL_OBJECT')}
    assert set(NAMES) - named - own_tests - about_the_port - no_object - general == set()
