# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Every command of the emulated card says no as the PRM does: table-driven, over all that are
registered.

What one command refuses beyond that (states, sizes, combinations) is tested with its object.
"""
from typing import Any

import pytest
from emulator.driver.commands import run
from emulator.driver.recipes import (
    ABSENT,
    DESTROY,
    KERNELS,
    NAMING,
    NOT_HELD,
    RECIPES,
    REFERENCES,
    World,
)
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
    c.user = run(c, 'CREATE_UCTX', {'uctx.cap': 1})['uid']
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
        if 'VPORT' in n or n in (
            'SET_ROCE_ADDRESS', 'MAD_IFC', 'QUERY_LAG', 'ACCESS_REG', 'QUERY_ESW_FUNCTIONS')}
    no_object = {
        *LIFE, 'NOP', 'QUERY_ADAPTER', 'QUERY_HCA_CAP', 'SET_HCA_CAP', 'QUERY_ISSI', 'SET_ISSI',
        'QUERY_PAGES', 'MANAGE_PAGES', 'QUERY_SPECIAL_CONTEXTS', 'SET_DRIVER_VERSION',
        'CREATE_UCTX', 'DESTROY_UCTX', 'ALLOC_MEMIC', 'DEALLOC_MEMIC', 'MODIFY_MEMIC'}
    general = {n for n in NAMES if n.endswith('GENERAL_OBJECT')}
    assert set(NAMES) - named - own_tests - about_the_port - no_object - general == set()
