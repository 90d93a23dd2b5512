# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The data path of one function: doorbells in, work carried out, completions and events out.

Nothing that a guest writes raises out of here: a queue that cannot be served goes to its error
state and the driver is told.
"""
from typing import TYPE_CHECKING

from ..dma import DmaError
from ..prm.wqe import CTRL_CQ_UPDATE, Op
from ..queues.queue import QP0, QP1, Queue
from .fabric import Fabric
from .port import Port
from .requester import Requester
from .tag_matching import TagMatching
from .work import Work

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.qp import Qp

#: Bytes of a BlueFlame buffer.
BLUEFLAME = 0x100

class DataPath:
    """Queues at work.

    :param card: the function.
    :param fabric: what it is connected to; default: what the card's former data path was, else only
        itself.
    """

    def __init__(self, card: 'Card', fabric: Fabric | None = None) -> None:
        self.card = card
        #: Last WQE that a BlueFlame buffer's doorbell ran, until its second piece arrives: (page,
        #: buffer) -> (queue, index).
        self._blueflame: tuple[int, int, Queue, int] | None = None
        #: Doorbells for queues that are not there or have another UAR.
        self.stray_doorbells = 0
        # A function-level reset makes a new data path at the place of the old one.
        former: DataPath | None = getattr(card, 'datapath', None)
        self.work = Work(card)
        self.port: Port = Port(card, self.work,
                               fabric or (former.port.fabric if former is not None else Fabric()))
        self.requester = Requester(self.port)
        self.port.tag_matching = TagMatching(self.port, self.requester)

    # ---- entrances

    def send_doorbell(self, uar: int, offset: int, data: bytes) -> None:
        """A write into a BlueFlame buffer: the first bytes of a WQE, or more of it.

        :param uar: page index.
        :param offset: byte offset in the page.
        :param data: as written.
        """
        piece = offset & (BLUEFLAME - 1)
        if piece == 0 and len(data) >= 8:
            queue = self.card.queue_numbers.lookup(int.from_bytes(data[4:7], 'big'))
            if queue is None or queue.sq is None or queue.uar != uar or queue.sq.recordless:
                self.stray_doorbells += 1
                return
            before = queue.sq.consumer
            self._blueflame = None
            self.work.guarded(self.requester.run, queue)
            self._remember(uar, offset, queue, before, data)
            if len(data) > 8:
                self._second_piece(uar, offset, data[8:])
        elif piece == 8 and self._blueflame is not None:
            self._second_piece(uar, offset - 8, data)

    def recordless_doorbell(self, uar: int, data: bytes) -> None:
        """The control segment of the last WQE that is posted: its index and size tell how far."""
        if len(data) < 8:
            return
        queue = self.card.queue_numbers.lookup(int.from_bytes(data[4:7], 'big'))
        if queue is None or queue.sq is None or queue.uar != uar or not queue.sq.recordless:
            self.stray_doorbells += 1
            return
        queue.sq.producer = int.from_bytes(data[1:3], 'big') + ((data[7] & 0x3f) + 3 >> 2) & 0xffff
        self.work.guarded(self.requester.run, queue)

    def _remember(self, uar: int, offset: int, queue: Queue, before: int, data: bytes) -> None:
        """Keep what a BlueFlame copy may still add to: one NOP that ran without asking for a
        CQE."""
        ring = queue.sq
        if ring is None or data[3] != Op.NOP or (ring.consumer - before) & 0xffff == 0:
            return
        index = (ring.consumer - 1) & 0xffff
        try:
            control = ring.read(index, 16)
        except DmaError:
            return
        if control[3] == Op.NOP and not control[11] & CTRL_CQ_UPDATE and control[1:3] == data[1:3]:
            self._blueflame = (uar, offset, queue, index)

    def _second_piece(self, uar: int, offset: int, data: bytes) -> None:
        last, self._blueflame = self._blueflame, None
        if last is None or last[0] != uar or last[1] != offset or len(
                data) < 4 or not data[3] & CTRL_CQ_UPDATE:
            return
        self.work.guarded(lambda queue: self.requester.complete_nop(queue, last[3]), last[2])

    def arm_cq(self, uar: int, data: bytes) -> None:
        """A write of the CQ doorbell: command and consumer index, then the CQ's number."""
        if len(data) < 8:
            return
        word = int.from_bytes(data[:4], 'big')
        cq = self.card.cqs.find(int.from_bytes(data[4:8], 'big') & 0xffffff)
        if cq is None or cq.uar != uar:
            self.stray_doorbells += 1
            return
        cq.arm(word & 0xffffff, bool(word >> 24 & 1))

    # ---- states

    def started(self, qp: 'Qp') -> None:
        """A QP left the reset state."""
        if qp.st in (QP0, QP1):
            self.port.special[qp.st - QP0] = qp

    def stopped(self, qp: 'Qp') -> None:
        """A QP is reset or destroyed."""
        number = qp.st - QP0
        if self.port.special.get(number) is qp:
            del self.port.special[number]

    def resume(self, qp: 'Qp') -> None:
        """A QP may send: take up what was posted before."""
        if qp.sq is not None:
            self.work.guarded(self.requester.run, qp)
