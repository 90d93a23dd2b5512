# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Shared receive queues of the emulated card: where the buffers stand in a WQE, and in which order
WQEs are taken."""
import pytest
from emulator.driver.guest import PAGE, Guest, GuestCq, GuestQp, GuestRmp, inline
from mlx5emu.prm.wqe import Op

LINKED, CYCLIC = 0, 1


def receiving(g: Guest, srq: GuestRmp) -> tuple[GuestQp, GuestQp]:
    """A sender, and a QP that receives from the queue."""
    a, b = GuestQp(g), GuestQp(g, srqn=srq.number, rcq=GuestCq(g))
    a.connect(b.number)
    b.connect(a.number)
    return a, b


@pytest.mark.parametrize(('kind', 'basic', 'signed', 'skip'), [
    (LINKED, 0, 0, 16), (LINKED, 0, 1, 16), (CYCLIC, 0, 0, 16), (CYCLIC, 0, 1, 16),
    (CYCLIC, 1, 0, 0), (CYCLIC, 1, 1, 16)])
def test_where_the_buffers_stand(guest: Guest, kind: int, basic: int, signed: int,
                                 skip: int) -> None:
    """16 bytes come first for the next WQE's index, used or not; basic_cyclic_rcv_wqe says that
    they are not there, and a signature takes them."""
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    srq = GuestRmp(guest, skip=skip, **{'wq.wq_type': kind, 'wq.wq_signature': signed,
                                        'basic_cyclic_rcv_wqe': basic})
    a, b = receiving(guest, srq)
    for k in range(3):
        srq.post((buf + 64 * k, 64, key))
    for k in range(3):
        a.post_send(Op.SEND, inline(bytes([k + 1]) * 12))
        assert [(c['opcode'], c['byte_cnt'], c['wqe_counter']) for c in b.rcq.poll()] == [
            (2, 12, k)]
        assert guest.read(buf + 64 * k, 13) == bytes([k + 1]) * 12 + b'\0'


def test_cyclic_goes_on_and_linked_follows_its_list(guest: Guest) -> None:
    """A cyclic queue takes one WQE after the other, whatever stands in the first 16 bytes."""
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    for kind, order in ((CYCLIC, [0, 1, 2, 3]), (LINKED, [0, 2, 1, 3])):
        srq = GuestRmp(guest, 2, **{'wq.wq_type': kind})
        for at, following in ((0, 2), (2, 1), (1, 3)):
            guest.write(srq.buf + at * srq.stride + 2, following.to_bytes(2, 'big'))
        a, b = receiving(guest, srq)
        for k in range(4):
            srq.post((buf, 64, key), index=k)
        for _ in range(4):
            a.post_send(Op.SEND, inline(b'x'))
        assert [c['wqe_counter'] for c in b.rcq.poll()] == order


def test_basic_wqes_are_for_a_cyclic_queue(guest: Guest) -> None:
    """A list has nowhere to stand in a WQE without the segment."""
    before = guest.card.objects()
    raw = {'ctx.state': 1, 'ctx.basic_cyclic_rcv_wqe': 1, 'ctx.wq.log_wq_sz': 2,
           'ctx.wq.log_wq_stride': 6, 'ctx.wq.pd': guest.pd, 'ctx.wq.dbr_addr': guest.alloc(64)}
    tail = guest.alloc(PAGE).to_bytes(8, 'big')
    assert guest.fails('CREATE_RMP', tail, **raw) == 'BAD_PARAM'
    assert guest.card.objects() == before
    assert guest.cmd('CREATE_RMP', tail, **raw, **{'ctx.wq.wq_type': CYCLIC})['rmpn']
