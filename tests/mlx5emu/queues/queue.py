# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What doorbells and packets name: QPs, DCTs, raw send and receive queues. Their states, how they
fail and how they are flushed are here; what they do in them is the data path's."""
from typing import TYPE_CHECKING

from ..dma import DmaError
from ..firmware.eq import queue_event
from ..firmware.tables import Object
from ..prm.wqe import CTRL, ERROR_CQE, VENDOR, CqeOp, Syndrome

if TYPE_CHECKING:
    from ..card import Card
    from .cq import Cq
    from .rings import ReceiveRing, SendRing
    from .scheduling import SchedulingElement
    from .srq import Srq

RC, UC, UD, XRC, DCI, DCT, QP0, QP1, REG_UMR = 0x0, 0x1, 0x2, 0x3, 0x5, 0x6, 0x7, 0x8, 0xc
#: A send or receive queue that is an object of its own (CREATE_SQ, CREATE_RQ).
RAW = 0x9
DATAGRAM = (UD, QP0, QP1)

RST, INIT, RTR, RTS, SQER, SQD, ERR = 0, 1, 2, 3, 4, 5, 6
STATES = ('RST', 'INIT', 'RTR', 'RTS', 'SQER', 'SQD', 'ERR')
#: States in which a QP takes in requests.
RECEIVING = frozenset((RTR, RTS, SQER, SQD))
#: A receive queue in error is looked at for newly posted WQEs after this time, then less and less
#: often.
FLUSH_POLL_NS, FLUSH_POLL_MAX_NS = 2_000_000, 256_000_000


class Queue(Object):
    """A queue in a state, with the rings and CQs that it has.

    ``epoch`` grows with every change of state: a timer that began before is void.
    """

    #: Transport.
    st = RAW
    state = RST
    #: What an asynchronous event calls it: 0 QP, 1 RQ, 2 SQ.
    event_kind = 0
    #: Whether what is posted completes when the queue is in error.
    flush_in_error = True
    #: Numbers of protection domain and UAR, what CQEs say of the queue, whether it may use the
    #: reserved key.
    pd = uar = user_index = 0
    rlky = False
    #: How often and how long a request waits for its peer, of a transport that does.
    rnr_retry = retry_count = ack_timeout = 0
    #: What of a message goes into its CQE: of receives and of requests.
    cs_res = cs_req = 0
    sq: 'SendRing | None' = None
    rq: 'ReceiveRing | None' = None
    srq: 'Srq | None' = None
    scq: 'Cq | None' = None
    rcq: 'Cq | None' = None
    #: Queue groups of what it sends and of what it answers.
    queue_group: 'SchedulingElement | None' = None
    responder_group: 'SchedulingElement | None' = None

    def __init__(self, card: 'Card') -> None:
        super().__init__()
        self.card = card
        self.epoch = 0

    def destroyed(self) -> None:
        """Timers that were running for the queue are void."""
        self.epoch += 1
        super().destroyed()

    # ---- states

    def enter(self, state: int) -> None:
        """Change the state; timers that were running for the queue are void."""
        self.state = state
        self.epoch += 1
        if self.sq is not None:
            self.sq.waiting = self.sq.scheduled = False
            self.sq.fresh()

    def fail(self, why: str | None = None) -> None:
        """Stop the queue: everything outstanding is flushed, the driver is told.

        :param why: name of an asynchronous event, or None.
        """
        old = self.state
        if old == ERR:
            return
        self.enter(ERR)
        if why:
            queue_event(self.card, self.number, why, self.event_kind)
        if old == RST:
            return
        if old != INIT:
            self.flush_send()
        self.flush_receive()
        self.failed()

    def failed(self) -> None:
        """What else comes of it."""

    def signature_error(self) -> None:
        """What the queue sent had a signature that did not match."""

    def fail_send(self) -> None:
        """A WQE of the send queue failed: the send queue stops, and with a reliable transport all
        of the queue."""
        if self.st in (UC, *DATAGRAM):
            self.enter(SQER)
            self.flush_send()
        else:
            self.fail()

    # ---- flushing

    def flush_send(self) -> None:
        """Complete what is posted to the send queue with flush errors."""
        ring = self.sq
        if ring is None or not self.flush_in_error:
            return
        ring.waiting = ring.scheduled = False
        try:
            left = ring.look()
            if left > ring.size:
                return
            while left > 0:
                index = ring.consumer
                w0, w1 = CTRL.unpack_from(ring.read(index, 16))[:2]
                blocks = min(((w1 & 0x3f) + 3) >> 2 or 1, left)
                ring.consumer = (index + blocks) & 0xffff
                left -= blocks
                self.send_error_cqe(index, w0 & 0xff, Syndrome.FLUSH)
        except DmaError:
            pass    # nothing can be read any more, so nothing is outstanding that a CQE could name

    def flush_receive(self) -> None:
        """Complete what is posted to a receive queue of its own with flush errors."""
        ring = self.rq
        if ring is None or self.rcq is None or not self.flush_in_error:
            return
        try:
            left = ring.posted()
            while left:
                head = ring.peek()
                if head is None:
                    return
                ring.take()
                self.receive_error_cqe(self.rcq, None, head[0], Syndrome.FLUSH)
                left -= 1
        except DmaError:
            pass    # as above

    def send_error_cqe(self, index: int, op: int, syndrome: int) -> None:
        """A requester error CQE."""
        ring = self.sq
        if ring is not None and ring.cq is not None:
            ring.cq.push(
                ERROR_CQE.pack(ring.user_index, VENDOR[syndrome][0], syndrome,
                               op << 24 | self.number, index), CqeOp.REQ_ERR << 4, True)

    def receive_error_cqe(self, cq: 'Cq', srq: 'Srq | None', index: int, syndrome: int) -> None:
        """A responder error CQE."""
        user_index = srq.user_index if srq is not None and srq.cq is not None else self.user_index
        cq.push(ERROR_CQE.pack(user_index, VENDOR[syndrome][1], syndrome, self.number, index),
                CqeOp.RESP_ERR << 4, True)


class Target(Queue):
    """A queue that requests of others come to: a QP or a DCT."""

    #: Remote reads, writes and atomic operations are enabled.
    rre: bool
    rwe: bool
    rae: bool
    #: Code of the receiver-not-ready timer, next packet sequence number, bytes of a packet, index
    #: of the P_Key.
    min_rnr_nak: int
    recv_psn: int
    mtu: int
    pkey_index: int
    #: Who a connected queue's messages are from: LID, and SL and QP number as a CQE has them.
    peer_lid = 0
    peer_flags = 0
    #: Number of the XRC domain, of a target of XRC.
    xrcd = 0


def watch(queue: Queue, delay: int = FLUSH_POLL_NS) -> None:
    """Flush what is posted to a receive queue in error from now on: no doorbell tells of it, so
    look now and then.

    :param delay: nanoseconds until the first look.
    """
    epoch = queue.epoch

    def look() -> None:
        if queue.epoch == epoch:
            queue.card.datapath.work.guarded(Queue.flush_receive, queue)
            watch(queue, min(delay * 2, FLUSH_POLL_MAX_NS))
    queue.card.call_later(delay, look)
