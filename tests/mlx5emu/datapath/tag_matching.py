# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Tag matching at work: operations on the list, messages against it, and the rendezvous that the
card carries out itself.

An expected message goes to its tag's buffer without its header and needs no receive WQE; every
other goes to the receive WQEs whole. Data of tags are not scattered to CQEs, and tags' buffers do
not page: the card offers neither.
"""
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..dma import DmaError
from ..memory.mkey import AccessError, Run
from ..memory.transfer import InlineData, ReadFault, WriteFault, copy, read_all
from ..prm.wqe import CQE, DATA, INLINE, CqeOp, Op, Syndrome
from ..queues.page_fault import MAX_PER_WQE, RemoteFault
from ..queues.qp import OFFLOAD_RNDV
from ..queues.queue import ERR, INIT, RC, RST, RTR
from ..queues.tag_list import APPEND, EAGER, FIN, NOP, REMOVE, RENDEZVOUS, Tag, TagList
from .requester import WqeError
from .responder import Nak, NoAnswer, NotReady
from .retries import FOREVER_WAIT_NS, MIN_WAIT_NS, RNR_FOREVER, RNR_TIMER_US

if TYPE_CHECKING:
    from ..queues.qp import Qp
    from ..queues.srq import Srq
    from .port import Port
    from .requester import Requester

#: app of a CQE, and app_op.
APP = 1
CONSUMED, EXPECTED, UNEXPECTED, TAGLESS, APPENDED, REMOVED, NOTHING = range(1, 8)
CONSUMED_MSG, CONSUMED_MSG_SW_RNDV, CANCELED = 0xa, 0xb, 0xc
_APP_OP = {APPEND: APPENDED, REMOVE: REMOVED, NOP: NOTHING}
#: Flags of the segment: software's count is in it; a CQE is wanted.
SW_COUNT, CQE_WANTED = 0x40, 0x80
#: Segment: opcode in the high half, flags, index, software's count, tag, mask.
SEGMENT = struct.Struct('>BBH2xH8xQQ')
#: Headers of a message: operation, application's word, tag; address, key, length of what is to be
#: fetched.
TMH, RVH = struct.Struct('>B3xIQ'), struct.Struct('>QII')
_HEADERS = TMH.size + RVH.size
#: success and hw_phase_cnt of an operation's CQE.
_OUTCOME = struct.Struct('>IH10x')
_SUCCESS = 1 << 31
_MAX_IDLE_NS = 1_000_000_000


class Verdict(NamedTuple):
    """What becomes of a message: app_op of its CQE, the tag that it matched, its headers."""
    app_op: int
    tag: Tag | None = None
    head: bytes = b''


class TagMatching:
    """Tag matching of one function's XRQs."""

    def __init__(self, port: 'Port', requester: 'Requester') -> None:
        self.port, self.card, self.work = port, port.card, port.work
        self.requester = requester
        handlers = requester.handlers
        handlers[RC] = {**handlers[RC], Op.TAG_MATCHING: self.operate}

    # ---- operations

    def operate(self, qp: 'Qp', wqe: bytes, op: int, flags: int, imm: int) -> int:
        """A WQE of a QP that receives from an XRQ: append or remove a tag, or tell software's count
        only.

        :raises WqeError: there is no such operation, or the list cannot take the tag.
        """
        xrq = qp.srq
        tags: TagList | None = xrq.tag_list if xrq is not None else None
        if xrq is None or tags is None:
            raise WqeError(Syndrome.LOCAL_QP_OP, 'no tag list')
        code, options, index, count, tag, mask = SEGMENT.unpack_from(wqe, 16)
        kind, success = code >> 4, True
        if kind not in _APP_OP:
            raise WqeError(Syndrome.LOCAL_QP_OP, 'tag matching operation')
        if options & SW_COUNT:
            tags.synchronize(count)
        if kind == APPEND:
            segment = DATA.unpack_from(wqe, 16 + SEGMENT.size)
            if segment[0] & INLINE or not tags.append(index, tag, mask, segment):
                raise WqeError(Syndrome.LOCAL_QP_OP, 'entry of the tag list')
        elif kind == REMOVE:
            success = tags.remove(index)
        if options & CQE_WANTED:
            outcome = _OUTCOME.pack(_SUCCESS if success else 0, tags.hw_phase)
            self._complete(xrq, qp, _APP_OP[kind], CqeOp.NO_PACKET, index, 0, outcome)
        return 0

    def _complete(self, xrq: 'Srq', qp: 'Qp', app_op: int, opcode: int, index: int, n: int,
                  head: bytes = bytes(16), imm: int = 0, solicited: bool = False) -> None:
        assert xrq.cq is not None
        body = CQE.pack(0, qp.peer_lid, qp.peer_flags, xrq.user_index, imm, APP, app_op, index, n,
                        self.work.timestamp(), qp.number, 0)
        xrq.cq.push(head[:16] + body[16:], opcode << 4 | (2 if solicited else 0), solicited)

    # ---- messages

    def judge(self, tags: TagList, source: list[Run], n: int) -> Verdict:
        """Look at the headers of a message; nothing changes yet.

        :raises ReadFault: the sender's memory cannot be read.
        """
        head = read_all(_part(source, 0, min(n, _HEADERS)))
        operation = head[0] if head else 0
        if not (operation == EAGER and n >= TMH.size or operation == RENDEZVOUS and n >= _HEADERS):
            return Verdict(TAGLESS)
        tag = tags.find(TMH.unpack_from(head)[2])
        return Verdict(UNEXPECTED) if tag is None else Verdict(CONSUMED_MSG, tag, head)

    def expected(self, qp: 'Qp', xrq: 'Srq', verdict: Verdict, source: list[Run], n: int, op: int,
                 imm: int, solicited: bool) -> None:
        """Take a message that matched a tag: its data to the tag's buffer, or begin to fetch them.

        :raises Nak: the buffer is too short or may not be written; the QP is in error then, and the
            tag stays.
        :raises ReadFault: the sender's memory cannot be read; the tag stays.
        """
        tag, head, tags = verdict.tag, verdict.head, xrq.tag_list
        assert tag is not None and tags is not None
        rendezvous = head[0] == RENDEZVOUS
        length = RVH.unpack_from(head, TMH.size)[2] if rendezvous else 0
        fetch = rendezvous and qp.offload_type == OFFLOAD_RNDV and length <= tag.count
        skip = 0 if rendezvous else TMH.size
        size = length if fetch else n - skip
        if size > tag.count:
            self._refuse(qp, xrq, Syndrome.LOCAL_LENGTH, Syndrome.REMOTE_INVALID,
                         'message is longer than the buffer of its tag')
        try:
            sink = self.port.responder.local(qp, tag.key, tag.addr, size,
                                                 xrq.pd) if size else []
            if not fetch:
                copy(_part(source, skip, size), sink, size)
        except (AccessError, WriteFault) as e:
            self._refuse(qp, xrq, Syndrome.LOCAL_PROT, Syndrome.REMOTE_OP, str(e))
        tags.take(tag)
        opcode = CqeOp.RESP_SEND_IMM if op == Op.SEND_IMM else CqeOp.RESP_SEND
        if fetch:
            tags.busy.add(tag.index)
            self._complete(xrq, qp, CONSUMED, CqeOp.NO_PACKET, tag.index, 0, head)
            _Rendezvous(self, qp, xrq, tag, head, sink).later(0)
        elif rendezvous:
            self._complete(xrq, qp, CONSUMED_MSG_SW_RNDV, opcode, tag.index, size, head, imm,
                           solicited)
        elif n > qp.mtu:
            # The match is told of with the first packet, the data with the last.
            self._complete(xrq, qp, CONSUMED, CqeOp.NO_PACKET, tag.index, 0, head)
            self._complete(xrq, qp, EXPECTED, opcode, tag.index, size, imm=imm, solicited=solicited)
        else:
            self._complete(xrq, qp, CONSUMED_MSG, opcode, tag.index, size, head, imm, solicited)

    def unmatched(self, xrq: 'Srq | None', verdict: Verdict) -> None:
        """A message went to a receive WQE: count it when software has to find its tag."""
        if verdict.app_op == UNEXPECTED and xrq is not None and xrq.tag_list is not None:
            xrq.tag_list.unexpected()

    def _refuse(self, qp: 'Qp', xrq: 'Srq', local: int, remote: int, why: str) -> None:
        """Stop the QP; the CQE that says so takes the next receive WQE along, as error CQEs name
        one."""
        try:
            waiting = xrq.ring.peek()
        except DmaError:
            waiting = None
        if waiting is not None:
            self.port.responder._refuse(qp, xrq.ring, xrq, xrq.cq, waiting[0], local, remote,
                                            why)
        qp.fail()
        raise Nak(remote, why)


class _Rendezvous:
    """The data of an expected message on their way: an RDMA read, then the message that tells the
    sender so.

    :param head: the headers that the sender sent.
    :param sink: the tag's buffer.
    """

    #: What waits for a page fault has one; this never becomes another's.
    epoch = 0

    def __init__(self, matching: TagMatching, qp: 'Qp', xrq: 'Srq', tag: Tag, head: bytes,
                 sink: list[Run]) -> None:
        self.matching, self.qp, self.xrq = matching, qp, xrq
        self.tag, self.head, self.sink = tag, head, sink
        self.card, self.work, self.requester = matching.card, matching.work, matching.requester
        self.fetched, self.idle_ns = False, MIN_WAIT_NS
        self.fault: RemoteFault | None = None
        self._fresh()

    def _fresh(self) -> None:
        self.silences = self.waits = self.faults = self.refusals = 0

    def later(self, delay_ns: int) -> None:
        """Go on after a while: not before the sender's request has completed."""
        self.card.call_later(delay_ns, lambda: self.work.guarded(self._go, self.qp))

    def _go(self, qp: 'Qp') -> None:
        if not self._alive() or qp.state in (RST, INIT, ERR):
            self._cancel('the QP is gone')
            return
        if qp.state == RTR:
            # It may not send yet: look now and then, less and less often.
            self.idle_ns = min(2 * self.idle_ns, _MAX_IDLE_NS)
            self.later(self.idle_ns)
            return
        try:
            if not self.fetched:
                self._fetch(qp)
            self._finish(qp)
        except NoAnswer:
            self._no_answer(qp)
        except NotReady as e:
            self._not_ready(qp, e)
        except RemoteFault as e:
            self._absent(e)
        except (Nak, AccessError, ReadFault, WriteFault) as e:
            self._cancel(str(e))

    def _alive(self) -> bool:
        return self.card.qps.find(self.qp.number) is self.qp

    def _fetch(self, qp: 'Qp') -> None:
        requester = self.requester
        peer, target, _, _ = requester._peer(qp, b'')
        addr, key, length = RVH.unpack_from(self.head, TMH.size)
        target.responder.read(peer, key, addr, self.sink, length)
        requester._sent(qp, peer, length)
        self.fetched = True
        self._fresh()
        self._release(EXPECTED, length)

    def _finish(self, qp: 'Qp') -> None:
        requester = self.requester
        peer, target, _, _ = requester._peer(qp, b'')
        answer = bytes([FIN]) + self.head[1:]
        target.responder.receive(peer, Op.SEND, [(InlineData(answer), 0, len(answer))], len(answer),
                                 0, False)
        requester._sent(qp, peer, len(answer))

    def _release(self, app_op: int, n: int) -> None:
        """The tag's entry is software's again."""
        tags = self.xrq.tag_list
        if tags is not None and self.card.xrqs.find(self.xrq.number) is self.xrq:
            tags.busy.discard(self.tag.index)
            self.matching._complete(self.xrq, self.qp, app_op, CqeOp.RESP_SEND, self.tag.index, n)

    def _cancel(self, why: str) -> None:
        self.work.note(self.qp, 0, Op.TAG_MATCHING, 0, f'rendezvous: {why}')
        if self._alive() and self.qp.state not in (RST, INIT):
            self.qp.fail()
        if not self.fetched:
            self._release(CANCELED, 0)

    def _no_answer(self, qp: 'Qp') -> None:
        if qp.ack_timeout and self.silences >= qp.retry_count:
            self._cancel('no answer')
            return
        self.silences += 1
        self.later(max(4096 << qp.ack_timeout, MIN_WAIT_NS) if qp.ack_timeout else FOREVER_WAIT_NS)

    def _not_ready(self, qp: 'Qp', e: NotReady) -> None:
        if qp.rnr_retry != RNR_FOREVER and self.waits >= qp.rnr_retry:
            self._cancel('receiver not ready')
            return
        self.waits += 1
        self.later(min(max(RNR_TIMER_US[e.timer] * 1000, MIN_WAIT_NS), FOREVER_WAIT_NS))

    def _absent(self, e: RemoteFault) -> None:
        """The sender's memory has to be brought in."""
        self.fault, self.faults = e, self.faults + 1
        if self.faults > MAX_PER_WQE or not e.port.page_faults.served():
            self._deny()
        elif not e.port.page_faults.report(e.fault, e.place, self, self.resumed):
            self.faults -= 1
            self.later(FOREVER_WAIT_NS)

    def _deny(self) -> None:
        try:
            if self.fault is not None:
                self.fault.deny()
        except Nak as e:
            self._cancel(str(e))

    def resumed(self, error: bool, key: int, looks: int) -> None:
        """The driver resumed the page fault; see :meth:`Retries.resumed`."""
        self.refusals = self.refusals + 1 if error else 0
        if error and self.refusals >= looks:
            self._deny()
        else:
            self.later(FOREVER_WAIT_NS if error else 0)


def _part(runs: list[Run], skip: int, n: int) -> list[Run]:
    """``n`` bytes of runs from byte ``skip`` on, or what there is of them."""
    out: list[Run] = []
    for memory, addr, size in runs:
        if n <= 0:
            break
        if skip >= size:
            skip -= size
            continue
        k = min(size - skip, n)
        out.append((memory, addr + skip, k))
        skip, n = 0, n - k
    return out
