# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A WQE that has to wait: for a receiver that is not ready, an answer, a page, or its turn."""
from functools import partial
from typing import TYPE_CHECKING

from ..memory.mkey import PageFault
from ..prm.wqe import Op, Syndrome
from ..queues.page_fault import MAX_PER_WQE, READ_OR_ATOMIC, SEND_OR_WRITE, Place, RemoteFault
from ..queues.queue import DCI, RC, UD, XRC
from .responder import Nak, NotReady

if TYPE_CHECKING:
    from ..queues.queue import Queue
    from ..queues.rings import SendRing
    from .requester import Requester

#: rnr_retry that means for ever.
RNR_FOREVER = 7
#: Receiver-not-ready timer in microseconds by its code.
RNR_TIMER_US = (655360, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560,
                3840, 5120, 7680, 10240, 15360, 20480, 30720, 40960, 61440, 81920, 122880, 163840,
                245760, 327680, 491520)
#: Bounds of the waiting times, in ns: Python has no use for ten microseconds, and a test none for
#: minutes of "for ever".
MIN_WAIT_NS, FOREVER_WAIT_NS = 200_000, 20_000_000
LONGEST_SLEEP_NS = 250_000_000
_FETCHING = frozenset((Op.READ, Op.CS, Op.FA, Op.MASKED_CS, Op.MASKED_FA))
#: What may wait for a page; a UMR's own list may not.
PAGED_OPS = _FETCHING | {Op.SEND, Op.SEND_IMM, Op.SEND_INVAL, Op.WRITE, Op.WRITE_IMM}


class Retries:
    """The waiting of one function's send queues."""

    def __init__(self, requester: 'Requester') -> None:
        self.requester, self.port = requester, requester.port
        self.card, self.work = requester.card, requester.work

    def later(self, queue: 'Queue', delay_ns: int) -> None:
        """Run a send queue again after a while, unless its state changes before."""
        epoch = queue.epoch
        # In steps: a timer whose queue was reset meanwhile must not stay for hours, or resets would
        # pile them up.
        left = delay_ns - LONGEST_SLEEP_NS

        def again() -> None:
            if queue.epoch != epoch or queue.sq is None:
                return
            if left > 0:
                self.later(queue, left)
            else:
                queue.sq.waiting = queue.sq.scheduled = False
                self.work.guarded(self.requester.run, queue)
        self.card.call_later(min(delay_ns, LONGEST_SLEEP_NS), again)

    def not_ready(self, qp: 'Queue', ring: 'SendRing', index: int, op: int, blocks: int,
                  e: NotReady) -> None:
        """No receive WQE was there for the head WQE: try again after the receiver's timer."""
        tries = ring.tries[1]
        if qp.rnr_retry != RNR_FOREVER and tries >= qp.rnr_retry:
            self.requester.fail(qp, ring, index, op, blocks, Syndrome.RNR_EXCEEDED,
                                'receiver not ready')
            return
        ring.tries[1] = tries + 1
        delay = max(RNR_TIMER_US[e.timer] * 1000, MIN_WAIT_NS)
        if qp.rnr_retry == RNR_FOREVER:
            delay = min(delay, FOREVER_WAIT_NS)
        ring.waiting = True
        self.later(qp, delay)

    def no_answer(self, qp: 'Queue', ring: 'SendRing', index: int, op: int, blocks: int) -> None:
        """Nobody answered the head WQE: it is tried again after the queue's timeout."""
        tries = ring.tries[0]
        if qp.ack_timeout and tries >= qp.retry_count:
            self.requester.fail(qp, ring, index, op, blocks, Syndrome.RETRY_EXCEEDED, 'no answer')
            return
        ring.tries[0] = tries + 1
        delay = max(4096 << qp.ack_timeout, MIN_WAIT_NS) if qp.ack_timeout else FOREVER_WAIT_NS
        ring.waiting = True
        self.later(qp, delay)

    def absent(self, qp: 'Queue', ring: 'SendRing', index: int, op: int, blocks: int,
               e: PageFault | RemoteFault) -> None:
        """The head WQE met an absent page: it waits until the driver says that it is there."""
        port = e.port if isinstance(e, RemoteFault) else self.port
        fault = e.fault if isinstance(e, RemoteFault) else e
        paged = qp.st in (RC, XRC, DCI) and op in PAGED_OPS or qp.st == UD
        ring.faults += 1
        key, refusals = ring.refused
        refused = key == fault.key and refusals >= fault.looks
        if refused or ring.faults > MAX_PER_WQE or not paged or not port.page_faults.served():
            syndrome = Syndrome.LOCAL_PROT
            if isinstance(e, RemoteFault):
                try:
                    e.deny()
                except Nak as nak:
                    syndrome = nak.syndrome
            self.requester.fail(qp, ring, index, op, blocks, syndrome, str(e))
            return
        place = e.place if isinstance(e, RemoteFault) else Place(
            READ_OR_ATOMIC if op in _FETCHING else SEND_OR_WRITE, qp.number, index)
        ring.waiting = True
        if not port.page_faults.report(fault, place, qp, partial(self.resumed, qp)):
            ring.faults -= 1
            self.later(qp, FOREVER_WAIT_NS)

    def resumed(self, qp: 'Queue', error: bool, key: int, looks: int) -> None:
        """The driver resumed a page fault.

        :param error: the page could not be brought in.
        :param key: that the access named.
        :param looks: errors after which the access is refused.
        """
        ring = qp.sq
        if ring is None:
            return
        ring.refused = (key,
                        (ring.refused[1] if ring.refused[0] == key else 0) + 1) if error else (0, 0)
        if error and ring.refused[1] < looks:
            self.later(qp, FOREVER_WAIT_NS)
            return
        ring.waiting = False
        self.work.guarded(self.requester.run, qp)
