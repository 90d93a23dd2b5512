# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Two functions on one fabric: messages find the port that their address names."""
import pytest
from emulator.driver.guest import PAGE, RC, UC, UD, Guest, GuestCq, GuestQp, av, raddr, sge
from mlx5emu.datapath.fabric import Fabric
from mlx5emu.prm.wqe import Op, Syndrome


@pytest.fixture
def two():
    """Two guests with LIDs 1 and 2, whose cards must not have met a defect of their own."""
    guests = Guest(index=0), Guest(index=1)
    fabric = Fabric()
    for lid, g in enumerate(guests, 1):
        g.card.vport.lid = lid
        g.card.datapath.port.connect(fabric)
    yield guests
    assert [g.card.internal_errors for g in guests] == [0, 0]


def pair(a: Guest, b: Guest, st: int) -> tuple[GuestQp, GuestQp]:
    """A QP on each, connected."""
    p, q = GuestQp(a, st, rcq=GuestCq(a)), GuestQp(b, st, rcq=GuestCq(b))
    for mine, other, lid in ((p, q, b.card.vport.lid), (q, p, a.card.vport.lid)):
        mine.to_init()
        mine.to_rtr(other.number, **{'primary_address_path.rlid': lid})
        mine.to_rts()
    return p, q


@pytest.mark.parametrize('st', [RC, UC])
def test_connected(two: tuple[Guest, Guest], st: int) -> None:
    """A send from one guest's memory to the other's, though QP numbers and keys are the same on
    both."""
    a, b = two
    p, q = pair(a, b, st)
    assert p.number == q.number
    src, dst = a.alloc(PAGE), b.alloc(PAGE)
    a.write(src, b'from one to the other')
    q.post_recv((dst, 64, b.mkey(dst, PAGE)))
    p.post_send(Op.SEND, sge(src, 21, a.mkey(src, PAGE)))
    assert p.scq.poll()[0]['opcode'] == 0
    assert q.rcq.poll()[0]['byte_cnt'] == 21
    assert b.read(dst, 21) == b'from one to the other'


def test_remote_access(two: tuple[Guest, Guest]) -> None:
    """Write, read, and an error: each side's key and memory are its own."""
    a, b = two
    p, q = pair(a, b, RC)
    src, dst = a.alloc(PAGE), b.alloc(PAGE)
    a.write(src, b'written')
    lkey, rkey = a.mkey(src, PAGE), b.mkey(dst, PAGE)
    p.post_send(Op.WRITE, raddr(dst, rkey), sge(src, 7, lkey))
    p.post_send(Op.READ, raddr(dst, rkey), sge(src + 64, 7, lkey))
    p.post_send(Op.WRITE, raddr(dst, rkey ^ 1), sge(src, 7, lkey))
    assert [c['opcode'] for c in p.scq.poll()] == [0, 0, 13]
    assert b.read(dst, 7) == a.read(src + 64, 7) == b'written'


def test_datagram_and_multicast(two: tuple[Guest, Guest]) -> None:
    """By LID to one, by group to all; the receiver learns the sender's LID."""
    a, b = two
    p, q = (GuestQp(g, UD, rcq=GuestCq(g)) for g in two)
    src, dst = a.alloc(PAGE), b.alloc(PAGE)
    lkey, key = a.mkey(src, PAGE), b.mkey(dst, PAGE)
    group = bytes.fromhex('ff12401bffff0000000000000000abcd')
    for x in (p, q):
        x.connect(0)
        x.g.cmd('ATTACH_TO_MCG', qpn=x.number, multicast_gid=group)
    for _ in range(2):
        q.post_recv((dst, 100, key))
    p.post_recv((src + 512, 100, lkey))
    p.post_send(Op.SEND, av(q.number, rlid=2), sge(src, 8, lkey))
    got = q.rcq.poll()
    assert [(c['slid'], c['rqpn']) for c in got] == [(1, p.number)]
    p.post_send(Op.SEND, av(0xffffff, gid=group, grh=True), sge(src, 8, lkey))
    assert (len(p.rcq.poll()), len(q.rcq.poll())) == (1, 1)


def test_disconnected(two: tuple[Guest, Guest]) -> None:
    """A port that left does not answer."""
    a, b = two
    p, q = pair(a, b, RC)
    fabric = b.card.datapath.port.fabric
    b.card.datapath.port.connect(Fabric())
    assert [m.card for m in fabric.members] == [a.card]
    src = a.alloc(PAGE)
    p.post_send(Op.SEND, sge(src, 8, a.mkey(src, PAGE)))
    a.run(200)
    assert p.scq.poll()[0]['syndrome'] == Syndrome.RETRY_EXCEEDED


def test_reset(two: tuple[Guest, Guest]) -> None:
    """A card that was reset is on its fabric still, and answers for nothing that it had."""
    a, b = two
    p, _ = pair(a, b, RC)
    fabric = a.card.datapath.port.fabric
    b.card.reset()
    assert [m is g.card.datapath.port for m, g in zip(fabric.members, two, strict=True)] == [True,
                                                                                             True]
    src = a.alloc(PAGE)
    p.post_send(Op.SEND, sge(src, 8, a.mkey(src, PAGE)))
    a.run(200)
    assert p.scq.poll()[0]['syndrome'] == Syndrome.RETRY_EXCEEDED
