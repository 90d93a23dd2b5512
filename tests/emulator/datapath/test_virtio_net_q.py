# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Virtqueues of the emulated card: doorbell pages, frames out of and into split virtqueues, what a
hostile driver writes."""
import struct

import pytest
from emulator.driver.ethernet import EthernetBench
from emulator.driver.frames import PLAIN
from emulator.driver.guest import Guest
from emulator.driver.virtqueue import (
    ERROR,
    NEXT,
    READY,
    SIZE,
    SUSPENDED,
    WRITE,
    Virtqueue,
    everything_to,
)
from mlx5emu.bus.pci import Function


@pytest.fixture
def bench():
    """A function on Ethernet."""
    b = EthernetBench()
    b.function = Function(b.card)
    yield b
    assert b.card.internal_errors == 0


def test_frame_from_one_to_the_other(bench: EthernetBench) -> None:
    """A frame in two descriptors goes out at the doorbell, and comes into the receiving virtqueue;
    both tell their event QPs."""
    tx, rx = Virtqueue(bench, 1), Virtqueue(bench, 0)
    assert tx.create() == rx.create() == 'OK' and tx.modify(READY) == rx.modify(READY) == 'OK'
    everything_to(bench, rx)
    for q in (tx, rx):
        q.events.post_recv((q.mem, 0, 0))
    rx.describe(5, rx.mem + 0x400, 12, WRITE | NEXT, 2)
    rx.describe(2, rx.mem + 0x500, 512, WRITE)
    rx.offer(5)
    bench.g.write(tx.mem + 0x400, bytes(12) + PLAIN)
    tx.describe(1, tx.mem + 0x400, 20, NEXT, 4)
    tx.describe(4, tx.mem + 0x414, len(PLAIN) - 8)
    tx.offer(1)
    tx.kick(bench.function, page=4)
    tx.kick(bench.function, index=0)
    assert tx.taken() == (0, [])
    tx.kick(bench.function)
    assert tx.taken() == (1, [(1, 0)]) and rx.taken() == (1, [(5, 12 + len(PLAIN))])
    assert bench.g.read(rx.mem + 0x400, 12) == bytes(10) + b'\1\0' and bench.g.read(
        rx.mem + 0x500, len(PLAIN)) == PLAIN
    assert len(tx.events.scq.poll()) == len(rx.events.scq.poll()) == 1
    assert tx.shown() == rx.shown() == (READY, 1, 1)
    # No buffer, or one that is too small: lost, and nothing changes.
    tx.offer(1, 1)
    tx.kick(bench.function)
    assert tx.taken()[0] == 2 and rx.taken()[0] == 1 and rx.shown() == (READY, 1, 1)


def test_driver_that_wants_no_events(bench: EthernetBench) -> None:
    """VRING_AVAIL_F_NO_INTERRUPT: used, and not told."""
    tx = Virtqueue(bench, 1)
    assert tx.create() == tx.modify(READY) == 'OK'
    tx.events.post_recv((tx.mem, 0, 0))
    bench.g.write(tx.avail, b'\1\0')
    tx.describe(0, tx.mem + 0x400, 12 + len(PLAIN))
    tx.offer(0)
    tx.kick(bench.function)
    assert tx.taken()[0] == 1 and tx.events.scq.poll() == []


def test_states(bench: EthernetBench) -> None:
    """INIT, RDY, SUSPEND, and no way back; what was offered before RDY is sent then."""
    tx = Virtqueue(bench, 1)
    assert tx.create() == 'OK'
    tx.describe(0, tx.mem + 0x400, 12 + len(PLAIN))
    tx.offer(0)
    tx.kick(bench.function)
    assert tx.taken()[0] == 0 and tx.modify(SUSPENDED) == 'BAD_RES_STATE' and tx.modify(
        READY, select=2) == 'BAD_PARAM'
    assert tx.modify(READY) == 'OK' and tx.taken()[0] == 1
    assert tx.modify(SUSPENDED) == 'OK' and tx.modify(READY) == 'BAD_RES_STATE'
    tx.offer(0, 0, count=2)
    tx.kick(bench.function)
    assert tx.shown() == (SUSPENDED, 1, 1)


@pytest.mark.parametrize(('field', 'value', 'status'),
                         [('virtio_q_type', 1, 'BAD_PARAM'), ('event_mode', 2, 'BAD_PARAM'),
                          ('queue_size', 7, 'BAD_PARAM'), ('queue_size', 0, 'BAD_PARAM'),
                          ('doorbell_stride_index', 64, 'BAD_PARAM'), ('pd', 99, 'BAD_RES'),
                          ('virtio_q_mkey', 0x99900, 'BAD_RES'), ('umem_2_id', 99, 'BAD_RES'),
                          ('umem_2_size', 8, 'BAD_PARAM'), ('umem_3_offset', 1 << 40, 'BAD_PARAM'),
                          ('event_qpn_or_msix', 0x999, 'BAD_RES'),
                          ('tisn_or_qpn', 0x999, 'BAD_RES'),
                          ('queue_feature_bit_mask_2_0', 1, 'BAD_PARAM'),
                          ('full_emulation', 1, 'BAD_PARAM')])
def test_a_virtqueue_that_cannot_be_is_refused(bench: EthernetBench, field: str, value: int,
                                               status: str) -> None:
    """Each wrong field has its status, and nothing is left."""
    assert Virtqueue(bench, 1, **{field: value}).create() == status
    assert not len(bench.card.general_objects) and not bench.card.virtio_doorbells


def test_what_it_holds(bench: EthernetBench) -> None:
    """One virtqueue for a doorbell; a table of it holds it; an RQ table takes receiving virtqueues
    only; InfiniBand has none."""
    tx, rx = Virtqueue(bench, 1), Virtqueue(bench, 0)
    assert tx.create() == rx.create() == 'OK' and Virtqueue(bench, 1).create() == 'BAD_RES_STATE'
    assert bench.g.fails('DESTROY_QP', qpn=tx.firmware.number) == 'BAD_RES_STATE'
    tir = everything_to(bench, rx)
    assert bench.g.fails('DESTROY_GENERAL_OBJECT', obj_type=0xd,
                         obj_id=rx.number) == 'BAD_RES_STATE'
    rq_list = {
        'rqt_context.rqt_max_size': 1, 'rqt_context.rqt_actual_size': 1, 'rqt_context.list_q_type':
        1}
    assert bench.g.fails('CREATE_RQT', struct.pack('>I', tx.number), **rq_list) == 'BAD_RES'
    assert tir and bench.g.fails('DESTROY_GENERAL_OBJECT', obj_type=0xd, obj_id=tx.number) == 'OK'
    assert list(bench.card.virtio_doorbells) == [(3, 0)]
    assert Guest().fails('CREATE_GENERAL_OBJECT', bytes(tx.obj.buf), obj_type=0xd) == 'BAD_PARAM'


@pytest.mark.parametrize(
    'what', ['circle', 'index', 'head', 'flags', 'address', 'short', 'offload', 'writable', 'used'])
def test_hostile_driver(bench: EthernetBench, what: str) -> None:
    """The virtqueue goes to the error state, and stays there; nothing else happens."""
    used = {'used_addr': 0x1000} if what == 'used' else {}
    tx = Virtqueue(bench, 1, **used)
    assert tx.create() == tx.modify(READY) == 'OK'
    tx.describe(
        0, *{
            'circle': (tx.mem, 1, NEXT, 0), 'flags': (tx.mem, 40, 4), 'address': (1 << 60, 40),
            'short': (tx.mem + 0x400, 20), 'writable': (tx.mem + 0x400, 60, WRITE)}.get(
                what, (tx.mem + 0x400, 12 + len(PLAIN))))
    if what == 'offload':
        bench.g.write(tx.mem + 0x400, b'\1')
    tx.offer(SIZE if what == 'head' else 0, count=SIZE + 1 if what == 'index' else None)
    tx.kick(bench.function)
    assert tx.shown()[0] == ERROR
    tx.kick(bench.function)
    assert tx.modify(READY) == 'BAD_RES_STATE'
    assert bench.g.fails('DESTROY_GENERAL_OBJECT', obj_type=0xd, obj_id=tx.number) == 'OK'
