# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A guest that writes anything anywhere: the data path takes it, in bounded time and memory, and
works on."""
import random

import pytest
from emulator.driver.guest import (
    PAGE,
    RC,
    UC,
    UD,
    Guest,
    GuestCq,
    GuestQp,
    connected,
    inline,
    raddr,
    sge,
)
from mlx5emu import prm
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.datapath import requester
from mlx5emu.prm.wqe import CTRL, Op, Syndrome
from mlx5emu.queues.queue import ERR


def works(g: Guest) -> None:
    """A legitimate message still gets through."""
    a, b = connected(g, rcq=GuestCq(g))
    buf = g.alloc(PAGE)
    key = g.mkey(buf, PAGE)
    b.post_recv((buf, 64, key))
    a.post_send(Op.SEND, inline(b'still alive'))
    assert g.read(buf, 11) == b'still alive'
    assert a.scq.poll()[0]['opcode'] == 0 and b.rcq.poll()[0]['byte_cnt'] == 11


@pytest.mark.parametrize('st', [RC, UC, UD])
def test_random_wqes(guest: Guest, st: int) -> None:
    """Send queues full of noise, with valid opcodes mixed in."""
    rnd = random.Random(st)
    ops = [
        Op.NOP, Op.SEND, Op.WRITE, Op.READ, Op.CS, Op.FA, Op.MASKED_CS, Op.MASKED_FA, Op.UMR,
        Op.SEND_INVAL, Op.WRITE_IMM, Op.LSO, Op.SET_PSV, Op.MMO]
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    cq = GuestCq(guest, 12, oi=1)
    for turn in range(150):
        a = GuestQp(guest, st, scq=cq, log_sq=4)
        a.connect(a.number)
        a.post_recv((buf, 4096, key))
        noise = bytearray(rnd.randbytes(64 << 4))
        for block in range(16):
            op = rnd.choice([*ops, rnd.randrange(256)])
            CTRL.pack_into(noise, block * 64, block << 8 | op, a.number << 8 | rnd.randrange(64), 8,
                           key)
            if rnd.random() < 0.5:
                noise[block * 64 + 16:block * 64 + 32] = raddr(
                    buf + rnd.choice([0, 8, 4090, -1 % (1 << 63)]), key)
            if rnd.random() < 0.5:
                noise[block * 64 + 32:block * 64 + 48] = sge(
                    buf, rnd.choice([0, 8, 4096, 1 << 31, (1 << 32) - 1]), key)
        guest.write(a.buf + a.rq_bytes, bytes(noise))
        for pi in (16, rnd.randrange(1 << 16)):
            guest.write(a.dbr + 4, pi.to_bytes(4, 'big'))
            a.ring()
        guest.cmd('2RST_QP', qpn=a.number)
        guest.cmd('DESTROY_QP', qpn=a.number)
        guest.used = buf - guest.base + PAGE + 0x80000 + turn % 7 * 0x1000
    works(guest)


def test_random_doorbells(guest: Guest) -> None:
    """Writes of any size at any offset of a UAR page."""
    rnd = random.Random(1)
    q = GuestQp(guest)
    q.connect(q.number)
    for _ in range(20000):
        offset = rnd.choice([0x20, 0x800, 0x808, 0x900, 0xa00, rnd.randrange(PAGE)])
        data = rnd.randbytes(rnd.choice([1, 2, 4, 8, 16, 64]))
        if rnd.random() < 0.3:
            data = bytes(4) + (rnd.choice([q.number, q.scq.number]) << rnd.choice([0, 8])).to_bytes(
                4, 'big')
        doorbell(guest.card, offset, rnd.choice([guest.uar, 0, 0xfffff]), data)
    works(guest)


def test_random_receive_wqes(guest: Guest) -> None:
    """Receive queues full of noise."""
    rnd = random.Random(2)
    for _ in range(100):
        a, b = connected(guest, scq=GuestCq(guest, 4, oi=1), log_sq=2, log_rq=2)
        guest.write(b.buf, rnd.randbytes(b.rq_bytes))
        guest.write(b.dbr, rnd.randbytes(2) + rnd.randrange(1 << 16).to_bytes(2, 'big'))
        a.post_send(Op.SEND, inline(b'x' * 40))
        for q in (a, b):
            guest.cmd('DESTROY_QP', qpn=q.number)
        guest.used -= 0x3000
    works(guest)


def test_producer_beyond_the_ring(guest: Guest) -> None:
    """A doorbell record that claims more than the ring holds stops the queue with an event; nothing
    is run."""
    a, _ = connected(guest)
    guest.write(a.dbr + 4, (65).to_bytes(4, 'big'))
    a.ring()
    assert a.model.state == ERR
    assert guest.events() == [(prm.EVENTS['WQ_CATAS_ERROR'], a.number)]
    works(guest)


def test_wqe_beyond_the_producer(guest: Guest) -> None:
    """A WQE longer than what was posted is a local QP operation error."""
    a, _ = connected(guest)
    a.post_send(Op.NOP, ring=False)
    guest.write(a.buf + a.rq_bytes + 4, (a.number << 8 | 63).to_bytes(4, 'big'))
    a.ring()
    assert a.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_QP_OP


def test_memory_that_goes_away(guest: Guest) -> None:
    """Queue memory that is unmapped under a queue is its error, with an event."""
    a, _ = connected(guest)
    guest.card.dma.unmap_all()
    a.ring()
    assert a.model.state == ERR


def test_buffer_that_is_not_mapped(guest: Guest) -> None:
    """A key over memory that is not there: an error on the side whose key it is, and no harm to the
    other."""
    buf = guest.alloc(PAGE)
    good = guest.mkey(buf, PAGE)
    nowhere = guest.mkey(1 << 50, PAGE)
    for op, mine, theirs, expected in ((Op.WRITE, nowhere, good, Syndrome.LOCAL_PROT),
                                       (Op.WRITE, good, nowhere, Syndrome.REMOTE_OP),
                                       (Op.READ, nowhere, good, Syndrome.LOCAL_PROT),
                                       (Op.READ, good, nowhere, Syndrome.REMOTE_OP)):
        a, b = connected(guest)
        a.post_send(op, raddr(buf if theirs == good else 1 << 50, theirs),
                    sge(buf if mine == good else 1 << 50, 64, mine))
        assert a.scq.poll()[0]['syndrome'] == expected
        assert (b.model.state == ERR) is (expected == Syndrome.REMOTE_OP)
    works(guest)


def test_long_run_takes_turns(guest: Guest) -> None:
    """A thousand large messages in one doorbell do not keep the card from its other work."""
    n = 1 << 20
    buf = guest.alloc(2 * n)
    key = guest.mkey(buf, 2 * n)
    a, _ = connected(guest, scq=GuestCq(guest, 10), log_sq=10)
    for _ in range(1000):
        a.post_send(Op.WRITE, raddr(buf + n, key), sge(buf, n, key), flags=0, ring=False)
    a.post_send(Op.NOP, ring=False)
    a.ring()
    assert a.scq.poll() == [] and a.model.sq.consumer == requester.TURN_BYTES // n
    guest.run(1000 * requester.TURN_PAUSE_NS / 1e6)
    assert [c['opcode'] for c in a.scq.poll()] == [0] and a.model.sq.consumer == 1001


def test_many_queues_are_given_back(guest: Guest) -> None:
    """Creating and destroying leaves nothing: neither objects nor accounted memory."""
    buf = guest.alloc(PAGE)
    start = None
    for k in range(50):
        guest.used = buf - guest.base + PAGE
        a, b = connected(guest, rcq=GuestCq(guest))
        key = guest.mkey(buf, PAGE)
        a.post_send(Op.WRITE, raddr(buf, key), inline(b'x'))
        for q in (a, b):
            guest.cmd('DESTROY_QP', qpn=q.number)
            guest.cmd('DESTROY_CQ', cqn=q.scq.number)
        guest.cmd('DESTROY_CQ', cqn=a.rcq.number)
        guest.cmd('DESTROY_CQ', cqn=b.rcq.number) if b.rcq.number != a.rcq.number else None
        guest.cmd('DESTROY_MKEY', mkey_index=key >> 8)
        guest.run(1)
        state = (guest.card.memory.used, guest.card.objects())
        assert start in (None, state), k
        start = state


def test_timers_of_queues_that_are_gone(guest: Guest) -> None:
    """A queue that waits for hours for an answer, reset and made to wait again and again, leaves no
    heap of timers."""
    a = GuestQp(guest)
    for _ in range(200):
        a.to_init()
        a.to_rtr(0xfff0)
        a.to_rts(**{'retry_count': 7, 'primary_address_path.ack_timeout': 31})
        a.post_send(Op.SEND, inline(b'is anybody there?'))
        guest.cmd('2RST_QP', qpn=a.number)
        a.posted = 0
        guest.run(10)
    assert len(guest.card._timers) < 50


def test_a_long_wait_is_as_long(guest: Guest) -> None:
    """An answer that may take 4.3 seconds is not missed before, though no timer runs so long."""
    a = GuestQp(guest)
    a.to_init()
    a.to_rtr(0xfff0)
    a.to_rts(**{'retry_count': 1, 'primary_address_path.ack_timeout': 20})
    start = guest.clock.ns
    a.post_send(Op.SEND, inline(b'is anybody there?'))
    while not (found := a.scq.poll()):
        guest.run(1)
    assert found[0]['syndrome'] == Syndrome.RETRY_EXCEEDED
    assert 0 <= guest.clock.ns - start - (4096 << 20) < 10_000_000
