# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Messages between two queue pairs of the emulated card: every operation of every transport, and
what goes wrong with each."""
import pytest
from emulator.driver.guest import (
    DCI,
    RC,
    UC,
    UD,
    XRC,
    Guest,
    GuestCq,
    GuestQp,
    GuestRmp,
    GuestXrcSrq,
    atomic,
    av,
    connected,
    inline,
    raddr,
    sge,
)
from mlx5emu import prm
from mlx5emu.prm.wqe import MASKED_ATOMIC, Op, Syndrome
from mlx5emu.queues.queue import ERR, RTS, SQER

PATTERN = bytes(range(256)) * 64


def buffers(g: Guest, n: int = 16384) -> tuple[int, int, int]:
    """Source with a pattern, zeroed sink, one key over both."""
    base = g.alloc(2 * n)
    g.write(base, (PATTERN * (n // len(PATTERN) + 1))[:n])
    return base, base + n, g.mkey(base, 2 * n)


def only(cqes: list) -> prm.View:
    """The one CQE there is."""
    assert len(cqes) == 1
    return cqes[0]


# ---- what works

@pytest.mark.parametrize('st', [RC, UC])
@pytest.mark.parametrize('n', [1, 64, 4096, 16384])
def test_send(guest: Guest, st: int, n: int) -> None:
    """Data, byte count, opcodes, user index and counters of both completions."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, st, rcq=GuestCq(guest))
    b.post_recv((dst, n, key))
    index = a.post_send(Op.SEND, sge(src, n, key))
    done, got = only(a.scq.poll()), only(b.rcq.poll())
    assert (done['opcode'], done['send_wqe_opcode'], done['qpn']) == (0, Op.SEND, a.number)
    assert (done['wqe_counter'], done['srqn_uidx']) == (index, 0x123)
    assert (got['opcode'], got['byte_cnt'], got['qpn'], got['wqe_counter']) == (2, n, b.number, 0)
    assert (got['rqpn'], got['g']) == (a.number, 0)
    assert guest.read(dst, n + 16) == PATTERN[:n] + bytes(16)


def test_send_is_not_signalled_without_being_asked(guest: Guest) -> None:
    """No CQE for the sender unless the WQE wants one; the receiver has its own."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, rcq=GuestCq(guest))
    b.post_recv((dst, 64, key))
    a.post_send(Op.SEND, sge(src, 64, key), flags=0)
    assert a.scq.poll() == []
    assert len(b.rcq.poll()) == 1


def test_immediate_and_solicited(guest: Guest) -> None:
    """The immediate and the solicited bit reach the receiver's CQE."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, rcq=GuestCq(guest))
    b.post_recv((dst, 64, key))
    a.post_send(Op.SEND_IMM, sge(src, 64, key), flags=0xa, imm=0xcafe0001)
    got = only(b.rcq.poll())
    assert (got['opcode'], got['imm_inval_pkey'], got['se']) == (3, 0xcafe0001, 1)


def test_gather_scatter_and_inline(guest: Guest) -> None:
    """Pieces of any length in, pieces of any length out; a ring that wraps in the middle of a
    WQE."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, log_sq=2, rcq=GuestCq(guest))
    for _ in range(9):
        b.post_recv((dst + 100, 7, key), (dst + 300, 500, key))
        a.post_send(Op.SEND, sge(src + 3, 5, key), inline(b'0123456789' * 12),
                    sge(src + 4095, 2, key))
        assert only(b.rcq.poll())['byte_cnt'] == 127
        assert only(a.scq.poll())['opcode'] == 0
        sent = PATTERN[3:8] + b'0123456789' * 12 + PATTERN[4095:4097]
        assert guest.read(dst + 100, 7) + guest.read(dst + 300, 120) == sent


def test_zero_length(guest: Guest) -> None:
    """A message with no data consumes a receive WQE all the same; a write or read of none touches
    no key."""
    a, b = connected(guest, rcq=GuestCq(guest))
    b.post_recv()
    a.post_send(Op.SEND)
    a.post_send(Op.WRITE, raddr(0, 0))
    a.post_send(Op.READ, raddr(0, 0))
    assert [c['opcode'] for c in a.scq.poll()] == [0, 0, 0]
    assert only(b.rcq.poll())['byte_cnt'] == 0


@pytest.mark.parametrize('st', [RC, UC])
def test_write(guest: Guest, st: int) -> None:
    """A write needs no receive WQE; with immediate it takes one and tells the length."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, st, rcq=GuestCq(guest))
    a.post_send(Op.WRITE, raddr(dst, key), sge(src, 5000, key))
    assert only(a.scq.poll())['opcode'] == 0
    assert b.rcq.poll() == []
    b.post_recv()
    a.post_send(Op.WRITE_IMM, raddr(dst + 5000, key), sge(src + 5000, 96, key), imm=7)
    got = only(b.rcq.poll())
    assert (got['opcode'], got['byte_cnt'], got['imm_inval_pkey']) == (1, 96, 7)
    assert guest.read(dst, 5097) == PATTERN[:5096] + b'\0'


def test_read(guest: Guest) -> None:
    """A read scatters and tells the byte count."""
    src, dst, key = buffers(guest)
    a, b = connected(guest)
    a.post_send(Op.READ, raddr(src + 1, key), sge(dst, 10, key), sge(dst + 4000, 5000, key))
    assert only(a.scq.poll())['byte_cnt'] == 5010
    assert guest.read(dst, 10) + guest.read(dst + 4000, 5000) == PATTERN[1:5011]


@pytest.mark.parametrize(('op', 'segment', 'before', 'after'),
                         [(Op.CS, atomic(99, 5), 5, 99), (Op.CS, atomic(99, 6), 5, 5),
                          (Op.FA, atomic(7), 5, 12), (Op.FA, atomic((1 << 64) - 1), 5, 4),
                          (Op.MASKED_CS, MASKED_ATOMIC.pack(0xff, 0x5, 0xf0, 0xf), 0x105, 0x1f5),
                          (Op.MASKED_CS, MASKED_ATOMIC.pack(0xff, 0x6, 0xf0, 0xf), 0x105, 0x105),
                          (Op.MASKED_FA, atomic(0x0101, 0x8080), 0xffff, 0x0000),
                          (Op.MASKED_FA, atomic(0x0101, 0), 0xffff, 0x10100)])
def test_atomic(guest: Guest, op: int, segment: bytes, before: int, after: int) -> None:
    """Compare and swap, fetch and add, and the masked ones; the old value comes back."""
    _, dst, key = buffers(guest)
    guest.write(dst, before.to_bytes(8, 'little'))
    a, _ = connected(guest)
    a.post_send(op, raddr(dst, key), segment, sge(dst + 64, 8, key))
    assert only(a.scq.poll())['byte_cnt'] == 8
    assert int.from_bytes(guest.read(dst, 8), 'little') == after
    assert int.from_bytes(guest.read(dst + 64, 8), 'little') == before


@pytest.mark.parametrize('grh', [False, True])
def test_datagram(guest: Guest, grh: bool) -> None:
    """40 bytes come before the data; the CQE tells who sent, and whether they are a GRH."""
    src, dst, key = buffers(guest)
    a, b = GuestQp(guest, UD, rcq=GuestCq(guest)), GuestQp(guest, UD, rcq=GuestCq(guest))
    for q in (a, b):
        q.connect(0)
    gid = guest.card.vport.gid(0)
    b.post_recv((dst, 400, key))
    a.post_send(Op.SEND_IMM, av(b.number, gid=gid, grh=grh), sge(src, 100, key), imm=9)
    got = only(b.rcq.poll())
    assert only(a.scq.poll())['opcode'] == 0
    assert (got['opcode'], got['byte_cnt'], got['rqpn'], got['slid'], got['g'],
            got['imm_inval_pkey']) == (3, 140, a.number, 1, int(grh), 9)
    assert guest.read(dst + 40, 101) == PATTERN[:100] + b'\0'
    assert (guest.read(dst + 8, 32) == gid + gid) is grh


@pytest.mark.parametrize('wrong', [{'qkey': 1}, {'rlid': 77}, {'qpn': 0x4444}])
def test_datagram_for_nobody(guest: Guest, wrong: dict) -> None:
    """A wrong Q_Key, LID or QPN loses the datagram; the sender does not hear of it."""
    src, dst, key = buffers(guest)
    a, b = GuestQp(guest, UD, rcq=GuestCq(guest)), GuestQp(guest, UD, rcq=GuestCq(guest))
    for q in (a, b):
        q.connect(0)
    b.post_recv((dst, 400, key))
    a.post_send(Op.SEND, av(**{'qpn': b.number, **wrong}), sge(src, 100, key))
    assert only(a.scq.poll())['opcode'] == 0
    assert b.rcq.poll() == []
    assert b.model.rq.consumer == 0


def test_multicast(guest: Guest) -> None:
    """Every QP of the group gets a copy; after it left, none."""
    src, dst, key = buffers(guest)
    group = bytes.fromhex('ff12401bffff0000000000000000abcd')
    qps = [GuestQp(guest, UD, rcq=GuestCq(guest)) for _ in range(3)]
    for q in qps:
        q.connect(0)
    for q in qps[1:]:
        guest.cmd('ATTACH_TO_MCG', qpn=q.number, multicast_gid=group)
    for q in qps:
        q.post_recv((dst, 400, key))
        q.post_recv((dst, 400, key))
    qps[0].post_send(Op.SEND, av(0xffffff, gid=group, grh=True), sge(src, 8, key))
    assert [len(q.rcq.poll()) for q in qps] == [0, 1, 1]
    assert guest.fails('DESTROY_QP', qpn=qps[2].number) == 'BAD_RES_STATE'
    guest.cmd('DETACH_FROM_MCG', qpn=qps[2].number, multicast_gid=group)
    assert guest.fails('DETACH_FROM_MCG', qpn=qps[2].number, multicast_gid=group) == 'BAD_RES'
    qps[0].post_send(Op.SEND, av(0xffffff, gid=group, grh=True), sge(src, 8, key))
    assert [len(q.rcq.poll()) for q in qps] == [0, 1, 0]
    guest.cmd('DESTROY_QP', qpn=qps[2].number)


@pytest.mark.parametrize(('cs_res', 'cqe_sz', 'n', 'where'), [(0, 0, 8, 'buffer'), (1, 0, 32, 32),
                                                              (1, 0, 33, 'buffer'),
                                                              (1, 1, 33, 'buffer'), (2, 1, 32, 32),
                                                              (2, 1, 33, 64), (2, 1, 64, 64),
                                                              (2, 1, 65, 'buffer'),
                                                              (2, 0, 33, 'buffer')])
def test_scatter_to_cqe(guest: Guest, cs_res: int, cqe_sz: int, n: int, where: int | str) -> None:
    """Short data go into the CQE where the context says so: the first half of its 64 bytes, or the
    64 before them."""
    src, dst, key = buffers(guest)
    cq = GuestCq(guest, cqe_sz=cqe_sz)
    a, b = GuestQp(guest), GuestQp(guest, rcq=cq, cs_res=cs_res)
    a.connect(b.number)
    b.connect(a.number)
    b.post_recv((dst, 80, key))
    a.post_send(Op.SEND, sge(src, n, key))
    got = only(cq.poll())
    assert (got['opcode'], got['byte_cnt'], got['format']) == (2, n, {32: 1, 64: 2}.get(where, 0))
    assert guest.read(dst, 80) == (PATTERN[:n].ljust(80, b'\0') if where == 'buffer' else bytes(80))
    if where == 32:
        assert got.buf[:n] == PATTERN[:n]
    elif where == 64:
        assert guest.read(cq.buf, n) == PATTERN[:n]


def test_scatter_to_cqe_checks_the_room(guest: Guest) -> None:
    """The receive WQE must have room for what goes into the CQE."""
    src, dst, key = buffers(guest)
    a, b = GuestQp(guest), GuestQp(guest, cs_res=1)
    a.connect(b.number)
    b.connect(a.number)
    b.post_recv((dst, 7, key))
    a.post_send(Op.SEND, sge(src, 8, key))
    assert only(b.rcq.poll())['syndrome'] == Syndrome.LOCAL_LENGTH


@pytest.mark.parametrize(('cs_req', 'cqe_sz', 'n', 'where'), [(0, 0, 8, 'buffer'),
                                                              (0x11, 0, 32, 32),
                                                              (0x11, 0, 33, 'buffer'),
                                                              (0x22, 1, 33, 64),
                                                              (0x22, 1, 65, 'buffer'),
                                                              (0x22, 0, 33, 'buffer')])
def test_scatter_to_the_requesters_cqe(guest: Guest, cs_req: int, cqe_sz: int, n: int,
                                       where: int | str) -> None:
    """What reads and atomics fetch goes into the CQE likewise, when one is asked for; else to the
    buffer."""
    src, dst, key = buffers(guest)
    cq = GuestCq(guest, cqe_sz=cqe_sz)
    a, b = GuestQp(guest, scq=cq, cs_req=cs_req), GuestQp(guest)
    a.connect(b.number)
    b.connect(a.number)
    a.post_send(Op.READ, raddr(src, key), sge(dst, n, key))
    got = only(cq.poll())
    assert (got['opcode'], got['byte_cnt'], got['format']) == (0, n, {32: 1, 64: 2}.get(where, 0))
    assert guest.read(dst, 80) == (PATTERN[:n].ljust(80, b'\0') if where == 'buffer' else bytes(80))
    assert where != 32 or got.buf[:n] == PATTERN[:n]
    assert where != 64 or guest.read(cq.buf, n) == PATTERN[:n]
    a.post_send(Op.READ, raddr(src, key), sge(dst + 128, n, key), flags=0)
    assert guest.read(dst + 128, n) == PATTERN[:n] and cq.poll() == []
    a.post_send(Op.FA, raddr(dst + 256, key), atomic(5), sge(dst + 264, 8, key))
    got = only(cq.poll())
    assert got['format'] == int(bool(cs_req)) and guest.read(dst + 256, 8) == (5).to_bytes(
        8, 'little')
    a.post_send(Op.WRITE, raddr(dst + 512, key), sge(src, 8, key))
    assert only(cq.poll())['format'] == 0
    a.post_send(Op.READ, raddr(src, 0x666), sge(dst, 8, key))
    assert only(cq.poll())['syndrome'] == Syndrome.REMOTE_ACCESS


# ---- what goes wrong

def test_receiver_not_ready(guest: Guest) -> None:
    """The sender waits for a receive WQE, and completes when one is posted in time."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, rcq=GuestCq(guest))
    a.post_send(Op.SEND, sge(src, 64, key))
    assert a.scq.poll() == []
    b.post_recv((dst, 64, key))
    guest.run(100)
    assert only(a.scq.poll())['opcode'] == 0
    assert only(b.rcq.poll())['byte_cnt'] == 64


@pytest.mark.parametrize('op', [Op.SEND, Op.WRITE_IMM])
def test_receiver_never_ready(guest: Guest, op: int) -> None:
    """After rnr_retry tries: RNR retry exceeded, the QP in error, what came behind flushed; the
    peer lives on."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, rcq=GuestCq(guest))
    head = (raddr(dst, key),) if op == Op.WRITE_IMM else ()
    a.post_send(op, *head, sge(src, 64, key))
    a.post_send(Op.SEND, sge(src, 64, key), flags=0)
    guest.run(200)
    first, second = a.scq.poll()
    assert (first['opcode'], first['syndrome'], first['wqe_counter']) == (13, Syndrome.RNR_EXCEEDED,
                                                                          0)
    assert first['vendor_error_syndrome'] == 0x87
    assert (second['opcode'], second['syndrome'], second['wqe_counter']) == (13, Syndrome.FLUSH, 1)
    assert (a.model.state, b.model.state) == (ERR, RTS)
    assert guest.read(dst, 64) == bytes(64)


@pytest.mark.parametrize(
    'how', ['no such QP', 'not connected to us', 'not ready', 'wrong PSN', 'wrong LID'])
def test_no_answer(guest: Guest, how: str) -> None:
    """Nobody acknowledges: transport retry exceeded, not before the timeouts are over."""
    src, dst, key = buffers(guest)
    a, b, c = (GuestQp(guest, rcq=GuestCq(guest)) for _ in range(3))
    b.to_init()
    if how != 'not ready':
        b.to_rtr(a.number if how != 'not connected to us' else c.number,
                 next_rcv_psn=5 if how == 'wrong PSN' else 0)
    a.to_init()
    a.to_rtr(0x3333 if how == 'no such QP' else b.number,
             **({'primary_address_path.rlid': 9} if how == 'wrong LID' else {}))
    a.to_rts()
    b.post_recv((dst, 64, key))
    a.post_send(Op.SEND, sge(src, 64, key))
    assert a.scq.poll() == []
    guest.run(300)
    failed = only(a.scq.poll())
    assert (failed['syndrome'], failed['vendor_error_syndrome']) == (Syndrome.RETRY_EXCEEDED, 0x81)
    assert guest.read(dst, 64) == bytes(64)


def test_peer_becomes_ready(guest: Guest) -> None:
    """A peer that goes to RTR while the sender still tries gets the message."""
    src, dst, key = buffers(guest)
    a, b = GuestQp(guest, rcq=GuestCq(guest)), GuestQp(guest, rcq=GuestCq(guest))
    a.connect(b.number)
    b.to_init()
    b.post_recv((dst, 64, key))
    a.post_send(Op.SEND, sge(src, 64, key))
    b.to_rtr(a.number)
    guest.run(100)
    assert only(a.scq.poll())['opcode'] == 0
    assert guest.read(dst, 64) == PATTERN[:64]


def test_message_longer_than_the_receive_buffer(guest: Guest) -> None:
    """Receiver: local length error; sender: remote invalid request; both in error, the rest
    flushed."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, rcq=GuestCq(guest))
    b.post_recv((dst, 63, key))
    b.post_recv((dst, 64, key))
    a.post_send(Op.SEND, sge(src, 64, key))
    assert [(c['opcode'], c['syndrome'], c['wqe_counter']) for c in b.rcq.poll()] == [
        (14, Syndrome.LOCAL_LENGTH, 0), (14, Syndrome.FLUSH, 1)]
    assert only(a.scq.poll())['syndrome'] == Syndrome.REMOTE_INVALID
    assert (a.model.state, b.model.state) == (ERR, ERR)
    assert guest.read(dst, 64) == bytes(64)


def test_receive_buffer_not_allowed(guest: Guest) -> None:
    """Receiver: local protection error; sender: remote operation error."""
    src, dst, key = buffers(guest)
    read_only = guest.mkey(dst, 4096, lr=1)
    a, b = connected(guest, rcq=GuestCq(guest))
    b.post_recv((dst, 64, read_only))
    a.post_send(Op.SEND, sge(src, 64, key))
    failed = only(b.rcq.poll())
    assert (failed['syndrome'], failed['vendor_error_syndrome']) == (Syndrome.LOCAL_PROT, 0x52)
    failed = only(a.scq.poll())
    assert (failed['syndrome'], failed['vendor_error_syndrome']) == (Syndrome.REMOTE_OP, 0x89)


@pytest.mark.parametrize(('st', 'state'), [(RC, ERR), (UC, SQER)])
def test_local_key_wrong(guest: Guest, st: int, state: int) -> None:
    """A local protection error stops a reliable QP whole, an unreliable one's send queue."""
    src, dst, key = buffers(guest)
    a, b = connected(guest, st, rcq=GuestCq(guest))
    b.post_recv((dst, 64, key))
    a.post_send(Op.SEND, sge(src, 64, key ^ 1))
    a.post_send(Op.SEND, sge(src, 64, key))
    assert [(c['syndrome'], c['vendor_error_syndrome']) for c in a.scq.poll()] == [
        (Syndrome.LOCAL_PROT, 0x51), (Syndrome.FLUSH, 0xf4)]
    assert a.model.state == state
    assert guest.read(dst, 64) == bytes(64)


@pytest.mark.parametrize(('op', 'right'), [(Op.WRITE, 'rw'), (Op.READ, 'rr'), (Op.FA, 'a')])
def test_remote_key_lacks_the_right(guest: Guest, op: int, right: str) -> None:
    """Remote access error, the responder in error with an access event; nothing was touched."""
    src, dst, key = buffers(guest)
    poor = guest.mkey(dst, 4096, **{r: 1 for r in ('lr', 'lw', 'rr', 'rw', 'a') if r != right})
    a, b = connected(guest)
    extra = (atomic(1),) if op == Op.FA else ()
    a.post_send(op, raddr(dst, poor), *extra, sge(src, 8, key))
    failed = a.scq.poll()[0]
    assert (failed['syndrome'], failed['vendor_error_syndrome']) == (Syndrome.REMOTE_ACCESS, 0x88)
    assert (a.model.state, b.model.state) == (ERR, ERR)
    assert (prm.EVENTS['WQ_ACCESS_ERROR'], b.number) in guest.events()
    assert guest.read(dst, 8) == bytes(8) and guest.read(src, 8) == PATTERN[:8]


@pytest.mark.parametrize(('op', 'bit'), [(Op.WRITE, 'rwe'), (Op.READ, 'rre'), (Op.FA, 'rae')])
def test_remote_operation_not_enabled(guest: Guest, op: int, bit: str) -> None:
    """A QP that does not allow the operation answers invalid request."""
    src, dst, key = buffers(guest)
    a, b = GuestQp(guest), GuestQp(guest)
    b.to_init(**{bit: 0})
    b.to_rtr(a.number)
    a.connect(b.number)
    extra = (atomic(1),) if op == Op.FA else ()
    a.post_send(op, raddr(dst, key), *extra, sge(src, 8, key))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.REMOTE_INVALID
    assert (prm.EVENTS['WQ_INVAL_REQ_ERROR'], b.number) in guest.events()
    assert guest.read(dst, 8) == bytes(8)


def test_atomic_not_aligned(guest: Guest) -> None:
    """An address that is no multiple of 8 is an invalid request."""
    _, dst, key = buffers(guest)
    a, _ = connected(guest)
    a.post_send(Op.FA, raddr(dst + 4, key), atomic(1), sge(dst + 64, 8, key))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.REMOTE_INVALID
    assert guest.read(dst, 16) == bytes(16)


@pytest.mark.parametrize(('st', 'op'), [(RC, 0x7f), (RC, Op.LSO), (UC, Op.READ), (UC, Op.CS),
                                        (UD, Op.WRITE), (UD, Op.UMR)])
def test_opcode_that_the_transport_lacks(guest: Guest, st: int, op: int) -> None:
    """Local QP operation error, never success."""
    src, dst, key = buffers(guest)
    a, _ = connected(guest, st)
    a.post_send(op, raddr(dst, key), sge(src, 8, key))
    failed = a.scq.poll()[0]
    assert (failed['opcode'], failed['syndrome'],
            failed['vendor_error_syndrome']) == (13, Syndrome.LOCAL_QP_OP, 0x61)


def test_datagram_longer_than_the_mtu(guest: Guest) -> None:
    """Local length error."""
    src, _, key = buffers(guest)
    a = GuestQp(guest, UD)
    a.connect(0)
    a.post_send(Op.SEND, av(a.number), sge(src, 4097, key))
    assert only(a.scq.poll())['syndrome'] == Syndrome.LOCAL_LENGTH


# ---- shared receive queues, XRC, DC

def test_xrc(guest: Guest) -> None:
    """The SRQ that the request names takes the message and completes to its own CQ; a foreign
    domain refuses."""
    src, dst, key = buffers(guest)
    xrcd = guest.cmd('ALLOC_XRCD')['xrcd']
    srq = GuestXrcSrq(guest, xrcd)
    target = GuestQp(guest, XRC, no_sq=1, xrcd=xrcd, srqn=srq.number)
    a = GuestQp(guest, XRC)
    target.connect(a.number)
    a.connect(target.number)
    srq.post((dst, 64, key))
    segment = srq.number.to_bytes(4, 'big') + bytes(12)
    a.post_send(Op.SEND, segment, sge(src, 64, key))
    assert only(a.scq.poll())['opcode'] == 0
    got = only(srq.cq.poll())
    assert (got['opcode'], got['byte_cnt'], got['srqn_uidx'], got['qpn']) == (2, 64, 0x77,
                                                                              target.number)
    assert guest.read(dst, 64) == PATTERN[:64]
    other = GuestXrcSrq(guest, guest.cmd('ALLOC_XRCD')['xrcd'])
    a.post_send(Op.SEND, other.number.to_bytes(4, 'big') + bytes(12), sge(src, 64, key))
    assert only(a.scq.poll())['syndrome'] == Syndrome.REMOTE_INVALID


@pytest.mark.parametrize('link_layer', ['ib', 'eth'])
@pytest.mark.parametrize('kind', ['RC', 'UC', 'XRC', 'DC'])
def test_receiver_learns_who_sent(link_layer: str, kind: str) -> None:
    """On InfiniBand the CQE of a receive tells LID, service level and QP number of the sender, of
    every transport; on Ethernet there is no LID."""
    guest = Guest(link_layer=link_layer)
    lid, gid = guest.card.vport.lid, guest.card.vport.gid(0)
    if link_layer == 'eth':
        gid = bytes(10) + b'\xff\xff\x0a\x00\x00\x01'
        guest.cmd('SET_ROCE_ADDRESS', **{
            'roce_address.source_l3_address': int.from_bytes(gid, 'big'),
            'roce_address.roce_version': 2})
    src, dst, key = buffers(guest)
    path = {'primary_address_path.rlid': lid, 'primary_address_path.sl': 5,
            'primary_address_path.grh': int(link_layer == 'eth'),
            'primary_address_path.rgid_rip': gid}
    segment, imm = b'', 7
    if kind == 'DC':
        srq, cq = GuestRmp(guest), GuestCq(guest)
        dctn = guest.cmd('CREATE_DCT', **{
            f'dct_context_entry.{k}': v for k, v in {
                'pd': guest.pd, 'srqn_xrqn': srq.number, 'cqn': cq.number, 'rwe': 1,
                'mtu': 5}.items()})['dctn']
        a = GuestQp(guest, DCI)
        a.connect(0)
        vector = bytearray(av(dctn, 0, lid, gid, link_layer == 'eth'))
        vector[12] = 5
        segment = bytes(vector)
        srq.post((dst, 64, key))
        srq.post((dst, 64, key))
    else:
        more: dict = {}
        if kind == 'XRC':
            xrcd = guest.cmd('ALLOC_XRCD')['xrcd']
            shared = GuestXrcSrq(guest, xrcd)
            more, segment = {'no_sq': 1, 'xrcd': xrcd, 'srqn': shared.number}, (
                shared.number.to_bytes(4, 'big') + bytes(12))
        st = {'RC': RC, 'UC': UC, 'XRC': XRC}[kind]
        a, b = GuestQp(guest, st), GuestQp(guest, st, rcq=GuestCq(guest), **more)
        for q, peer in ((a, b), (b, a)):
            q.to_init()
            q.to_rtr(peer.number, **path)
            q.to_rts()
        cq = b.rcq
        for _ in range(2):
            if kind == 'XRC':
                cq = shared.cq
                shared.post((dst, 64, key))
            else:
                b.post_recv((dst, 64, key))
    a.post_send(Op.SEND_IMM, segment, sge(src, 64, key), imm=imm)
    remote = guest.mkey(dst, 64, va=0)
    a.post_send(Op.WRITE_IMM, segment, raddr(0, remote), sge(src, 8, key), imm=imm)
    want = (lid, 5, a.number, 0) if link_layer == 'ib' else (0, 0, a.number, 0)
    assert [(c['slid'], c['sl'], c['rqpn'], c['g']) for c in cq.poll()] == [want] * 2


@pytest.mark.parametrize('good', [True, False])
def test_dynamically_connected(guest: Guest, good: bool) -> None:
    """A DCI reaches a DCT with its key; a wrong key is counted and not answered."""
    src, dst, key = buffers(guest)
    srq, cq = GuestRmp(guest), GuestCq(guest)
    dctn = guest.cmd(
        'CREATE_DCT', **{
            f'dct_context_entry.{k}': v for k, v in {
                'pd': guest.pd, 'srqn_xrqn': srq.number, 'cqn': cq.number, 'rwe': 1, 'rre': 1,
                'dc_access_key': 0x1122334455667788, 'mtu': 5, 'user_index': 0x99, 'min_rnr_nak': 1
            }.items()})['dctn']
    a = GuestQp(guest, DCI)
    a.connect(0)
    srq.post((dst, 64, key))
    vector = bytearray(av(dctn))
    vector[:8] = (0x1122334455667788 ^ (0 if good else 1)).to_bytes(8, 'big')
    a.post_send(Op.SEND, bytes(vector), sge(src, 64, key))
    guest.run(100)
    failed = only(a.scq.poll())
    if good:
        assert failed['opcode'] == 0
        assert only(cq.poll())['srqn_uidx'] == 0x99
        assert guest.read(dst, 64) == PATTERN[:64]
    else:
        assert failed['syndrome'] == Syndrome.RETRY_EXCEEDED
        assert guest.cmd('QUERY_DCT',
                         dctn=dctn)['dct_context_entry.dc_access_key_violation_count'] == 3
    assert guest.fails('DESTROY_DCT', dctn=dctn) == 'BAD_RES_STATE'
    guest.cmd('DRAIN_DCT', dctn=dctn)
    assert (prm.EVENTS['DCT_DRAINED'], dctn) in guest.events()
    guest.cmd('DESTROY_DCT', dctn=dctn)
