# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Rings of work queue elements: what is posted, what was consumed.  QPs, SQs, RQs and SRQs are made
of these."""
from typing import TYPE_CHECKING

from ..prm.wqe import SRQ_NEXT, WQEBB
from .queue_buffer import QueueBuffer
from .rate_limit import RateLimit

if TYPE_CHECKING:
    from .cq import Cq
    from .dci_stream import DciStreams
    from .queue import Queue


class SendRing:
    """A send queue: WQEs of one or more 64-byte basic blocks.

    :param owner: the QP or SQ, which has number, state and transport.
    :param offset: byte offset in the buffer.
    :param log_size: log2 of the number of basic blocks.
    :param dbr: bus address of the doorbell record; the producer index is its second doubleword.
    """

    __slots__ = ('owner', 'buf', 'offset', 'size', 'mask', 'dbr', 'cq', 'user_index', 'consumer',
                 'producer', 'waiting', 'tries', 'scheduled', 'faults', 'refused', 'recordless',
                 'scheduling', 'pacing', 'streams')

    def __init__(self, owner: 'Queue', buf: QueueBuffer, offset: int, log_size: int, dbr: int,
                 cq: 'Cq | None', user_index: int) -> None:
        #: The producer index comes with the doorbell; there is no doorbell record.
        self.recordless = False
        #: Streams of a DC initiator that has them.
        self.streams: DciStreams | None = None
        self.owner, self.buf, self.offset = owner, buf, offset
        self.dbr, self.cq, self.user_index = dbr, cq, user_index
        self.size = 1 << log_size
        self.mask = (WQEBB << log_size) - 1
        #: Rates that hold the queue back: of its queue group and what is above that, and of packet
        #: pacing.
        self.scheduling: tuple[RateLimit, ...] = ()
        self.pacing: tuple[RateLimit, ...] = ()
        self.reset()

    def reset(self) -> None:
        """Nothing posted, nothing consumed."""
        #: Basic block indices modulo 2^16, as the doorbell record counts.
        self.consumer = self.producer = 0
        if self.streams is not None:
            self.streams.errored.clear()
        #: The head WQE waits for the peer: a timer runs it again.
        self.waiting = False
        #: Retries so far of the head WQE: (acknowledge timeouts, receiver-not-ready).
        self.tries = [0, 0]
        #: The rest of a long run waits for its turn.
        self.scheduled = False
        #: Page faults of the head WQE so far; the key of the last that the driver resumed with an
        #: error, and how often.
        self.faults, self.refused = 0, (0, 0)

    def fresh(self) -> None:
        """Another WQE is at the head: it has not been tried."""
        self.tries = [0, 0]
        self.faults, self.refused = 0, (0, 0)

    def look(self) -> int:
        """How many basic blocks are posted and not consumed, by the doorbell record as it is now.

        :raises DmaError: the doorbell record is not mapped.
        """
        if not self.recordless:
            self.producer = self.buf.dma.read_be32(self.dbr + 4) & 0xffff
        return (self.producer - self.consumer) & 0xffff

    def read(self, index: int, n: int, skip: int = 0) -> bytes:
        """``n`` bytes of the WQE at basic block ``index`` from byte ``skip`` on; the ring wraps.

        :raises DmaError: the buffer is not mapped.
        """
        pos = (index * WQEBB + skip) & self.mask
        room = self.mask + 1 - pos
        if n <= room:
            return self.buf.read(self.offset + pos, n)
        out = self.buf.read(self.offset + pos, room)
        left = n - room
        while left > 0:
            k = min(left, self.mask + 1)
            out += self.buf.read(self.offset, k)
            left -= k
        return out


class ReceiveRing:
    """A receive queue: WQEs of one stride, cyclic, or linked as those of a shared receive queue
    are.

    Whether a segment of 16 bytes stands before the buffers is another question than the order: a
    cyclic queue that many QPs share has it too, unless its context says basic_cyclic_rcv_wqe.

    :param offset: byte offset in the buffer.
    :param log_size: log2 of the number of WQEs.
    :param log_stride: log2 bytes of a WQE.
    :param dbr: bus address of the doorbell record; the counter of posted WQEs is its first
        doubleword.
    :param pd: number of the protection domain of the buffers posted.
    :param segment: 16 bytes for the next WQE's index, or a signature, come first in each WQE.
    """

    __slots__ = ('buf', 'offset', 'size', 'stride', 'dbr', 'pd', 'linked', 'head', 'consumer',
                 'producer', 'skip', '_next')

    def __init__(self, buf: QueueBuffer, offset: int, log_size: int, log_stride: int, dbr: int,
                 pd: int, linked: bool = False, segment: bool = False) -> None:
        self.buf, self.offset, self.dbr, self.pd, self.linked = buf, offset, dbr, pd, linked
        self.size, self.stride = 1 << log_size, 1 << log_stride
        self.skip = 16 if segment or linked else 0
        self.reset()

    def reset(self) -> None:
        """Nothing posted, nothing consumed."""
        self.head = self.consumer = self.producer = self._next = 0

    def posted(self) -> int:
        """WQEs posted and not consumed, by the doorbell record as it is now.

        :raises DmaError: the doorbell record is not mapped.
        """
        self.producer = self.buf.dma.read_be32(self.dbr) & 0xffff
        n = (self.producer - self.consumer) & 0xffff
        # A counter that went back, or passed the ring: nothing of it can be trusted but the ring's
        # size.
        return n if n <= self.size else self.size

    def peek(self) -> tuple[int, bytes] | None:
        """Index and segments of the next WQE, or None when nothing is posted; it stays the next
        until :meth:`take`.

        :raises DmaError: doorbell record or buffer are not mapped.
        """
        if self.consumer == self.producer and not self.posted():
            return None
        if self.linked:
            index = self.head & (self.size - 1)
            raw = self.buf.read(self.offset + index * self.stride, self.stride)
            self._next = SRQ_NEXT.unpack_from(raw)[0]
        else:
            index = self.consumer & (self.size - 1)
            raw = self.buf.read(self.offset + index * self.stride, self.stride)
        return (index if self.linked else self.consumer), raw

    def take(self) -> None:
        """The WQE that :meth:`peek` showed is consumed."""
        self.consumer = (self.consumer + 1) & 0xffff
        if self.linked:
            self.head = self._next
