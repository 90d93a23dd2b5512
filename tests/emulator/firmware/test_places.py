# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Values that name a place in another table, and what a user context may do: a place that is not
there is refused, and nothing is stored."""
from collections.abc import Iterator

import pytest
from emulator.driver.commands import run
from emulator.driver.guest import Guest, GuestQp
from emulator.driver.recipes import World
from mlx5emu.firmware.uctx import RAW_TX

#: Fields that name a queue counter set, by kind.
COUNTERS = {'qp': 'qpc.counter_set_id', 'dct': 'dct_context_entry.counter_set_id',
            'rq': 'ctx.counter_set_id'}


@pytest.fixture(scope='module')
def world() -> World:
    """A card with an object of each kind, whose users may send frames."""
    return World()


@pytest.fixture
def unchanged(world: World) -> Iterator[World]:
    """The same; its objects stay as they were."""
    before = world.card.objects()
    yield world
    assert world.card.objects() == before


@pytest.mark.parametrize('kind', COUNTERS)
def test_counter_set_of_another_user(unchanged: World, kind: str) -> None:
    """One's own counters count for a queue; another user's, and those that are not there, are
    refused alike."""
    w, field = unchanged, COUNTERS[kind]
    yours = run(w.card, 'ALLOC_Q_COUNTER', uid=w.yours)['counter_set_id']
    try:
        for other in (yours, 0xf0):
            assert w.status(kind, **{field: other}) == 'BAD_RES'
    finally:
        run(w.card, 'DEALLOC_Q_COUNTER', {'counter_set_id': yours}, uid=w.yours)


@pytest.mark.parametrize('kind', COUNTERS)
def test_own_counter_set(kind: str) -> None:
    """The counters of the context itself."""
    w = World()
    w.create(kind, **{COUNTERS[kind]: w.numbers['q_counter']})


def test_counter_set_of_a_queue_that_is_changed(world: World) -> None:
    """Looked at where the bit of the mask selects it, and only there."""
    w = world
    fields = {'rqn': w.numbers['rq'], 'rq_state': 0, 'ctx.state': 0, 'ctx.counter_set_id': 0xf0}
    assert w.g.fails('MODIFY_RQ', uid=w.mine, modify_bitmask=1 << 3, **fields) == 'BAD_RES'
    w.g.cmd('MODIFY_RQ', uid=w.mine, modify_bitmask=1 << 1, **fields)
    w.g.cmd('MODIFY_RQ', uid=w.mine, modify_bitmask=1 << 3, **{
        **fields, 'ctx.counter_set_id': w.numbers['q_counter']})


@pytest.mark.parametrize(('link_layer', 'gids'), [('ib', 8), ('eth', 255)])
def test_path_of_a_qp(link_layer: str, gids: int) -> None:
    """P_Key and GID of a path are in their tables, of the path that a step brings; after a refusal
    the context is what it was."""
    g = Guest(link_layer=link_layer)
    q = GuestQp(g)
    for field, bad in (('primary_address_path.pkey_index', 128), ('counter_set_id', 0xf0)):
        name = 'RST2INIT_QP'
        before = bytes(q.model.qpc)
        status = g.fails(name, qpn=q.number, **{
            f'qpc.{field}': bad, 'qpc.primary_address_path.vhca_port_num': 1})
        assert status == ('BAD_INDEX' if 'pkey' in field else 'BAD_RES')
        assert bytes(q.model.qpc) == before and q.model.state == 0
    q.to_init()
    for path, mask in (('primary_address_path', 0), ('secondary_address_path', 1)):
        before = bytes(q.model.qpc)
        fields = {'qpn': q.number, 'opt_param_mask': mask, 'qpc.mtu': 5}
        where = f'qpc.{path}.src_addr_index'
        assert g.fails('INIT2RTR_QP', **fields, **{where: gids}) == 'BAD_INDEX'
        assert bytes(q.model.qpc) == before
    g.cmd('INIT2RTR_QP', **fields, **{where: gids - 1})


def test_path_of_a_dct(unchanged: World) -> None:
    """The same of a target's, whose context comes whole."""
    for field, bad in (('pkey_index', 128), ('my_addr_index', 255)):
        assert unchanged.status('dct', **{f'dct_context_entry.{field}': bad}) == 'BAD_INDEX'


def test_underlay_of_a_tis(unchanged: World) -> None:
    """A TIS sends through a QP that is there, or through none."""
    assert unchanged.status('tis', **{'ctx.underlay_qpn': 0x7777}) == 'BAD_RES'


def test_frames_as_they_are_need_the_right(unchanged: World) -> None:
    """A send queue for frames is the kernel's, or of a context with the right; what takes frames
    needs none."""
    w = unchanged
    made = w.create('sq')
    w.g.cmd('DESTROY_SQ', uid=w.mine, sqn=made)
    w.card.uctxs.get(w.mine).cap &= ~RAW_TX
    try:
        assert w.status('sq') == 'BAD_PARAM'
        made = w.create('rq')
        w.g.cmd('DESTROY_RQ', uid=w.mine, rqn=made)
    finally:
        w.card.uctxs.get(w.mine).cap |= RAW_TX
