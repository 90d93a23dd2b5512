# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Raw work queues of the emulated card and what points at them: states, lists, use counts,
frames."""
import struct

import pytest
from emulator.driver.guest import PAGE, Guest, GuestCq, inline, sge
from emulator.driver.raw_queues import ERROR, READY, RESET, GuestSq, eth, rq
from mlx5emu.prm.wqe import Op, Syndrome


def test_frames_leave(guest: Guest) -> None:
    """Inline headers, data segments and several frames in one WQE complete with their bytes; the
    port counts them."""
    q = GuestSq(guest)
    assert q.modify(RESET, READY) == 'OK'
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    q.post(Op.SEND, eth(b'h' * 18), sge(buf, 100, key))
    q.post(Op.SEND, eth(), sge(buf, 60, key), inline(b'tail'))
    q.post(Op.ENHANCED_MPSW, eth(), sge(buf, 70, key), inline(b'x' * 64))
    assert [(c['opcode'], c['byte_cnt'], c['srqn_uidx']) for c in q.cq.poll()] == [(0, 118, 0x44),
                                                                                   (0, 64, 0x44),
                                                                                   (0, 134, 0x44)]
    assert sum(n for (_, unit), n in guest.card.vport.counters.items() if unit == 'packets') == 4


@pytest.mark.parametrize(('op', 'key_error', 'syndrome'), [(Op.READ, 0, Syndrome.LOCAL_QP_OP),
                                                           (Op.SEND, 1, Syndrome.LOCAL_PROT)])
def test_bad_wqe_stops_the_queue(guest: Guest, op: int, key_error: int, syndrome: int) -> None:
    """An opcode that is not for frames, or a wrong key: error CQE, state ERR, the rest flushed;
    reset makes it work again."""
    q = GuestSq(guest)
    q.modify(RESET, READY)
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    q.post(op, eth(), sge(buf, 60, key ^ key_error))
    q.post(Op.NOP)
    assert [c['syndrome'] for c in q.cq.poll()] == [syndrome, Syndrome.FLUSH]
    assert guest.cmd('QUERY_SQ', sqn=q.number)['sq_context.state'] == ERROR
    assert q.modify(READY, ERROR) == 'BAD_RES_STATE'
    assert q.modify(ERROR, RESET) == 'OK'
    assert q.modify(RESET, READY) == 'OK'
    q.posted = 0
    guest.write(q.dbr, bytes(8))
    q.post(Op.NOP)
    assert [c['opcode'] for c in q.cq.poll()] == [0]


@pytest.mark.parametrize(('old', 'new', 'status'), [(RESET, READY, 'OK'), (RESET, RESET, 'OK'),
                                                    (RESET, ERROR, 'BAD_RES_STATE'),
                                                    (READY, READY, 'BAD_RES_STATE'),
                                                    (ERROR, RESET, 'BAD_RES_STATE')])
def test_states(guest: Guest, old: int, new: int, status: str) -> None:
    """From reset: what is legal is done, a wrong present state or next state is refused; the same
    for RQs."""
    assert GuestSq(guest).modify(old, new) == status
    assert guest.fails('MODIFY_RQ', rqn=rq(guest), rq_state=old, **{'ctx.state': new}) == status


def test_ready_to_reset(guest: Guest) -> None:
    """Straight from ready to reset, as the driver does before it destroys a raw QP: nothing is
    flushed."""
    cq, dbr = GuestCq(guest), guest.alloc(8, 64)
    number = rq(guest, cq, **{'wq.dbr_addr': dbr})
    guest.cmd('MODIFY_RQ', rqn=number, rq_state=RESET, **{'ctx.state': READY})
    guest.write(dbr, (3).to_bytes(4, 'big'))
    guest.cmd('MODIFY_RQ', rqn=number, rq_state=READY, **{'ctx.state': RESET})
    assert cq.poll() == []
    assert guest.cmd('QUERY_RQ', rqn=number)['rq_context.state'] == RESET
    q = GuestSq(guest)
    assert [q.modify(RESET, READY), q.modify(READY, RESET)] == ['OK', 'OK']


def test_not_ready_sends_nothing(guest: Guest) -> None:
    """In reset state a doorbell does nothing."""
    q = GuestSq(guest)
    q.post(Op.NOP)
    assert q.cq.poll() == []


def test_receive_queue_flushes(guest: Guest) -> None:
    """RQ to ERR completes what is posted with flush errors, when the context asks for it."""
    for flush in (0, 1):
        cq = GuestCq(guest)
        dbr = guest.alloc(8, 64)
        number = rq(guest, cq, **{'wq.dbr_addr': dbr, 'flush_in_error_en': flush})
        guest.cmd('MODIFY_RQ', rqn=number, rq_state=RESET, **{'ctx.state': READY})
        guest.write(dbr, (3).to_bytes(4, 'big'))
        guest.cmd('MODIFY_RQ', rqn=number, rq_state=READY, **{'ctx.state': ERROR})
        assert [(c['opcode'], c['syndrome'], c['wqe_counter']) for c in cq.poll()] == [
            (14, Syndrome.FLUSH, k) for k in range(3 * flush)]


def test_tables_and_transport_interfaces(guest: Guest) -> None:
    """TIR and RQT hold what they point at; a list is replaced as a whole and comes back in a
    query."""
    a, b = rq(guest), rq(guest)
    td = guest.cmd('ALLOC_TRANSPORT_DOMAIN')['transport_domain']
    rqt = guest.cmd('CREATE_RQT', struct.pack('>2I', a, b), **{
        'rqt_context.rqt_max_size': 2, 'rqt_context.rqt_actual_size': 2})['rqtn']
    direct = guest.cmd('CREATE_TIR', **{'ctx.inline_rqn': a, 'ctx.transport_domain': td})['tirn']
    hashed = guest.cmd(
        'CREATE_TIR', **{'ctx.disp_type': 1, 'ctx.indirect_table': rqt, 'ctx.transport_domain':
                         td})['tirn']
    assert guest.fails('DESTROY_RQ', rqn=b) == 'BAD_RES_STATE'
    one = {'rqtn': rqt, 'bitmask.rqn_list': 1, 'ctx.rqt_actual_size': 1}
    guest.cmd('MODIFY_RQT', struct.pack('>I', a), **one)
    guest.cmd('DESTROY_RQ', rqn=b)
    assert guest.fails('MODIFY_RQT', struct.pack('>I', b), **one) == 'BAD_RES'
    assert guest.fails('MODIFY_RQT', struct.pack('>3I', a, a, a),
                       **{**one, 'ctx.rqt_actual_size': 3}) == 'BAD_PARAM'
    out = guest.cmd('QUERY_RQT', rqtn=rqt, out_len=0x120)
    assert (out['rqt_context.rqt_actual_size'], out['rqt_context.rq_num[0].rq_num']) == (1, a)
    for name, field, number in (('DESTROY_RQ', 'rqn', a), ('DESTROY_RQT', 'rqtn', rqt),
                                ('DEALLOC_TRANSPORT_DOMAIN', 'transport_domain', td)):
        assert guest.fails(name, **{field: number}) == 'BAD_RES_STATE'
    for tir in (direct, hashed):
        guest.cmd('DESTROY_TIR', tirn=tir)
    guest.cmd('DESTROY_RQT', rqtn=rqt)
    guest.cmd('DESTROY_RQ', rqn=a)
    guest.cmd('DEALLOC_TRANSPORT_DOMAIN', transport_domain=td)


def test_tis(guest: Guest) -> None:
    """An SQ holds its TIS; its priority can be changed."""
    tis = guest.cmd('CREATE_TIS')['tisn']
    q = GuestSq(guest, tis_lst_sz=1, tis_num_0=tis)
    assert guest.fails('DESTROY_TIS', tisn=tis) == 'BAD_RES_STATE'
    guest.cmd('MODIFY_TIS', tisn=tis, **{'bitmask.prio': 1, 'ctx.prio': 5})
    assert guest.cmd('QUERY_TIS', tisn=tis)['tis_context.prio'] == 5
    guest.cmd('DESTROY_SQ', sqn=q.number)
    guest.cmd('DESTROY_TIS', tisn=tis)


@pytest.mark.parametrize(('field', 'value', 'status'), [('cqn', 0x999, 'BAD_RES'),
                                                        ('wq.pd', 0x999, 'BAD_RES'),
                                                        ('state', READY, 'BAD_PARAM'),
                                                        ('hairpin', 1, 'BAD_PARAM'),
                                                        ('wq.wq_type', 0, 'BAD_PARAM'),
                                                        ('wq.log_wq_stride', 5, 'BAD_PARAM'),
                                                        ('wq.log_wq_sz', 7, 'BAD_INP_LEN'),
                                                        ('wq.uar_page', 1, 'BAD_RES')])
def test_refused_sq(guest: Guest, field: str, value: int, status: str) -> None:
    """Bad contexts, each with its status; nothing is left."""
    cq = GuestCq(guest)
    before = guest.card.memory.used
    good = {
        'cqn': cq.number, 'wq.wq_type': 1, 'wq.pd': guest.pd, 'wq.uar_page': guest.uar,
        'wq.log_wq_stride': 6, 'wq.log_wq_sz': 6}
    fields = {f'ctx.{k}': v for k, v in {**good, field: value}.items()}
    assert guest.fails('CREATE_SQ', struct.pack('>Q', guest.alloc(PAGE)), **fields) == status
    assert not len(guest.card.sqs) and guest.card.memory.used == before
