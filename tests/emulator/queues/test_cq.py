# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Completion queues of the emulated card: creation, events, moderation, overrun, resizing."""
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import PAGE, Guest, GuestCq, GuestQp, connected, inline
from mlx5emu import prm
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.prm.wqe import Op


def nops(q: GuestQp, n: int) -> None:
    """``n`` completions."""
    for _ in range(n):
        q.post_send(Op.NOP)


def comp(cq: GuestCq) -> tuple[int, int]:
    """The event that a CQ's completion makes."""
    return 0, cq.number


def nop_qp(g: Guest, cq: GuestCq) -> GuestQp:
    """A QP that can complete NOPs."""
    q = GuestQp(g, scq=cq, log_sq=8)
    q.connect(q.number)
    return q


@pytest.mark.parametrize('cqe_sz', [0, 1, 2])
def test_ring_goes_round(guest: Guest, cqe_sz: int) -> None:
    """Owner bit and position over several rounds, in CQEs of 64 and of 128 bytes."""
    cq = GuestCq(guest, 2, cqe_sz)
    q = nop_qp(guest, cq)
    for k in range(11):
        nops(q, 1)
        assert [c['wqe_counter'] for c in cq.poll()] == [k]


def test_wide_cqe_stride() -> None:
    """A CQE of 128 bytes has its 64 bytes of status last."""
    g = Guest()
    cq = GuestCq(g, 2, 1)
    q = nop_qp(g, cq)
    nops(q, 2)
    assert g.read(cq.buf, 63) == bytes(63)
    assert [c['opcode'] for c in cq.poll()] == [0, 0]


def test_event_once_armed(guest: Guest) -> None:
    """No event before arming; one after, at the next completion; none again until armed anew."""
    cq = GuestCq(guest)
    q = nop_qp(guest, cq)
    nops(q, 1)
    assert guest.events() == []
    cq.poll()
    cq.arm()
    assert guest.events() == []
    nops(q, 3)
    assert guest.events() == [comp(cq)]
    cq.arm()
    assert guest.events() == [
        comp(cq)], 'completions that came since the last look are told of at once'
    cq.poll()
    cq.arm()
    assert guest.events() == []


def test_solicited_only(guest: Guest) -> None:
    """A CQ armed for solicited completions ignores others, and wakes for a solicited one and for an
    error."""
    cq = GuestCq(guest)
    a, b = GuestQp(guest, rcq=GuestCq(guest)), GuestQp(guest, scq=GuestCq(guest), rcq=cq)
    a.connect(b.number, rnr_retry=0)
    b.connect(a.number)
    for _ in range(3):
        b.post_recv((0, 0, 0x100))
    cq.arm(solicited=True)
    a.post_send(Op.SEND, flags=0)
    assert guest.events() == []
    a.post_send(Op.SEND, flags=2)
    assert guest.events() == [comp(cq)]
    cq.arm(solicited=True)
    assert guest.events() == [comp(cq)], 'one that came since the last look is told of at once'
    cq.poll()
    cq.arm(solicited=True)
    a.post_send(Op.SEND, inline(b'too long'), flags=0)
    assert comp(cq) in guest.events()


def test_moderation_by_count_and_time(guest: Guest) -> None:
    """An event after so many completions, or after the period."""
    cq = GuestCq(guest)
    q = nop_qp(guest, cq)
    guest.cmd(
        'MODIFY_CQ', cqn=cq.number, **{
            'modify_field_select_resize_field_select.modify_field_select.modify_field_select': 3,
            'cq_context.cq_period': 2000, 'cq_context.cq_max_count': 3})
    cq.arm()
    nops(q, 2)
    assert guest.events() == []
    nops(q, 1)
    assert guest.events() == [comp(cq)]
    cq.poll()
    cq.arm()
    nops(q, 1)
    assert guest.events() == []
    for _ in range(1000):       # the timer of the first three is still to end, without an event
        guest.run(1)
        got = guest.events()
        if got:
            break
    assert got == [comp(cq)]
    out = guest.cmd('QUERY_CQ', cqn=cq.number).sub('cq_context')
    assert (out['cq_period'], out['cq_max_count'], out['producer_counter']) == (2000, 3, 4)


@pytest.mark.parametrize(('mode', 'events'), [(0, [0, 0, 1, 0, 0]), (1, [0, 0, 0, 0, 1])])
def test_what_the_period_counts_from(guest: Guest, mode: int, events: list[int]) -> None:
    """From the first completion, or from each: then completions that keep coming keep the event
    back."""
    start = guest.clock.ns
    cq = GuestCq(guest, cq_period=2000, cq_period_mode=mode)
    q = nop_qp(guest, cq)
    cq.arm()
    seen = []
    for at in (0, 1500, 2000, 3400, 3500):
        guest.clock.ns = start + at * 1000
        if at in (0, 1500):
            nops(q, 1)
        guest.card.run_timers()
        seen.append(len(guest.events()))
    assert seen == events


def test_period_of_a_batch_that_is_over(guest: Guest) -> None:
    """An event by count ends the batch: the next batch has the whole period."""
    cq = GuestCq(guest, cq_period=2000, cq_max_count=2)
    q = nop_qp(guest, cq)
    cq.arm()
    nops(q, 2)
    assert guest.events() == [comp(cq)]
    cq.poll()
    cq.arm()
    guest.clock.ns += 1_500_000
    nops(q, 1)
    guest.run(1)
    assert guest.events() == []
    guest.run(1)
    assert guest.events() == [comp(cq)]


def test_overrun(guest: Guest) -> None:
    """A full CQ takes no more: error event, state in the context; the ring's old CQEs are whole."""
    cq = GuestCq(guest, 2)
    q = nop_qp(guest, cq)
    nops(q, 5)
    assert guest.events() == [(prm.EVENTS['CQ_ERROR'], cq.number)]
    assert [c['wqe_counter'] for c in cq.poll()] == [0, 1, 2, 3]
    nops(q, 1)
    assert cq.poll() == []
    assert guest.cmd('QUERY_CQ', cqn=cq.number)['cq_context.status'] == 9


def test_overrun_ignored(guest: Guest) -> None:
    """With oi the CQ goes on and overwrites."""
    cq = GuestCq(guest, 2, oi=1)
    q = nop_qp(guest, cq)
    nops(q, 9)
    assert guest.events() == []
    assert guest.cmd('QUERY_CQ', cqn=cq.number)['cq_context.producer_counter'] == 9


def test_collapsed(guest: Guest) -> None:
    """Every CQE goes to the first slot, where the last one's WQE counter tells how far it is; the
    other slots stay as they were."""
    cq = GuestCq(guest, 2, cc=1, oi=1)
    q = nop_qp(guest, cq)
    rest = guest.read(cq.buf + 64, 192)
    for n in range(9):
        nops(q, 1)
        raw = guest.read(cq.buf, 64)
        assert (raw[63] >> 4, int.from_bytes(raw[60:62], 'big')) == (0, n)
    assert guest.read(cq.buf + 64, 192) == rest
    assert guest.events() == []
    assert guest.cmd('QUERY_CQ', cqn=cq.number)['cq_context.producer_counter'] == 9
    assert guest.fails('MODIFY_CQ', op_mod=1, cqn=cq.number,
                       **{'cq_context.log_cq_size': 3}) == 'BAD_RES_STATE'


def test_collapsed_cq_is_overrun_as_others_are(guest: Guest) -> None:
    """Without oi the consumer index counts, although the slots are not used."""
    cq = GuestCq(guest, 2, cc=1)
    nops(nop_qp(guest, cq), 5)
    assert guest.events() == [(prm.EVENTS['CQ_ERROR'], cq.number)]


def test_collapsed_cq_is_not_compressed(guest: Guest) -> None:
    """There is one slot: an array of completions has no room."""
    with pytest.raises(CommandFailed) as e:
        GuestCq(guest, 2, cc=1, cqe_comp_en=1)
    assert e.value.status == 'BAD_PARAM'


def test_doorbell_record_is_looked_at_in_time(guest: Guest) -> None:
    """A reader that keeps up is never overrun."""
    cq = GuestCq(guest, 2)
    q = nop_qp(guest, cq)
    for _ in range(30):
        nops(q, 3)
        assert len(cq.poll()) == 3
    assert guest.events() == []


@pytest.mark.parametrize('log_size', [1, 4])
def test_resize(guest: Guest, log_size: int) -> None:
    """The last CQE of the old ring says where to go on; the next is in the new ring, one index
    further."""
    cq = GuestCq(guest, 3)
    q = nop_qp(guest, cq)
    nops(q, 3)
    cq.poll()
    new = guest.alloc(PAGE)
    for k in range(1 << log_size):
        guest.write(new + k * 64 + 63, b'\xf1')
    guest.cmd('MODIFY_CQ', struct.pack('>Q', new), op_mod=1, cqn=cq.number, **{
        'cq_context.log_cq_size': log_size})
    assert [c['opcode'] for c in cq.poll()] == [5]
    cq.buf, cq.log_size = new, log_size
    nops(q, 1)
    assert [c['wqe_counter'] for c in cq.poll()] == [3]
    assert guest.cmd('QUERY_CQ', cqn=cq.number)['cq_context.log_cq_size'] == log_size


def test_resize_that_would_lose_completions(guest: Guest) -> None:
    """Refused; the CQ stays as it was."""
    cq = GuestCq(guest, 3)
    q = nop_qp(guest, cq)
    nops(q, 3)
    assert guest.fails('MODIFY_CQ', struct.pack('>Q', guest.alloc(PAGE)), op_mod=1, cqn=cq.number,
                       **{'cq_context.log_cq_size': 1}) == 'BAD_RES_STATE'
    nops(q, 1)
    assert len(cq.poll()) == 4


def test_in_use(guest: Guest) -> None:
    """A CQ is held by its QPs, an EQ by its CQs."""
    cq = GuestCq(guest)
    q = GuestQp(guest, scq=cq)
    assert guest.fails('DESTROY_CQ', cqn=cq.number) == 'BAD_RES_STATE'
    assert guest.fails('DESTROY_EQ', eq_number=guest.eqn) == 'BAD_RES_STATE'
    guest.cmd('DESTROY_QP', qpn=q.number)
    guest.cmd('DESTROY_CQ', cqn=cq.number)
    assert guest.fails('QUERY_CQ', cqn=cq.number) == 'BAD_RES'
    guest.cmd('DESTROY_EQ', eq_number=guest.eqn)


def test_umem_backed(guest: Guest) -> None:
    """Ring and doorbell record in a umem, at offsets; the umem is held; a range that ends outside
    is refused."""
    base = guest.alloc(2 * PAGE)
    mtts = struct.pack('>2Q', base | 3, (base + PAGE) | 3)
    umem = guest.cmd('CREATE_UMEM', mtts, **{'umem.num_of_mtt': 2, 'umem.page_offset':
                                             64})['umem_id']
    cq = GuestCq(guest)
    fields = {
        'cq_context.log_cq_size': 6, 'cq_context.c_eqn_or_apu_element': guest.eqn,
        'cq_context.uar_page': guest.uar, 'cq_context.dbr_umem_valid': 1, 'cq_context.dbr_umem_id':
        umem, 'cq_context.dbr_addr': 8, 'cq_umem_valid': 1, 'cq_umem_id': umem}
    cq.number = guest.cmd('CREATE_CQ', cq_umem_offset=128, **fields)['cqn']
    cq.buf, cq.dbr = base + 192, base + 72
    for k in range(64):
        guest.write(cq.buf + k * 64 + 63, b'\xf1')
    q = nop_qp(guest, cq)
    for _ in range(3):
        nops(q, 40)
        assert len(cq.poll()) == 40
    assert guest.fails('DESTROY_UMEM', umem_id=umem) == 'BAD_RES_STATE'
    for offset in (2 * PAGE - 64 * 64, (1 << 64) - 64, 65):
        assert guest.fails('CREATE_CQ', cq_umem_offset=offset, **fields) == 'BAD_PARAM'
    assert guest.fails('CREATE_CQ', cq_umem_offset=128,
                       **{**fields, 'cq_context.dbr_addr': 2 * PAGE - 64}) == 'BAD_PARAM'
    guest.cmd('DESTROY_QP', qpn=q.number)
    guest.cmd('DESTROY_CQ', cqn=cq.number)
    guest.cmd('DESTROY_UMEM', umem_id=umem)


@pytest.mark.parametrize(('field', 'value', 'status'), [('c_eqn_or_apu_element', 99, 'BAD_RES'),
                                                        ('uar_page', 0x5ff, 'BAD_RES'),
                                                        ('cqe_sz', 3, 'BAD_PARAM'),
                                                        ('log_cq_size', 31, 'BAD_PARAM'),
                                                        ('dbr_addr', 4, 'BAD_PARAM'),
                                                        ('apu_cq', 1, 'BAD_PARAM'),
                                                        ('log_cq_size', 7, 'BAD_INP_LEN')])
def test_a_cq_that_cannot_be_is_refused(guest: Guest, field: str, value: int, status: str) -> None:
    """Bad contexts, each with its status; nothing is left."""
    before = guest.card.memory.used
    good = {'log_cq_size': 6, 'c_eqn_or_apu_element': guest.eqn, 'uar_page': guest.uar}
    fields = {f'cq_context.{k}': v for k, v in {**good, field: value}.items()}
    assert guest.fails('CREATE_CQ', struct.pack('>Q', guest.alloc(PAGE)), **fields) == status
    assert not len(guest.card.cqs) and guest.card.memory.used == before


def test_ring_that_is_not_mapped(guest: Guest) -> None:
    """A CQE that cannot be written is an access error of the CQ, not of the card."""
    number = guest.cmd(
        'CREATE_CQ', struct.pack('>Q', 0x10000000000), **{
            'cq_context.log_cq_size': 6, 'cq_context.c_eqn_or_apu_element': guest.eqn,
            'cq_context.uar_page': guest.uar})['cqn']
    cq = GuestCq(guest)
    cq.number = number
    nops(nop_qp(guest, cq), 2)
    assert guest.events() == [(prm.EVENTS['CQ_ERROR'], number)]
    assert guest.cmd('QUERY_CQ', cqn=number)['cq_context.status'] == 0xa


def test_uid(guest: Guest) -> None:
    """Another user's CQ cannot be told from none."""
    uid = guest.cmd('CREATE_UCTX')['uid']
    cq = GuestCq(guest)
    for name in ('QUERY_CQ', 'DESTROY_CQ', 'MODIFY_CQ'):
        assert guest.fails(name, uid=uid, cqn=cq.number) == 'BAD_RES'


def test_doorbell_of_another_uar(guest: Guest) -> None:
    """Doorbells count only in the page that the queue was made for."""
    other = guest.cmd('ALLOC_UAR')['uar']
    cq = GuestCq(guest)
    q = nop_qp(guest, cq)
    doorbell(guest.card, 0x20, other, bytes(4) + cq.number.to_bytes(4, 'big'))
    q.post_send(Op.NOP, ring=False)
    doorbell(guest.card, 0x800, other, bytes(4) + (q.number << 8 | 1).to_bytes(4, 'big'))
    assert cq.poll() == [] and guest.events() == []
    assert guest.card.datapath.stray_doorbells == 2
    q.ring()
    assert len(cq.poll()) == 1 and guest.events() == []


def test_blueflame_copy_that_asks_for_a_completion(guest: Guest) -> None:
    """A NOP without CQ_UPDATE in memory, with it in the BlueFlame copy: whether the copy arrives is
    what the driver tests."""
    a, _ = connected(guest)
    for late in (b'\0\0\0\0', b'\0\0\0\x08'):
        index = a.post_send(Op.NOP, flags=0)
        doorbell(guest.card, 0x808, guest.uar, late + bytes(4))
        assert [c['wqe_counter'] for c in a.scq.poll()] == ([index] if late[3] else [])
    doorbell(guest.card, 0x808, guest.uar, b'\0\0\0\x08' + bytes(4))
    assert a.scq.poll() == []
