# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The receiving side: receive WQEs, access by remote key, and what is answered."""
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..dma import DmaError
from ..memory.byte_stream import check_message, is_stream
from ..memory.mkey import (
    ATOMIC,
    LOCAL_WRITE,
    REMOTE_READ,
    REMOTE_WRITE,
    RESERVED_LKEY,
    AccessError,
    PageFault,
    Run,
    resolve,
)
from ..memory.transfer import MEMORY_ERRORS, ReadFault, WriteFault, copy, read_all
from ..memory.umr import invalidate
from ..prm.wqe import CQE, DATA, TERMINATOR, ZERO_COUNT, CqeOp, Op, Syndrome
from ..queues.page_fault import RDMA_ACCESS, RDMA_WRITE, RECEIVE, SHARED_QUEUE, Place, RemoteFault
from ..queues.qp import Qp
from ..queues.queue import DCT, RC, RECEIVING, XRC
from ..queues.scatter_cqe import fits, place
from .work_trace import received

if TYPE_CHECKING:
    from ..queues.cq import Cq
    from ..queues.queue import Queue, Target
    from ..queues.rings import ReceiveRing
    from ..queues.srq import Srq
    from .port import Port

#: Transports whose requester waits while a page of the receiving side is brought in.
PAGING = (RC, XRC, DCT)

_CQE_OP = {
    Op.SEND: CqeOp.RESP_SEND, Op.SEND_IMM: CqeOp.RESP_SEND_IMM, Op.SEND_INVAL: CqeOp.RESP_SEND_INV,
    Op.WRITE_IMM: CqeOp.RESP_WRITE_IMM}


class Nak(Exception):
    """The request is refused: the requester completes with ``syndrome``."""

    def __init__(self, syndrome: int, why: str = '') -> None:
        super().__init__(why)
        self.syndrome = syndrome


class NoAnswer(Exception):
    """Nobody answers: the requester tries again until its retries are used up."""


class NotReady(Exception):
    """No receive WQE: the requester tries again after the receiver's timer (its code in the
    context)."""

    def __init__(self, timer: int) -> None:
        super().__init__()
        self.timer = timer


class _ReceiveFault(RemoteFault):
    """A receive buffer has an absent page.

    :param refuse: completes the receive WQE in error.
    """

    def __init__(self, port: 'Port', fault: PageFault, place: Place,
                 refuse: Callable[[], None]) -> None:
        super().__init__(port, fault, place)
        self._refuse = refuse

    def deny(self) -> None:
        """Both sides complete in error."""
        self._refuse()


class _AccessFault(RemoteFault):
    """The memory behind a remote key has an absent page."""

    def __init__(self, port: 'Port', fault: PageFault, place: Place, qp: 'Target') -> None:
        super().__init__(port, fault, place)
        self._qp = qp

    def deny(self) -> None:
        """An access error."""
        self._qp.fail('WQ_ACCESS_ERROR')
        raise Nak(Syndrome.REMOTE_ACCESS, str(self.fault))


class Sender:
    """Who a message is from, where the receiving queue is not connected: to a UD QP or a DCT.

    :param sl: service level; of a RoCE datagram the type of its network header.
    :param slid: 0 on Ethernet.
    :param g: whether a GRH is in the buffer.
    :param pkey: of a datagram, which its CQE tells where there is no immediate.
    """

    __slots__ = ('source_qpn', 'sl', 'slid', 'path_bits', 'g', 'pkey')

    def __init__(self, source_qpn: int, sl: int, slid: int, path_bits: int = 0, g: int = 0,
                 pkey: int = 0) -> None:
        self.source_qpn, self.sl, self.slid = source_qpn, sl, slid
        self.path_bits, self.g, self.pkey = path_bits, g, pkey


class Responder:
    """Serves requests for one function's QPs."""

    def __init__(self, port: 'Port') -> None:
        self.port, self.card, self.work = port, port.card, port.work

    # ---- sends

    def queue(self, qp: 'Target', srqn: int | None) -> 'tuple[ReceiveRing, Srq | None, Cq | None]':
        """Ring, SRQ and CQ that take a message for ``qp``.

        :raises Nak: the QP takes none, or the XRC SRQ is not there.
        """
        if srqn is not None:
            srq = self.card.xrc_srqs.find(srqn)
            if srq is None or srq.xrcd != qp.xrcd:
                raise Nak(Syndrome.REMOTE_INVALID, 'no such XRC SRQ')
            return srq.ring, srq, srq.cq
        if qp.srq is not None:
            # An XRQ's completions are its own CQ's.
            return qp.srq.ring, qp.srq, qp.srq.cq or qp.rcq
        if qp.rq is None:
            raise Nak(Syndrome.REMOTE_INVALID, 'no receive queue')
        return qp.rq, None, qp.rcq

    def receive(self, qp: 'Target', op: int, source: list[Run] | None, n: int, imm: int,
                solicited: bool,
                srqn: int | None = None, sender: Sender | None = None) -> None:
        """Take one message into the next receive WQE and complete it.

        :param op: the request's opcode.
        :param source: its data, with the GRH first for a datagram; None for a write with immediate,
            whose data went elsewhere.
        :param n: bytes of it.
        :param sender: who it is from, where ``qp`` is not connected.
        :raises NotReady: no receive WQE.
        :raises Nak: refused; the QP is in error then.
        :raises ReadFault: the requester's memory cannot be read; nothing was consumed.
        :raises RemoteFault: a page of the receive buffer has to be brought in; nothing was
            consumed.
        """
        ring, srq, cq = self.queue(qp, srqn)
        verdict = None
        if (srq is not None and srq.tag_list is not None and source is not None and
                op != Op.SEND_INVAL):
            matching = self.port.tag_matching
            verdict = matching.judge(srq.tag_list, source, n)
            if verdict.tag is not None:
                # Only QPs receive from a queue with tags.
                assert isinstance(qp, Qp)
                matching.expected(qp, srq, verdict, source, n, op, imm, solicited)
                return
        try:
            head = ring.peek()
        except DmaError as e:
            qp.fail('WQ_CATAS_ERROR')
            raise Nak(Syndrome.REMOTE_OP, str(e)) from e
        if head is None:
            raise NotReady(qp.min_rnr_nak)
        index, wqe = head
        inline = b''
        if source is not None and n:
            try:
                inline = self.scatter(qp, ring, cq, wqe, source, n)
            except WriteFault as e:
                self._refuse(qp, ring, srq, cq, index, Syndrome.LOCAL_PROT, Syndrome.REMOTE_OP,
                             str(e))
            except AccessError as e:
                self._absent(qp, ring, srq, cq, index, n, e)
            except OverflowError as e:
                self._refuse(qp, ring, srq, cq, index, Syndrome.LOCAL_LENGTH,
                             Syndrome.REMOTE_INVALID, str(e))
        if op == Op.SEND_INVAL:
            try:
                invalidate(self.card, qp, imm)
            except AccessError as e:
                qp.fail('WQ_ACCESS_ERROR')
                raise Nak(Syndrome.REMOTE_ACCESS, str(e)) from e
        if self.card.trace is not None:
            self.card.trace(received(qp, ring, index, n))
        ring.take()
        if cq is not None:
            self._complete(qp, cq, srq, index, op, n, imm, solicited, sender, inline,
                           0 if verdict is None else verdict.app_op)
        if verdict is not None:
            self.port.tag_matching.unmatched(srq, verdict)
        if srq is not None and srq.limit:
            try:
                srq.consumed()
            except DmaError:
                # The doorbell record went away under the queue: nothing is posted, so no limit is
                # passed.
                pass

    def _absent(self, qp: 'Target', ring: 'ReceiveRing', srq: 'Srq | None', cq: 'Cq | None',
                index: int,
                n: int, e: AccessError) -> None:
        def refuse() -> None:
            self._refuse(qp, ring, srq, cq, index, Syndrome.LOCAL_PROT, Syndrome.REMOTE_OP, str(e))
        if isinstance(e, PageFault) and qp.st in PAGING:
            place = Place(RECEIVE, qp.number, index, n) if srq is None else Place(
                SHARED_QUEUE, srq.number, index, n)
            raise _ReceiveFault(self.port, e, place, refuse) from e
        refuse()

    def scatter(self, qp: 'Queue', ring: 'ReceiveRing', cq: 'Cq | None', wqe: bytes,
                source: list[Run],
                n: int) -> bytes:
        """Copy ``n`` bytes to the buffers of a receive WQE; short ones go into the CQE where the
        context says so."""
        into_cqe = qp.cs_res and cq is not None and fits(qp.cs_res, cq.cqe_size, n)
        sink: list[Run] = []
        streams = 0
        left, pos, end = n, ring.skip, len(wqe)
        while left and pos < end:
            count, key, addr = DATA.unpack_from(wqe, pos)
            pos += 16
            if not count:
                if key == TERMINATOR:
                    break
                count = ZERO_COUNT
            k = count if count < left else left
            if not into_cqe:
                part = self.local(qp, key, addr, k, ring.pd)
                if is_stream(part):
                    streams += k
                    check_message(streams)
                sink += part
            left -= k
        if left:
            raise OverflowError('message is longer than the receive buffer')
        if into_cqe:
            return read_all(source)
        copy(source, sink, n)
        return b''

    def local(self, qp: 'Queue', key: int, addr: int, n: int, pd: int) -> list[Run]:
        """Runs of a receive buffer.

        :raises AccessError: refused.
        """
        if key == RESERVED_LKEY:
            if not qp.rlky:
                raise AccessError('reserved key')
            return [(self.card.dma, addr, n)]
        return resolve(self.card, key, addr, n, LOCAL_WRITE, pd, qp.number)

    def _complete(self, qp: 'Target', cq: 'Cq', srq: 'Srq | None', index: int, op: int, n: int,
                  imm: int,
                  solicited: bool, sender: Sender | None, inline: bytes,
                  tag_matching: int) -> None:
        user_index = srq.user_index if srq is not None and srq.cq is not None else qp.user_index
        op_own = _CQE_OP[op] << 4 | (2 if solicited else 0)
        if sender is None:
            # The application of the first number is tag matching.
            body = CQE.pack(0, qp.peer_lid, qp.peer_flags, user_index, imm, int(tag_matching > 0),
                            tag_matching, 0, n, self.work.timestamp(), qp.number, index)
        else:
            d = sender
            if op == Op.SEND:
                imm = d.pkey
            body = CQE.pack(d.path_bits, d.slid, d.g << 28 | (d.sl & 0xf) << 24 | d.source_qpn,
                            user_index, imm, 0, 0, 0, n, self.work.timestamp(), qp.number,
                            index)
        body, op_own, wide = place(body, op_own, inline)
        cq.push(body, op_own, solicited, wide)

    def _refuse(self, qp: 'Target', ring: 'ReceiveRing', srq: 'Srq | None', cq: 'Cq | None',
                index: int,
                local: int, remote: int, why: str) -> None:
        """Complete the receive WQE in error, stop the QP, and tell the requester."""
        if self.card.trace is not None:
            self.card.trace(received(qp, ring, index, 0, local, why))
        ring.take()
        if cq is not None:
            qp.receive_error_cqe(cq, srq, index, local)
        qp.fail()
        raise Nak(remote, why)

    # ---- access by remote key

    def remote(self, qp: 'Target', key: int, addr: int, n: int, right: int,
               srqn: int | None = None) -> list[Run]:
        """Runs behind a remote key.

        :param srqn: the XRC SRQ that the request names, or None.
        :raises Nak: the QP or the key does not allow it; the QP is in error then.
        :raises RemoteFault: a page has to be brought in.
        """
        allowed = qp.rwe if right == REMOTE_WRITE else qp.rre if right == REMOTE_READ else qp.rae
        if not allowed:
            qp.fail('WQ_INVAL_REQ_ERROR')
            raise Nak(Syndrome.REMOTE_INVALID, 'operation is not enabled')
        if right == ATOMIC and addr & 7:
            qp.fail('WQ_INVAL_REQ_ERROR')
            raise Nak(Syndrome.REMOTE_INVALID, 'atomic address is not aligned')
        try:
            # An XRC target has no protection domain of its own: the SRQ that the packet names has.
            pd = qp.pd if srqn is None else self.queue(qp, srqn)[0].pd
            return resolve(self.card, key, addr, n, right, pd, qp.number)
        except AccessError as e:
            if isinstance(e, PageFault) and qp.st in PAGING:
                place = Place(RDMA_ACCESS | (0 if right == REMOTE_READ else RDMA_WRITE), packet=n)
                raise _AccessFault(self.port, e, place, qp) from e
            qp.fail('WQ_ACCESS_ERROR')
            raise Nak(Syndrome.REMOTE_ACCESS, str(e)) from e

    def fault(self, qp: 'Target', error: Exception) -> Nak:
        """Memory behind a remote key is not there: the QP goes to error; the answer to raise."""
        qp.fail('WQ_ACCESS_ERROR')
        return Nak(Syndrome.REMOTE_OP, str(error))

    def write(self, qp: 'Target', key: int, addr: int, source: list[Run], n: int,
              srqn: int | None = None) -> None:
        """RDMA write.

        :raises Nak: refused.
        :raises ReadFault: the requester's memory cannot be read.
        """
        if not n:
            if not qp.rwe:
                self.remote(qp, key, addr, 0, REMOTE_WRITE, srqn)
            return
        sink = self.remote(qp, key, addr, n, REMOTE_WRITE, srqn)
        try:
            copy(source, sink, n)
        except WriteFault as e:
            raise self.fault(qp, e) from e

    def read(self, qp: 'Target', key: int, addr: int, sink: list[Run], n: int,
             srqn: int | None = None) -> None:
        """RDMA read.

        :raises Nak: refused.
        :raises WriteFault: the requester's memory cannot be written.
        """
        if not n:
            if not qp.rre:
                self.remote(qp, key, addr, 0, REMOTE_READ, srqn)
            return
        source = self.remote(qp, key, addr, n, REMOTE_READ, srqn)
        try:
            copy(source, sink, n)
        except ReadFault as e:
            raise self.fault(qp, e) from e

    def atomic(self, qp: 'Target', key: int, addr: int, change: Callable[[int], int],
               srqn: int | None = None) -> bytes:
        """An atomic operation on 8 bytes, which hold an integer in the host's byte order.

        :param change: old integer to new.
        :return: the bytes that were there.
        :raises Nak: refused.
        """
        runs = self.remote(qp, key, addr, 8, ATOMIC, srqn)
        try:
            old = b''.join([memory.read(a, k) for memory, a, k in runs])
            new = change(int.from_bytes(old, 'little')).to_bytes(8, 'little')
            at = 0
            for memory, a, k in runs:
                memory.write(a, new[at:at + k])
                at += k
        except MEMORY_ERRORS as e:
            raise self.fault(qp, e) from e
        return old


def takes_requests(qp: 'Queue | None') -> bool:
    """Whether a QP or DCT is in a state to be talked to."""
    return qp is not None and qp.state in RECEIVING
