# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Tag matching: XRQs, operations on their lists, expected and unexpected messages, the card's own
rendezvous, and what goes wrong."""
import random
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import UD, Guest, GuestCq, GuestQp, GuestSrq, sge
from mlx5emu import prm
from mlx5emu.datapath.tag_matching import (
    CANCELED,
    CONSUMED,
    CONSUMED_MSG,
    CONSUMED_MSG_SW_RNDV,
    EXPECTED,
    RVH,
    SEGMENT,
    TAGLESS,
    TMH,
    UNEXPECTED,
)
from mlx5emu.prm.wqe import DATA, TERMINATOR, Op, Syndrome
from mlx5emu.queues.queue import ERR, RTS

NO_TAG, RENDEZVOUS, FIN, EAGER = range(4)
NOP, APPEND, REMOVE = range(3)
COUNT, CQE = 0x40, 0x80
NO_PACKET, SEND = 6, 2
PAYLOAD = bytes(range(200))


class Xrq(GuestSrq):
    """An XRQ of eight tags with its command QP, and a QP that sends to it from a CQ of its own."""

    def __init__(self, g: Guest, offload: int = 1, **context: int) -> None:
        super().__init__(g, 4, 6)
        self.cq = GuestCq(g)
        self.number = g.cmd(
            'CREATE_XRQ', self.pages, **{
                f'xrq_context.{k}': v for k, v in {
                    'topology': 1, 'offload': offload, 'user_index': 0x77, 'cqn': self.cq.number,
                    'wq.log_wq_sz': 4, 'wq.log_wq_stride': 6, 'wq.pd': g.pd, 'wq.dbr_addr':
                    self.dbr, 'tag_matching_topology_context.log_matching_list_sz': 3, **context
                }.items()})['xrqn']
        self.ops = GuestQp(g, srqn=self.number)
        self.ops.connect(self.ops.number)
        # Its send side, where it has one, is not the card's for the rendezvous.
        self.server = GuestQp(g, srqn=self.number, no_sq=offload, offload_type=offload)
        self.client = GuestQp(g, rcq=GuestCq(g))
        self.server.connect(self.client.number)
        self.client.connect(self.server.number)
        self.memory = g.alloc(16384)
        self.key = g.mkey(self.memory, 16384)
        self.sink, self.source, self.spare = self.memory, self.memory + 4096, self.memory + 8192

    def operate(self, kind: int, index: int = 0, tag: int = 0, mask: int = (1 << 64) - 1,
                count: int | None = None, options: int = CQE, room: int = 4096,
                key: int | None = None, opcode: int | None = None) -> list[prm.View]:
        """Post one operation; the CQEs of the XRQ."""
        options |= COUNT if count is not None else 0
        body = SEGMENT.pack(kind << 4 if opcode is None else opcode, options, index, count or 0,
                            tag, mask)
        if kind == APPEND:
            body += DATA.pack(room, self.key if key is None else key, self.sink)
        self.ops.post_send(Op.TAG_MATCHING, body, flags=0)
        return self.cq.poll()

    def append(self, following: int, tag: int, **how: int) -> prm.View:
        """Post a tag; its CQE."""
        done, = self.operate(APPEND, following, tag, **how)
        assert (done['opcode'], done['app'], done['app_op'], done['srqn_uidx']) == (NO_PACKET, 1, 5,
                                                                                    0x77)
        return done

    def send(self, operation: int, tag: int, body: bytes = PAYLOAD, op: int = Op.SEND,
             n: int | None = None, **how: int) -> list[prm.View]:
        """Send a message with a header; the CQEs of the XRQ."""
        message = TMH.pack(operation, 0xabcd, tag) + body
        self.g.write(self.source, message)
        n = len(message) if n is None else n
        self.client.post_send(op, *([sge(self.source, n, self.key)] if n else []), **how)
        return self.cq.poll()

    def request(self, length: int, tag: int = 5, key: int | None = None) -> list[prm.View]:
        """Send a rendezvous request; the CQEs of the XRQ."""
        return self.send(RENDEZVOUS, tag,
                         RVH.pack(self.spare, self.key if key is None else key, length))

    def tags(self) -> tuple[int, int, int]:
        """Next entry, software's count, the card's count."""
        c = self.g.cmd('QUERY_XRQ',
                       xrqn=self.number).sub('xrq_context').sub('tag_matching_topology_context')
        return c['append_next_index'], c['sw_phase_cnt'], c['hw_phase_cnt']


def head(cqe: prm.View) -> tuple[int, ...]:
    """The header that the CQE shows."""
    return TMH.unpack(bytes(cqe.buf[:16]))


def outcome(cqe: prm.View) -> tuple[int, int]:
    """Success and the card's count of an operation's CQE."""
    success, count = struct.unpack('>IH', bytes(cqe.buf[:6]))
    return success >> 31, count


def test_expected_message(guest: Guest) -> None:
    """Its data go to the tag's buffer without the header, which the CQE shows; no receive WQE is
    taken."""
    x = Xrq(guest)
    x.append(1, 5)
    x.append(2, 6)
    got, = x.send(EAGER, 6, flags=0xa)
    assert (got['opcode'], got['app'], got['app_op'], got['app_info'], got['byte_cnt'],
            got['srqn_uidx'], got['se']) == (SEND, 1, CONSUMED_MSG, 1, len(PAYLOAD), 0x77, 1)
    assert head(got) == (EAGER, 0xabcd, 6)
    assert guest.read(x.sink, 201) == PAYLOAD + b'\0'
    assert guest.card.xrqs.find(x.number).ring.consumer == 0 and x.tags() == (2, 0, 0)
    assert [c['opcode'] for c in x.client.scq.poll()] == [0] and x.server.rcq.poll() == []
    got, = x.send(EAGER, 5, op=Op.SEND_IMM, imm=0x99)
    assert (got['opcode'], got['imm_inval_pkey'], got['app_info']) == (3, 0x99, 0)


def test_first_of_the_matching_tags(guest: Guest) -> None:
    """In the order of posting, under each one's mask; a message of several packets is told of
    twice."""
    x = Xrq(guest)
    for following, tag, mask in ((3, 0x0100, 0xff00), (1, 0x0105, 0xffff), (4, 0x0102, 0xffff)):
        x.append(following, tag, mask=mask)
    first, second = x.send(EAGER, 0x0105, bytes(4090))
    assert (first['opcode'], first['app_op'], first['app_info']) == (NO_PACKET, CONSUMED,
                                                                     0) and head(first)[2] == 0x0105
    assert (second['opcode'], second['app_op'], second['byte_cnt'],
            head(second)) == (SEND, EXPECTED, 4090, (0, 0, 0))
    got, = x.send(EAGER, 0x0102)
    assert got['app_info'] == 1
    x.append(0, 0x0103)
    assert x.send(EAGER, 0x0105)[0]['app_info'] == 3


def test_empty_message(guest: Guest) -> None:
    """A tag may have no buffer, and a message no data."""
    x = Xrq(guest)
    x.append(1, 5, room=0, key=TERMINATOR)
    got, = x.send(EAGER, 5, b'')
    assert (got['app_op'], got['byte_cnt']) == (CONSUMED_MSG, 0)


@pytest.mark.parametrize(('operation', 'n', 'app_op'), [(EAGER, None, UNEXPECTED),
                                                        (NO_TAG, None, TAGLESS),
                                                        (FIN, None, TAGLESS), (9, None, TAGLESS),
                                                        (EAGER, 15, TAGLESS),
                                                        (RENDEZVOUS, 31, TAGLESS),
                                                        (RENDEZVOUS, 32, UNEXPECTED),
                                                        (EAGER, 0, TAGLESS)])
def test_other_messages(guest: Guest, operation: int, n: int | None, app_op: int) -> None:
    """They go to a receive WQE whole; only those whose tag is not there are counted, once they are
    taken."""
    x = Xrq(guest)
    x.append(1, 6)
    assert x.send(operation, 5, n=n) == [] and x.tags()[2] == 0
    x.post((x.spare, 300, x.key))
    guest.run(50)
    got, = x.cq.poll()
    size = len(PAYLOAD) + 16 if n is None else n
    assert (got['opcode'], got['app'], got['app_op'], got['byte_cnt'],
            got['wqe_counter']) == (SEND, 1, app_op, size, 0)
    assert bytes(got.buf[:16]) == bytes(16)
    assert guest.read(x.spare, size) == (TMH.pack(operation, 0xabcd, 5) + PAYLOAD)[:size]
    assert x.tags() == (1, 0, int(app_op == UNEXPECTED))


def test_counts_that_differ_hold_new_tags_back(guest: Guest) -> None:
    """A tag posted while the card knows of more messages than software matches nothing until the
    counts agree; older ones do."""
    x = Xrq(guest)
    for _ in range(3):
        x.post((x.spare, 300, x.key))
    x.append(1, 1, count=0)
    assert x.send(EAGER, 2)[0]['app_op'] == UNEXPECTED
    assert outcome(x.append(2, 2)) == (1, 1)
    assert x.send(EAGER, 2)[0]['app_op'] == UNEXPECTED
    assert x.send(EAGER, 1)[0]['app_op'] == CONSUMED_MSG
    done, = x.operate(NOP, count=1)
    assert (done['app_op'], outcome(done)) == (7, (1, 2))
    assert x.send(EAGER, 2)[0]['app_op'] == UNEXPECTED
    assert x.tags() == (2, 1, 3)
    x.append(3, 3, count=3)
    assert x.send(EAGER, 2)[0]['app_info'] == 1
    assert x.send(EAGER, 3)[0]['app_info'] == 2


def test_remove(guest: Guest) -> None:
    """A tag that is there goes; one that a message took, or that never was, tells so. Without the
    flag there is no CQE."""
    x = Xrq(guest)
    x.append(1, 5)
    x.append(2, 6)
    done, = x.operate(REMOVE, 0)
    assert (done['app_op'], outcome(done)) == (6, (1, 0))
    assert [outcome(x.operate(REMOVE, k)[0])[0] for k in (0, 1, 1, 0xffff)] == [0, 1, 0, 0]
    assert x.operate(APPEND, 0, 5, options=0) == []
    x.append(3, 7)
    assert x.send(EAGER, 5)[0]['app_info'] == 2
    assert x.ops.model.state == RTS and x.ops.scq.poll() == []


def test_rendezvous(guest: Guest) -> None:
    """The card fetches the data itself, and tells the sender so: after the sender's request
    completed."""
    x = Xrq(guest)
    data = bytes(range(250)) * 12
    guest.write(x.spare, data)
    x.client.post_recv((x.spare + 4000, 64, x.key))
    x.append(1, 5)
    first, = x.request(3000)
    assert (first['opcode'], first['app_op'], first['app_info'],
            head(first)) == (NO_PACKET, CONSUMED, 0, (RENDEZVOUS, 0xabcd, 5))
    assert [c['opcode'] for c in x.client.scq.poll()] == [0] and x.client.rcq.poll() == []
    guest.run(50)
    second, = x.cq.poll()
    assert (second['opcode'], second['app_op'], second['app_info'],
            second['byte_cnt']) == (SEND, EXPECTED, 0, 3000)
    assert guest.read(x.sink, 3001) == data[:3000] + b'\0'
    fin, = x.client.rcq.poll()
    assert (fin['app'], fin['byte_cnt']) == (0, 32)
    assert guest.read(x.spare + 4000,
                      32) == TMH.pack(FIN, 0xabcd, 5) + RVH.pack(x.spare, x.key, 3000)
    assert guest.cmd(
        'QUERY_QP',
        qpn=x.server.number)['qpc.next_send_psn'] == 2, 'a read of one packet, and the answer'
    x.append(2, 8)
    assert x.send(EAGER, 8)[0]['app_op'] == CONSUMED_MSG, 'sequence numbers went on at both sides'
    assert [c['opcode'] for c in x.client.scq.poll()] == [0]


@pytest.mark.parametrize(('offload', 'length'), [(1, 65), (0, 10)])
def test_rendezvous_of_software(guest: Guest, offload: int, length: int) -> None:
    """More than the tag has room for, or no offload: the request goes to the tag's buffer, and
    software fetches."""
    x = Xrq(guest, offload)
    x.append(1, 5, room=64)
    got, = x.request(length)
    assert (got['opcode'], got['app_op'], got['byte_cnt']) == (SEND, CONSUMED_MSG_SW_RNDV, 32)
    assert guest.read(
        x.sink, 33) == TMH.pack(RENDEZVOUS, 0xabcd, 5) + RVH.pack(x.spare, x.key, length) + b'\0'
    guest.run(20)
    assert x.cq.poll() == []


def test_answer_waits_for_a_receive_wqe(guest: Guest) -> None:
    """The sender has none for a while: the data are there already."""
    x = Xrq(guest)
    x.append(1, 5)
    assert x.request(100)[0]['app_op'] == CONSUMED
    guest.card.run_timers()
    assert x.cq.poll()[0]['app_op'] == EXPECTED
    x.client.post_recv((x.spare + 4000, 64, x.key))
    guest.run(50)
    assert x.client.rcq.poll()[0]['byte_cnt'] == 32 and x.server.model.state == RTS


@pytest.mark.parametrize('why', ['key', 'right', 'gone', 'error', 'silent', 'no receive WQE'])
def test_rendezvous_that_fails(guest: Guest, why: str) -> None:
    """The tag completes as canceled, once, and its entry is free again; the server's QP is in
    error."""
    x = Xrq(guest)
    x.append(1, 5)
    key = 0x666 if why == 'key' else guest.mkey(x.memory, 16384, lr=1,
                                                lw=1) if why == 'right' else None
    assert x.request(100, key=key)[0]['app_op'] == CONSUMED
    if why == 'gone':
        guest.cmd('DESTROY_QP', qpn=x.server.number)
    elif why == 'error':
        guest.cmd('2ERR_QP', qpn=x.server.number)
    elif why == 'silent':
        guest.cmd('2RST_QP', qpn=x.client.number)
    guest.run(300)
    fetched = why == 'no receive WQE'
    assert [(c['app_op'], c['app_info']) for c in x.cq.poll()] == [
        (EXPECTED if fetched else CANCELED, 0)]
    assert why == 'gone' or x.server.model.state == ERR
    x.append(0, 5)
    x.append(1, 6)
    guest.run(50)
    assert x.cq.poll() == []


def test_xrq_goes_while_data_are_on_their_way(guest: Guest) -> None:
    """Nobody is told any more, and nothing breaks."""
    x = Xrq(guest)
    x.append(1, 5)
    x.request(100)
    for qp in (x.server, x.ops):
        guest.cmd('DESTROY_QP', qpn=qp.number)
    guest.cmd('DESTROY_XRQ', xrqn=x.number)
    guest.run(50)
    assert x.cq.poll() == []


def test_an_entry_on_its_way_is_in_use(guest: Guest) -> None:
    """It cannot be posted again before its data are there."""
    x = Xrq(guest)
    x.append(1, 5)
    x.append(0, 6)
    x.request(100)
    assert x.operate(APPEND, 2, 7) == []
    assert x.ops.model.state == ERR and x.ops.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_QP_OP


@pytest.mark.parametrize(('how', 'posted'), [('long', True), ('long', False), ('key', True),
                                             ('other pd', True), ('read only', True)])
def test_buffer_that_does_not_take_the_message(guest: Guest, how: str, posted: bool) -> None:
    """Both QPs are in error; the CQE takes a receive WQE along, when there is one."""
    x = Xrq(guest)
    key = {'key': 0x666, 'other pd': guest.mkey(x.memory, 4096, pd=guest.cmd('ALLOC_PD')['pd']),
           'read only': guest.mkey(x.memory, 4096, lr=1)}.get(how)
    x.append(1, 5, room=199 if how == 'long' else 4096, key=key)
    if posted:
        x.post((x.spare, 300, x.key))
    got = x.send(EAGER, 5)
    assert [(c['opcode'], c['syndrome'], c['wqe_counter'], c['srqn_uidx']) for c in got] == ([
        (14, Syndrome.LOCAL_LENGTH if how == 'long' else Syndrome.LOCAL_PROT, 0,
         0x77)] if posted else [])
    assert (x.server.model.state, x.client.model.state) == (ERR, ERR)
    assert x.client.scq.poll()[0]['syndrome'] == (Syndrome.REMOTE_INVALID
                                                  if how == 'long' else Syndrome.REMOTE_OP)
    assert guest.read(x.sink, 16) == bytes(16)


def test_senders_memory_that_is_not_there(guest: Guest) -> None:
    """It is the sender's error; the tag stays."""
    x = Xrq(guest)
    x.append(1, 5)
    hole = guest.mkey(0x7000_0000, 4096)
    x.client.post_send(Op.SEND, sge(0x7000_0000, 64, hole))
    assert x.client.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_PROT
    assert (x.cq.poll(), x.server.model.state, len(guest.card.xrqs.find(
        x.number).tag_list)) == ([], RTS, 1)


@pytest.mark.parametrize('what', ['opcode', 'following', 'itself', 'inline', 'short', 'full'])
def test_operations_that_cannot_be(guest: Guest, what: str) -> None:
    """The command QP goes to error; the list is as it was."""
    x = Xrq(guest)
    if what == 'full':
        for k in range(8):
            x.append((k + 1) % 8, k)
    if what == 'short':
        x.ops.post_send(Op.TAG_MATCHING, SEGMENT.pack(APPEND << 4, CQE, 1, 0, 5, 5))
    else:
        x.operate(
            *{
                'opcode': (NOP, 0), 'following': (APPEND, 8, 5), 'itself': (APPEND, 0, 5), 'inline':
                (APPEND, 1, 5), 'full': (APPEND, 1, 5)}[what],
            opcode=0x70 if what == 'opcode' else None,
            **({'room': 0x8000_0010} if what == 'inline' else {}))
    assert x.ops.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_QP_OP and x.ops.model.state == ERR
    assert len(guest.card.xrqs.find(
        x.number).tag_list) == (8 if what == 'full' else 0) and x.tags()[0] == 0


def test_operations_need_an_xrq(guest: Guest) -> None:
    """A QP that receives from elsewhere has no list."""
    qp = GuestQp(guest)
    qp.connect(qp.number)
    qp.post_send(Op.TAG_MATCHING, SEGMENT.pack(0, CQE, 0, 0, 0, 0))
    assert qp.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_QP_OP


def test_messages_of_other_kinds(guest: Guest) -> None:
    """A send with invalidate and a write with immediate are no tag's."""
    x = Xrq(guest)
    x.append(1, 5)
    x.post((x.spare, 300, x.key))
    x.client.post_send(Op.WRITE_IMM, struct.pack('>QI4x', x.sink, x.key), sge(x.source, 8, x.key),
                       imm=7)
    got, = x.cq.poll()
    assert (got['opcode'], got['app'], got['imm_inval_pkey'], got['srqn_uidx']) == (1, 0, 7, 0x77)


def test_limit_and_use(guest: Guest) -> None:
    """Both arm commands; an XRQ in use stays; foreign users see none."""
    x = Xrq(guest)
    for _ in range(2):
        x.post((x.spare, 300, x.key))
    guest.cmd('ARM_RQ', op_mod=2, srq_number=x.number, lwm=2)
    assert guest.fails('ARM_RQ', op_mod=1, srq_number=x.number, lwm=2) == 'BAD_RES'
    assert guest.fails('ARM_RQ', op_mod=3, srq_number=x.number, lwm=2) == 'BAD_PARAM'
    x.send(NO_TAG, 0)
    assert (prm.EVENTS['SRQ_RQ_LIMIT'], x.number) in guest.events()
    assert guest.fails('ARM_XRQ', xrqn=x.number, lwm=17) == 'BAD_PARAM'
    guest.cmd('ARM_XRQ', xrqn=x.number, lwm=1)
    assert guest.cmd('QUERY_XRQ', xrqn=x.number)['xrq_context.wq.lwm'] == 1
    assert guest.fails('DESTROY_XRQ', xrqn=x.number) == 'BAD_RES_STATE'
    uid = guest.cmd('CREATE_UCTX')['uid']
    for name in ('QUERY_XRQ', 'DESTROY_XRQ'):
        assert guest.fails(name, uid=uid, xrqn=x.number) == 'BAD_RES'


@pytest.mark.parametrize('context',
                         [{'topology': 0}, {'topology': 2}, {'offload': 2}, {'state': 1}, {
                             'wq.wq_type': 1}, {'wq.log_wq_stride': 3}, {'wq.log_wq_sz': 16}, {
                                 'tag_matching_topology_context.log_matching_list_sz': 8}, {
                                     'tag_matching_topology_context.append_next_index': 8}])
def test_xrq_that_cannot_be(guest: Guest, context: dict[str, int]) -> None:
    """What the card does not have is refused."""
    with pytest.raises(CommandFailed, match='BAD_PARAM'):
        Xrq(guest, **context)
    assert len(guest.card.xrqs) == 0


def test_where_an_xrq_does_not_fit(guest: Guest) -> None:
    """Other transports and DC targets; on Ethernet ports there is no tag matching."""
    x = Xrq(guest)
    with pytest.raises(CommandFailed, match='BAD_PARAM'):
        GuestQp(guest, UD, srqn=x.number)
    for context in ({'offload_type': 1}, {'offload_type': 2, 'no_sq': 1}):
        with pytest.raises(CommandFailed, match='BAD_PARAM'):
            GuestQp(guest, srqn=x.number, **context)
    with pytest.raises(CommandFailed, match='BAD_PARAM'):
        GuestQp(guest, no_sq=1, offload_type=1)
    assert guest.fails(
        'CREATE_DCT', **{
            'dct_context_entry.pd': guest.pd, 'dct_context_entry.cqn': x.cq.number,
            'dct_context_entry.srqn_xrqn': x.number}) == 'BAD_PARAM'
    with pytest.raises(CommandFailed, match='BAD_PARAM'):
        Xrq(Guest(link_layer='eth'))


def test_random_operations_and_messages(guest: Guest) -> None:
    """Whatever is posted and sent, the list stays within its size and the card goes on."""
    rng = random.Random(5)
    x = Xrq(guest)
    for _ in range(8):
        x.client.post_recv((x.spare, 64, x.key))
    for _ in range(600):
        if rng.random() < .5:
            x.operate(rng.choice((NOP, APPEND, APPEND, REMOVE)), rng.randrange(9), rng.randrange(3),
                      count=rng.choice((None, 0, 1)), room=rng.choice(
                          (0, 16, 4096, 1 << 31)), options=rng.randrange(256), opcode=rng.choice(
                              (None, None, rng.randrange(256))))
        elif rng.random() < .3:
            x.request(rng.choice((0, 100, 1 << 31, 0xffffffff)), rng.randrange(3),
                      rng.choice((None, 0x666)))
        else:
            x.send(rng.randrange(5), rng.randrange(3), n=rng.randrange(217))
        x.post((x.spare, 300, x.key))
        guest.run(1)
        for qp, peer in ((x.ops, x.ops), (x.server, x.client), (x.client, x.server)):
            if qp.model.state == ERR:
                for q in (qp, peer):
                    guest.cmd('2RST_QP', qpn=q.number)
                    q.posted = q.received = 0
                    guest.write(q.dbr, bytes(8))
                for q in {qp, peer}:
                    q.connect((peer if q is qp else qp).number)
        tags = guest.card.xrqs.find(x.number).tag_list
        assert len(tags) + len(tags.busy) <= 8
    assert guest.card.xrqs.find(x.number).tag_list.hw_phase
