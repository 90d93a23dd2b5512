# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A card of several functions: who they are, whose turn it is, and which of them the control
channel asks."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest
from emulator.driver.commands import run
from mlx5emu.bus.server import Server, Turn
from mlx5emu.card import Card
from mlx5emu.vm import control
from mlx5emu.vm import run as vm_run
from mlx5emu.vm.trace import Trace
from patience import PATIENCE


def test_identities() -> None:
    """Functions share the board and the fabric; node, port, MAC address and vhca_id are each one's
    own."""
    cards = vm_run.make_cards(vm_run.Options(functions=3, faults=['NOP:BAD_PARAM']), 'eth', None)
    assert len({c.datapath.port.fabric for c in cards}) == 1
    assert [m.card for m in cards[0].datapath.port.fabric.members] == cards
    for c in cards:
        c.boot()
    assert [
        run(c, 'QUERY_HCA_CAP', {'op_mod': 1}, out_len=4112)['capability.cmd_hca_cap.vhca_id']
        for c in cards] == [1, 2, 3]
    contexts = [
        run(c, 'QUERY_NIC_VPORT_CONTEXT', out_len=0x110).sub('nic_vport_context') for c in cards]
    assert len({x['system_image_guid'] for x in contexts}) == 1
    assert len({x['port_guid']
                for x in contexts}) == len({x['permanent_address.mac_addr_31_0']
                                            for x in contexts}) == 3
    # A fault that was asked for is each function's.
    assert [len(c.faults.rules) for c in cards] == [1, 1, 1]


@pytest.mark.parametrize('count', [0, -1, 9])
def test_too_many_functions(count: int) -> None:
    """A PCI device has eight functions."""
    with pytest.raises(vm_run.CardError, match='1 to 8'):
        vm_run.make_cards(vm_run.Options(functions=count), 'eth', None)


def test_trace_names_the_function() -> None:
    """Where there are several, a line of the trace says whose command it was."""
    for count, expected in ((1, ['NOP']), (2, ['0: NOP', '1: NOP'])):
        out = io.StringIO()
        trace = Trace(out, jsonl=False, functions=count)
        for card in vm_run.make_cards(vm_run.Options(functions=count), 'eth', trace):
            card.boot()
            run(card, 'NOP')
        assert [line.split(maxsplit=1)[1].partition(' (')[0]
                for line in out.getvalue().splitlines()] == expected


def test_turns_are_taken_in_order() -> None:
    """A thread that shares its turn gets it back after the one that waits, which a plain lock does
    not promise."""
    turn, order = Turn(), []
    turn.take()

    def other() -> None:
        turn.take()
        order.append('other')
        turn.give()
    t = threading.Thread(target=other, daemon=True)
    t.start()
    while not turn._next.locked():
        time.sleep(0.001)
    turn.share()
    order.append('first')
    turn.give()
    t.join(PATIENCE)
    assert order == ['other', 'first']


def test_turn_of_one() -> None:
    """Nobody waits: the turn stays."""
    turn = Turn()
    turn.take()
    turn.share()
    assert turn._lock.locked()
    turn.give()


@pytest.fixture
def servers(tmp_path: Path):
    """Two served functions."""
    turn, cards = Turn(), vm_run.make_cards(vm_run.Options(functions=2), 'eth', None)
    servers = [Server(str(tmp_path / f'card{c.index}'), c, turn) for c in cards]
    for s in servers:
        s.start()
    yield servers
    for s in servers:
        s.stop()


def test_one_thread_at_a_time(servers: list[Server]) -> None:
    """While one card's thread works, the other's waits; a thread that sleeps holds nothing up."""
    inside, most = [], []

    def work(card: Card) -> None:
        inside.append(card)
        most.append(len(inside))
        time.sleep(0.002)
        inside.remove(card)

    threads = [
        threading.Thread(target=lambda s=s: [s.call(lambda: work(s.card))
                                             for _ in range(20)], daemon=True) for s in servers]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    assert most == [1] * 40


def test_timer_from_another_thread(servers: list[Server]) -> None:
    """What one card's thread has another card do later is done then, though that one's thread
    sleeps without an end."""
    done = threading.Event()
    a, b = servers
    b.call(lambda: None)
    a.call(lambda: b.card.call_later(1_000_000, done.set))
    assert done.wait(5)


def test_stopped_servers_leave_the_turn(tmp_path: Path) -> None:
    """A server that has ended does not keep the others from working."""
    turn, cards = Turn(), vm_run.make_cards(vm_run.Options(functions=2), 'eth', None)
    a, b = (Server(str(tmp_path / f'card{c.index}'), c, turn) for c in cards)
    a.start()
    b.start()
    a.stop()
    assert b.call(lambda: 7) == 7
    b.stop()
    assert not turn._lock.locked()


def test_control_asks_a_function(servers: list[Server]) -> None:
    """``function`` picks whose tables; one that is not there is refused."""
    a, b = servers
    service = control.Service(a.card, a.call, [control.Service(b.card, b.call)])
    b.card.boot()
    b.call(lambda: run(b.card, 'ALLOC_PD'))

    def ask(**arguments: object) -> tuple[bool, object]:
        return service.answer(json.dumps(['objects', arguments]).encode())
    assert ask() == ask(function=0) == (True, {})
    assert ask(function=1) == (True, {'pd': [1]})
    assert ask(function=2)[0] is False
    assert service.answer(b'["objects", []]')[0] is False
