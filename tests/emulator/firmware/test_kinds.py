# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Kinds of objects: what is declared on a class is all that the card needs of it."""
from __future__ import annotations

import pytest
from emulator.driver.commands import run, status
from emulator.driver.documents import kinds_of
from mlx5emu import prm
from mlx5emu.card import Card
from mlx5emu.firmware import dispatch
from mlx5emu.firmware.tables import KINDS, Object, declare

TEXT = """
## Kinds of objects

| kind | numbers | destroyed by |
| --- | --- | --- |
"""


@pytest.fixture
def lantern(monkeypatch):
    """A kind that only this file knows, with the commands of another kind's for lack of opcodes."""
    Card()
    monkeypatch.delitem(dispatch._BY_NAME, 'ALLOC_XRCD')
    monkeypatch.delitem(dispatch._BY_NAME, 'DEALLOC_XRCD')
    for name in ('ALLOC_XRCD', 'DEALLOC_XRCD'):
        monkeypatch.delitem(dispatch._BOUND, prm.OPCODES[name], raising=False)

    class Lantern(Object):
        """An object that costs something."""

        kind = declare('lantern', 'lanterns', 7, 3, destroy=('DEALLOC_XRCD', 'xrcd'))

    @dispatch.command('ALLOC_XRCD')
    def light(card: Card, cmd: dispatch.Command) -> None:
        cmd.out['xrcd'] = card.lanterns.alloc(Lantern(), cmd.uid, cost=100)

    @dispatch.command('DEALLOC_XRCD')
    def blow_out(card: Card, cmd: dispatch.Command) -> None:
        card.lanterns.free(cmd.inp['xrcd'], cmd.uid)
    yield Lantern
    del KINDS['lantern']
    for name in ('ALLOC_XRCD', 'DEALLOC_XRCD'):
        del dispatch._BY_NAME[name]
        dispatch._BOUND.pop(prm.OPCODES[name], None)


def test_a_declared_kind_has_its_table_its_end_and_its_line(lantern: type[Object]) -> None:
    card = Card()
    card.boot()
    uid = run(card, 'CREATE_UCTX')['uid']
    made = [run(card, 'ALLOC_XRCD', uid=uid)['xrcd'] for _ in range(3)]
    assert made == [7, 8, 9] and card.objects()['lantern'] == made
    assert status(card, 'ALLOC_XRCD', uid=uid) == 'EXCEED_LIM' and card.memory.used == 300
    run(card, 'DEALLOC_XRCD', {'xrcd': 8}, uid=uid)
    assert card.memory.used == 200
    # The end of the user context takes what is left.
    run(card, 'DESTROY_UCTX', {'uid': uid})
    assert card.objects() == {} and card.memory.used == 0
    line = '| lantern | 0x7 to 0x9 | DEALLOC_XRCD |'
    assert KINDS['lantern'].line() == line
    assert kinds_of(TEXT + line + '\n') == [line]


def test_a_kind_is_declared_once(lantern: type[Object]) -> None:
    with pytest.raises(ValueError, match='lantern is declared twice'):
        declare('lantern', 'lanterns', 1, 1)


def test_every_kind_can_be_left_behind() -> None:
    """Of each there is a command of the card that destroys it and has the field, or its objects are
    steering's, which keeps the user context until they are gone."""
    Card()
    for kind in KINDS.values():
        if kind.destroy is None:
            assert kind.name in ('uctx', 'flow_table')
            continue
        name, field = kind.destroy
        assert name in dispatch.names(), kind
        assert prm.new(prm.command_layouts(name)[0]).has(field), kind


def test_no_two_kinds_share_a_table_and_spaces_are_shared() -> None:
    card = Card()
    tables = [getattr(card, kind.table) for kind in KINDS.values()]
    assert len({id(table) for table in tables}) == len(tables) == len(card.tables)
    assert card.qps.space is card.sqs.space is card.queue_numbers
    assert card.srqs.space is card.xrqs.space is card.srq_numbers
