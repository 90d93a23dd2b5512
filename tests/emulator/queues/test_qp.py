# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Queue pairs of the emulated card: creation, state machine, query, flushing, destruction."""
import struct

import pytest
from emulator.driver.guest import (
    PAGE,
    RC,
    REG_UMR,
    UD,
    Guest,
    GuestCq,
    GuestQp,
    GuestRmp,
    connected,
    inline,
    sge,
)
from mlx5emu import prm
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.queues.qp import TRANSITIONS
from mlx5emu.queues.queue import ERR, INIT, RST, RTR, RTS


def state(g: Guest, q: GuestQp) -> int:
    """As QUERY_QP tells it."""
    return g.cmd('QUERY_QP', qpn=q.number)['qpc.state']


REACH = {
    RST: (), INIT: ('RST2INIT_QP', ), RTR: ('RST2INIT_QP', 'INIT2RTR_QP'), RTS:
    ('RST2INIT_QP', 'INIT2RTR_QP', 'RTR2RTS_QP'), ERR: ('RST2INIT_QP', '2ERR_QP')}
LEGAL = {(RST, 'RST2INIT_QP'): INIT, (INIT, 'INIT2INIT_QP'): INIT, (INIT, 'INIT2RTR_QP'): RTR,
         (RTR, 'RTR2RTS_QP'): RTS, (RTS, 'RTS2RTS_QP'): RTS, **{(s, '2ERR_QP'): ERR for s in REACH},
         **{(s, '2RST_QP'): RST for s in REACH}}


@pytest.mark.parametrize('name', [*TRANSITIONS, '2ERR_QP', '2RST_QP'])
@pytest.mark.parametrize('start', REACH)
def test_transitions(guest: Guest, start: int, name: str) -> None:
    """Every command in every state: what is legal gets there, what is not is BAD_RES_STATE and
    changes nothing."""
    q = GuestQp(guest)
    for step in REACH[start]:
        guest.cmd(step, qpn=q.number, **({'qpc.mtu': 3} if step == 'INIT2RTR_QP' else {}))
    assert state(guest, q) == start
    result = guest.fails(name, qpn=q.number, **({'qpc.mtu': 3} if name in TRANSITIONS else {}))
    assert result == ('OK' if (start, name) in LEGAL else 'BAD_RES_STATE')
    assert state(guest, q) == LEGAL.get((start, name), start)


def test_fields(guest: Guest) -> None:
    """Each step takes its own fields and those that the mask selects, and no others."""
    q = GuestQp(guest)
    q.modify('RST2INIT_QP', rre=1, remote_qpn=0x77, q_key=5, **{
        'primary_address_path.pkey_index': 3})
    q.modify('INIT2RTR_QP', mtu=3, remote_qpn=0x88, next_rcv_psn=0x123456, rwe=1, q_key=9,
             log_msg_max=30, **{
                 'primary_address_path.rlid': 4, 'primary_address_path.pkey_index': 7})
    q.modify('RTR2RTS_QP', mask=1 << 3, next_send_psn=0x654321, rwe=1, rae=1, retry_count=7,
             rnr_retry=6, **{'primary_address_path.ack_timeout': 14})
    q.modify('RTS2RTS_QP', mask=1 << 6 | 1 << 1, rre=0, min_rnr_nak=12, retry_count=1)
    c = guest.cmd('QUERY_QP', qpn=q.number).sub('qpc')
    got = {
        f: c[f]
        for f in ('rre', 'rwe', 'rae', 'q_key', 'mtu', 'remote_qpn', 'next_rcv_psn',
                  'next_send_psn', 'retry_count', 'rnr_retry', 'min_rnr_nak', 'st', 'pd', 'cqn_snd')
    }
    assert got == {
        'rre': 0, 'rwe': 1, 'rae': 0, 'q_key': 5, 'mtu': 3, 'remote_qpn': 0x88, 'next_rcv_psn':
        0x123456, 'next_send_psn': 0x654321, 'retry_count': 7, 'rnr_retry': 6, 'min_rnr_nak': 12,
        'st': RC, 'pd': guest.pd, 'cqn_snd': q.scq.number}
    p = c.sub('primary_address_path')
    assert (p['rlid'], p['pkey_index'], p['ack_timeout']) == (4, 3, 14)


def test_psn_advances_by_packets(guest: Guest) -> None:
    """The packet sequence numbers of both sides move on by the packets of a message."""
    a, b = GuestQp(guest), GuestQp(guest)
    a.to_init()
    b.to_init()
    b.to_rtr(a.number, next_rcv_psn=0xfffffe, mtu=3)
    a.to_rtr(b.number, mtu=3)
    a.to_rts(next_send_psn=0xfffffe)
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    b.post_recv((buf, PAGE, key))
    a.post_send(Op.SEND, sge(buf, 4095, key))
    assert guest.cmd('QUERY_QP', qpn=a.number)['qpc.next_send_psn'] == 2
    assert guest.cmd('QUERY_QP', qpn=b.number)['qpc.next_rcv_psn'] == 2


def test_error_state_flushes(guest: Guest) -> None:
    """2ERR completes what is posted to both queues, in order, with flush errors; later posts are
    flushed too."""
    a, b = connected(guest, rcq=GuestCq(guest))
    for _ in range(3):
        a.post_recv((0, 0, 0x100))
    a.post_send(Op.SEND, inline(b'x' * 100),
                flags=0)       # the peer has no receive WQE: stays at the head
    a.post_send(Op.NOP, flags=0)
    guest.cmd('2ERR_QP', qpn=a.number)
    assert [(c['opcode'], c['syndrome'], c['wqe_counter'], c['send_wqe_opcode'])
            for c in a.scq.poll()] == [(13, Syndrome.FLUSH, 0, Op.SEND),
                                       (13, Syndrome.FLUSH, 2, Op.NOP)]
    assert [(c['opcode'], c['syndrome'], c['wqe_counter']) for c in a.rcq.poll()] == [
        (14, Syndrome.FLUSH, k) for k in range(3)]
    a.post_send(Op.NOP, flags=0)
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.FLUSH]
    a.post_recv((0, 0, 0x100))
    late = []
    for _ in range(100):
        guest.run(10)
        late = late or a.rcq.poll()
        if late:
            break
    assert [c['wqe_counter'] for c in late] == [3]
    assert b.model.state == RTS


def test_reset_forgets(guest: Guest) -> None:
    """2RST: no completion for what was posted, counters at zero, and the QP works anew."""
    a, b = connected(guest, rcq=GuestCq(guest))
    a.post_recv((0, 0, 0x100))
    a.post_send(Op.NOP, flags=0)
    a.post_send(Op.SEND, inline(b'x'))
    guest.cmd('2RST_QP', qpn=a.number)
    guest.run(50)
    assert a.scq.poll() == [] and a.rcq.poll() == []
    a.posted = a.received = 0
    guest.write(a.dbr, bytes(8))
    guest.cmd('2RST_QP', qpn=b.number)
    a.connect(b.number)
    b.connect(a.number)
    b.post_recv((0, 0, 0x100))
    assert a.post_send(Op.SEND) == 0
    assert a.scq.poll()[0]['opcode'] == 0


def test_destroy_while_waiting(guest: Guest) -> None:
    """A QP that waits for its peer can go; its timer finds nothing."""
    a, _ = connected(guest, rcq=GuestCq(guest))
    a.post_send(Op.SEND, inline(b'x'))
    guest.cmd('DESTROY_QP', qpn=a.number)
    guest.run(50)
    assert a.scq.poll() == []


def test_modify_while_waiting(guest: Guest) -> None:
    """A change in RTS leaves the WQE that waits for its peer at work."""
    a, b = connected(guest, rcq=GuestCq(guest))
    a.post_send(Op.SEND, inline(b'x'))
    a.modify('RTS2RTS_QP', mask=1 << 6, min_rnr_nak=2)
    b.post_recv((guest.alloc(PAGE), 0, 0x100))
    guest.run(50)
    assert [c['opcode'] for c in a.scq.poll()] == [
        13], 'the buffer is too short, which the peer found out'


def test_doorbell_before_rts(guest: Guest) -> None:
    """Nothing is sent before RTS."""
    q = GuestQp(guest)
    q.to_init()
    q.to_rtr(q.number)
    q.post_send(Op.NOP)
    assert q.scq.poll() == []


@pytest.mark.parametrize(('field', 'value', 'status'), [('st', 0xb, 'BAD_PARAM'),
                                                        ('pd', 0x999, 'BAD_RES'),
                                                        ('cqn_snd', 0x999, 'BAD_RES'),
                                                        ('cqn_rcv', 0x999, 'BAD_RES'),
                                                        ('uar_page', 0x5ff, 'BAD_RES'),
                                                        ('dbr_addr', 12, 'BAD_PARAM'),
                                                        ('rq_type', 2, 'BAD_PARAM'),
                                                        ('log_sq_size', 7, 'BAD_INP_LEN'),
                                                        ('page_offset', 48, 'BAD_INP_LEN')])
def test_a_qp_that_cannot_be_is_refused(guest: Guest, field: str, value: int, status: str) -> None:
    """Bad contexts, each with its status; nothing is left."""
    cq = GuestCq(guest)
    before = guest.card.memory.used
    good = {
        'pd': guest.pd, 'cqn_snd': cq.number, 'cqn_rcv': cq.number, 'uar_page': guest.uar,
        'log_rq_size': 3, 'log_sq_size': 4, 'log_rq_stride': 2}
    fields = {f'qpc.{k}': v for k, v in {**good, field: value}.items()}
    assert guest.fails('CREATE_QP', struct.pack('>Q', guest.alloc(PAGE)), **fields) == status
    assert not len(guest.card.qps) and guest.card.memory.used == before
    assert guest.cmd('QUERY_CQ', cqn=cq.number) and guest.card.cqs.find(cq.number).refs == 0


def test_objects_in_use(guest: Guest) -> None:
    """PD, CQ and SRQ are held until the QP goes."""
    srq, pd = GuestRmp(guest), guest.cmd('ALLOC_PD')['pd']
    q = GuestQp(guest, srqn=srq.number, pd=pd)
    held = [('DEALLOC_PD', 'pd', pd), ('DESTROY_CQ', 'cqn', q.scq.number),
            ('DESTROY_RMP', 'rmpn', srq.number)]
    for name, field, number in held:
        assert guest.fails(name, **{field: number}) == 'BAD_RES_STATE'
    guest.cmd('DESTROY_QP', qpn=q.number)
    for name, field, number in held:
        guest.cmd(name, **{field: number})


def test_umem_backed(guest: Guest) -> None:
    """Rings and doorbell record in a umem; it is held."""
    base = guest.alloc(2 * PAGE)
    umem = guest.cmd('CREATE_UMEM', struct.pack('>2Q', base | 3, (base + PAGE) | 3), **{
        'umem.num_of_mtt': 2})['umem_id']
    q = GuestQp(guest, REG_UMR, log_sq=5)
    fields = {
        'pd': guest.pd, 'st': UD, 'rq_type': 3, 'cqn_snd': q.scq.number, 'cqn_rcv': q.scq.number,
        'uar_page': guest.uar, 'log_sq_size': 5, 'dbr_umem_valid': 1, 'dbr_umem_id': umem,
        'dbr_addr': 2 * PAGE - 64, 'no_sq': 0}
    fields = {f'qpc.{k}': v for k, v in fields.items()}
    extra = {'wq_umem_valid': 1, 'wq_umem_id': umem, 'wq_umem_offset': PAGE - 1024}
    q.number = guest.cmd('CREATE_QP', **fields, **extra)['qpn']
    q.buf, q.dbr, q.rq_bytes = base + PAGE - 1024, base + 2 * PAGE - 64, 0
    q.connect(0)
    for k in range(70):
        assert q.post_send(Op.NOP) == k
        assert len(q.scq.poll()) == 1
    assert guest.fails('DESTROY_UMEM', umem_id=umem) == 'BAD_RES_STATE'
    assert guest.fails('CREATE_QP', **fields, **{**extra, 'wq_umem_offset':
                                                 2 * PAGE - 1024}) == 'BAD_PARAM'
    guest.cmd('DESTROY_QP', qpn=q.number)
    guest.cmd('DESTROY_UMEM', umem_id=umem)


def test_foreign_uid(guest: Guest) -> None:
    """Another user's QP cannot be told from none, nor can its parts be used."""
    uid = guest.cmd('CREATE_UCTX')['uid']
    q = GuestQp(guest)
    for name in ('QUERY_QP', 'DESTROY_QP', '2ERR_QP', 'RST2INIT_QP'):
        assert guest.fails(name, uid=uid, qpn=q.number) == 'BAD_RES'
    assert guest.fails('CREATE_QP', uid=uid, **{'qpc.pd': guest.pd, 'qpc.cqn_snd':
                                                q.scq.number}) == 'BAD_RES'


def test_srq_events(guest: Guest) -> None:
    """Limit reached once; last WQE reached when the QP goes to error."""
    srq = GuestRmp(guest)
    a, b = connected(guest, srqn=srq.number)
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    for _ in range(6):
        srq.post((buf, 64, key))
    guest.cmd('MODIFY_RMP', rmp_state=1, rmpn=srq.number, **{
        'bitmask.lwm': 1, 'ctx.state': 1, 'ctx.wq.lwm': 4})
    for _ in range(2):
        a.post_send(Op.SEND, inline(b'1'))
    assert guest.events() == []
    assert guest.cmd('QUERY_RMP', rmpn=srq.number)['rmp_context.wq.lwm'] == 4
    a.post_send(Op.SEND, inline(b'1'))
    a.post_send(Op.SEND, inline(b'1'))
    assert guest.events() == [(prm.EVENTS['SRQ_RQ_LIMIT'], srq.number)]
    assert guest.cmd('QUERY_RMP', rmpn=srq.number)['rmp_context.wq.lwm'] == 0
    guest.cmd('2ERR_QP', qpn=b.number)
    assert guest.events() == [(prm.EVENTS['SRQ_LAST_WQE'], b.number)]
    assert guest.fails('MODIFY_RMP', rmp_state=1, rmpn=srq.number, **{
        'bitmask.lwm': 1, 'ctx.state': 1, 'ctx.wq.lwm': 17}) == 'BAD_PARAM'


def test_srq_follows_its_links(guest: Guest) -> None:
    """WQEs are taken in the order of the list, which the driver re-links as it frees them; CQEs
    name the WQE's index."""
    srq = GuestRmp(guest, log_size=2)
    a, b = connected(guest, srqn=srq.number)
    buf = guest.alloc(PAGE)
    key = guest.mkey(buf, PAGE)
    for k in range(3):
        srq.post((buf + 64 * k, 64, key))
    for k in range(2):
        a.post_send(Op.SEND, inline(bytes([k])), flags=0)
    assert [c['wqe_counter'] for c in b.rcq.poll()] == [0, 1]
    # Freed in the order 1, 0: the tail WQE 3 now leads to 1, and 1 to 0.
    guest.write(srq.buf + 3 * srq.stride + 2, b'\0\1')
    guest.write(srq.buf + 1 * srq.stride + 2, b'\0\0')
    srq.post((buf + 512, 64, key), index=3)
    srq.post((buf + 576, 64, key), index=1)
    for k in range(3):
        a.post_send(Op.SEND, inline(bytes([16 + k])), flags=0)
    assert [c['wqe_counter'] for c in b.rcq.poll()] == [2, 3, 1]
    assert [guest.read(buf + at, 1)[0] for at in (128, 512, 576)] == [16, 17, 18]
