# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the subnet manager gives a port, and packets of one partition or another."""

from __future__ import annotations

import time

import pytest
from emulator.driver.commands import run
from emulator.driver.guest import DCI, PAGE, RC, UC, UD, Guest, GuestCq, GuestQp, GuestRmp, av, sge
from emulator.driver.one_fabric import on_one_fabric
from mlx5emu import prm
from mlx5emu.card import Card
from mlx5emu.firmware import subnet
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.queues.queue import QP1

#: Indexes of the table that every port starts with: default, partition 1, partition 2 (limited but
#: on the first).
EVERYONE, ONE, TWO = 0, 1, 2


@pytest.fixture
def three():
    """Three functions on one fabric, whose cards must not have met a defect of their own."""
    with on_one_fabric(3, 'connectx7') as guests:
        yield guests


def connected(a: Guest, b: Guest, st: int, index_a: int, index_b: int) -> tuple[GuestQp, GuestQp]:
    """A QP on each, connected by LID, each with a P_Key of its port's table."""
    p, q = GuestQp(a, st, rcq=GuestCq(a)), GuestQp(b, st, rcq=GuestCq(b))
    for mine, other, index, far in ((p, q, index_a, b), (q, p, index_b, a)):
        mine.to_init(**{'primary_address_path.pkey_index': index})
        mine.to_rtr(other.number, **{'primary_address_path.rlid': far.card.vport.lid})
        mine.to_rts()
    return p, q


def ready(x: GuestQp, index: int) -> None:
    """A QP that is not connected, at RTS, with a P_Key of its port's table."""
    x.to_init(**{'primary_address_path.pkey_index': index})
    x.to_rtr(0)
    x.to_rts()


def violations(g: Guest) -> tuple[int, int]:
    """Counters of dropped packets, as the driver asks for them: P_Key and Q_Key."""
    c = g.cmd('QUERY_HCA_VPORT_CONTEXT')
    return c['hca_vport_context.pkey_violation_counter'], c[
        'hca_vport_context.qkey_violation_counter']


def table(g: Guest, n: int) -> list[int]:
    """The first ``n`` P_Keys of the port."""
    out = bytes(g.cmd('QUERY_HCA_VPORT_PKEY', pkey_index=0xffff, out_len=16 + 4 * 128).buf[16:])
    return [int.from_bytes(out[4 * k:4 * k + 4], 'big') for k in range(n)]


def test_assigned(three: list[Guest]) -> None:
    """LIDs are unique, the manager's is the first port's, and partition 2 has one full member."""
    contexts = [g.cmd('QUERY_HCA_VPORT_CONTEXT').sub('hca_vport_context') for g in three]
    assert [(c['lid'], c['sm_lid'], c['port_state']) for c in contexts] == [(1, 1, 4), (2, 1, 4),
                                                                            (3, 1, 4)]
    assert [table(g, 4) for g in three] == [[0xffff, 0x8001, 0x8002, 0], [0xffff, 0x8001, 2, 0],
                                            [0xffff, 0x8001, 2, 0]]


def test_sweep() -> None:
    """From INIT_HCA the port waits in Initialize, in the default partition alone; the sweep makes
    it active and tells the driver."""
    card, told = Card('connectx7', 'ib', index=1), []
    card.post_event = lambda event, subtype=0, data=b'': told.append((event, subtype))
    run(card, 'ENABLE_HCA')
    card.pages.held.update(dict.fromkeys(range(card.pages.wanted())))
    run(card, 'INIT_HCA')

    def port() -> tuple[int, int, int, list[int]]:
        c = run(card, 'QUERY_HCA_VPORT_CONTEXT').sub('hca_vport_context')
        return c['port_state'], c['lid'], c['sm_lid'], card.vport.pkeys[:2]
    assert port() == (2, 0, 0, [0xffff, 0])
    assert not told
    while card.run_timers():
        time.sleep(0.001)
    assert port() == (4, 2, 1, [0xffff, 0x8001])
    assert told == [(prm.EVENTS['PORT_CHANGE'], subtype) for subtype in (6, 7, 4)]


def test_reset_keeps_the_assignment(three: list[Guest]) -> None:
    """The manager gives a port that comes up again what it had."""
    card = three[1].card
    subnet.assign(card, lid=9, pkeys=[0xffff, 0x8055])
    card.reset()
    assert (card.vport.lid, card.vport.pkeys[:3]) == (9, [0xffff, 0x8055, 0])


@pytest.mark.parametrize(
    ('st', 'mine', 'other', 'to', 'arrives'),
    [
        (RC, ONE, ONE, 1, True),
        (UC, ONE, ONE, 1, True),
        (RC, TWO, TWO, 1, True),
        (RC, EVERYONE, EVERYONE, 2, True),
        (RC, ONE, EVERYONE, 1, False),
        (UC, ONE, EVERYONE, 1, False),
        (RC, ONE, TWO, 1, False),
        (RC, 5, ONE, 1, False),
        (RC, 5, 5, 1, False),
        # The rest of the table is empty.
        (RC, ONE, 127, 1, False)])
def test_connected(three: list[Guest], st: int, mine: int, other: int, to: int,
                   arrives: bool) -> None:
    """A packet arrives when both P_Keys are of a partition; one that does not is counted where it
    is dropped."""
    a, b = three[0], three[to]
    p, q = connected(a, b, st, mine, other)
    src, dst = a.alloc(PAGE), b.alloc(PAGE)
    a.write(src, b'partition')
    q.post_recv((dst, 64, b.mkey(dst, PAGE)))
    p.post_send(Op.SEND, sge(src, 9, a.mkey(src, PAGE)))
    a.run(200)
    done = p.scq.poll()[0]
    if arrives:
        assert done['opcode'] == 0 and b.read(dst, 9) == b'partition' and violations(b) == (0, 0)
        return
    assert not q.rcq.poll() and b.read(dst, 9) == bytes(9)
    if st == UC:
        assert done['opcode'] == 0 and violations(b) == (1, 0)
    else:
        # The first try and retry_count more.
        assert done['syndrome'] == Syndrome.RETRY_EXCEEDED and violations(b) == (3, 0)
    assert violations(a) == (0, 0)


def test_limited_members(three: list[Guest]) -> None:
    """Limited members of a partition do not reach each other."""
    a, b = three[1], three[2]
    p, _ = connected(a, b, RC, TWO, TWO)
    src = a.alloc(PAGE)
    p.post_send(Op.SEND, sge(src, 9, a.mkey(src, PAGE)))
    a.run(200)
    assert p.scq.poll()[0]['syndrome'] == Syndrome.RETRY_EXCEEDED
    assert violations(b) == (3, 0)


def test_datagrams(three: list[Guest]) -> None:
    """A datagram needs the partition and the Q_Key; what it lacks is counted, and the CQE tells the
    P_Key."""
    a, b = three[:2]
    p, q = GuestQp(a, UD), GuestQp(b, UD, rcq=GuestCq(b))
    ready(p, ONE)
    ready(q, ONE)
    src, dst = a.alloc(PAGE), b.alloc(PAGE)
    lkey = a.mkey(src, PAGE)
    q.post_recv((dst, 100, b.mkey(dst, PAGE)))
    p.post_send(Op.SEND, av(q.number, rlid=2, qkey=0x22222222), sge(src, 8, lkey))
    assert not q.rcq.poll() and violations(b) == (0, 1)
    subnet.assign(a.card, pkeys=[0xffff, 0x8007])
    p.post_send(Op.SEND, av(q.number, rlid=2), sge(src, 8, lkey))
    assert not q.rcq.poll() and violations(b) == (1, 1)
    subnet.assign(a.card, pkeys=[0xffff, 1])
    p.post_send(Op.SEND, av(q.number, rlid=2), sge(src, 8, lkey))
    assert [c['imm_inval_pkey'] for c in q.rcq.poll()] == [1]
    assert violations(b) == (1, 1)


@pytest.mark.parametrize('index', [ONE, EVERYONE])
def test_dynamically_connected(three: list[Guest], index: int) -> None:
    """A DC target has a P_Key of its own."""
    a, b = three[:2]
    srq, cq = GuestRmp(b), GuestCq(b)
    context = {
        'pd': b.pd, 'srqn_xrqn': srq.number, 'cqn': cq.number, 'rwe': 1, 'mtu': 5, 'min_rnr_nak': 1,
        'pkey_index': ONE}
    dctn = b.cmd('CREATE_DCT', **{f'dct_context_entry.{k}': v for k, v in context.items()})['dctn']
    p = GuestQp(a, DCI)
    ready(p, index)
    src, dst = a.alloc(PAGE), b.alloc(PAGE)
    srq.post((dst, 64, b.mkey(dst, PAGE)))
    p.post_send(Op.SEND, bytes(8) + av(dctn, rlid=2)[8:], sge(src, 9, a.mkey(src, PAGE)))
    a.run(200)
    assert p.scq.poll()[0]['opcode'] == (0 if index == ONE else 13)
    assert violations(b) == (0 if index == ONE else 3, 0)


def test_management_datagrams(three: list[Guest]) -> None:
    """QP1 gets what is sent to it in any partition of its port, and not what is in another."""
    a, b = three[:2]
    q = GuestQp(b, QP1, rcq=GuestCq(b))
    p = GuestQp(a, UD)
    ready(p, ONE)
    ready(q, EVERYONE)
    src, dst = a.alloc(PAGE), b.alloc(PAGE)
    key = b.mkey(dst, PAGE)
    for _ in range(2):
        q.post_recv((dst, 100, key))
    lkey = a.mkey(src, PAGE)
    p.post_send(Op.SEND, av(1, rlid=2), sge(src, 8, lkey))
    assert [c['imm_inval_pkey'] for c in q.rcq.poll()] == [0x8001]
    subnet.assign(a.card, pkeys=[0xffff, 0x8009])
    p.post_send(Op.SEND, av(1, rlid=2), sge(src, 8, lkey))
    assert not q.rcq.poll() and violations(b) == (1, 0)


def test_driver_is_told(three: list[Guest]) -> None:
    """Another LID and another table are events of the port, each of its kind."""
    card, told = three[1].card, []
    card.post_event = lambda event, subtype=0, data=b'': told.append((event, subtype, data[8] >> 4))
    subnet.assign(card, lid=0x77)
    subnet.assign(card, pkeys=[0xffff])
    assert told == [(prm.EVENTS['PORT_CHANGE'], 6, 1), (prm.EVENTS['PORT_CHANGE'], 7, 1)]
    assert three[1].cmd('QUERY_HCA_VPORT_CONTEXT')['hca_vport_context.lid'] == 0x77
    assert table(three[1], 2) == [0xffff, 0]


@pytest.mark.parametrize('wrong', [{'lid': 0}, {'lid': 0xc000}, {'lid': 0xffff}, {
    'pkeys': [0x10000]}, {'pkeys': [-1]}, {'pkeys': [1] * 129}])
def test_wrong_assignments(three: list[Guest], wrong: dict) -> None:
    """What no manager can give is refused, and nothing is changed."""
    card = three[0].card
    with pytest.raises(ValueError, match='LID|P_Key'):
        subnet.assign(card, **wrong)
    assert (card.vport.lid, card.vport.pkeys[:3]) == (1, [0xffff, 0x8001, 0x8002])


def test_ethernet_has_the_default_partition() -> None:
    """On RoCE every packet has the default P_Key, and there is no manager."""
    g = Guest(link_layer='eth')
    assert subnet.pkey(g.card, 0) == subnet.pkey(g.card, 9) == 0xffff
    assert subnet.admits(g.card, 0x1234, 7) and subnet.admits_management(
        g.card, 0x1234)
    with pytest.raises(ValueError, match='no subnet manager'):
        subnet.assign(g.card, lid=2)


@pytest.mark.parametrize(('a', 'b', 'pass_'), [(0xffff, 0xffff, True), (0xffff, 0x7fff, True),
                                               (0x7fff, 0x7fff, False), (0x8001, 1, True),
                                               (1, 1, False), (0x8001, 0x8002, False),
                                               (0x8000, 0x8000, False), (0, 0, False)])
def test_together(a: int, b: int, pass_: bool) -> None:
    """The lower 15 bits are the partition, which is not 0; one of the two is a full member."""
    assert subnet.together(a, b) == subnet.together(b, a) == pass_


def test_management(three: list[Guest]) -> None:
    """QP1 takes what any P_Key of the port's table goes with, and counts the rest."""
    target = three[1].card
    assert [subnet.admits_management(target, key)
            for key in (0x7fff, 0x8001, 0x8002, 2, 0x8009)] == [True, True, True, False, False]
    assert violations(three[1]) == (2, 0)
