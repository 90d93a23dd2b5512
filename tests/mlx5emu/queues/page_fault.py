# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""On-demand paging: page faults as events to the driver, and PAGE_FAULT_RESUME.

The send queue whose message met an absent page waits, whichever side the page is on; the driver's
resume lets it carry the message out again from its start.  Two schemes, the one that SET_HCA_CAP
chose: the transport scheme names the WQE, or the remote key and range of the packet; the memory
scheme names the key whose entry is absent.
"""
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..memory.mkey import PageFault

if TYPE_CHECKING:
    from ..card import Card
    from ..datapath.port import Port

#: Subtypes of the event.
WQE, RDMA, MEMORY = 0, 1, 2
#: Whose WQE it is, for subtype WQE.
SHARED_QUEUE, SEND_OR_WRITE, RECEIVE, READ_OR_ATOMIC = 0, 1, 2, 3
#: Bits of the type, for subtype RDMA.
RDMA_WRITE, RDMA_ACCESS = 2, 4

#: Faults that may wait for their resume; a queue beyond them tries again after a while.
MAX_OUTSTANDING = 1024
#: Faults of one WQE before it fails: a driver that resumes without bringing the page in ends here.
MAX_PER_WQE = 1024
#: Memory scheme: bytes of a page that the event counts, and the flag of the last event of a fault.
GRANULE, LAST = 4096, 0x80
_MOST_BYTES = 1 << 31

_WQE_EVENT = struct.Struct('>I2xH2xHI8xI')
_RDMA_EVENT = struct.Struct('>II2xHIQI')
_MEMORY_EVENT = struct.Struct('>BxHHHIIIQ')


class Waiting(Protocol):
    """What waits for a page: a queue, or the rest of a message."""
    epoch: int


#: Told of a resume: whether the page could not be brought in, the key that the access named, and
#: after how many such errors the access is refused.
Resumed = Callable[[bool, int, int], None]


class RemoteFault(Exception):
    """A message met an absent page at the receiving side; nothing of it was taken.

    :param port: of the function that the page is absent from.
    :param fault: what is absent.
    :param place: where, for the transport scheme.
    """

    def __init__(self, port: 'Port', fault: PageFault, place: 'Place') -> None:
        super().__init__(str(fault))
        self.port, self.fault, self.place = port, fault, place

    def deny(self) -> None:
        """Refuse the message instead of waiting.

        :raises Nak: always; what the requester completes with.
        """
        raise NotImplementedError


class Place:
    """What the transport scheme calls the place of a fault: a WQE, or an access by remote key.

    :param kind: SHARED_QUEUE to READ_OR_ATOMIC, or bits RDMA_*.
    :param number: of the queue that has the WQE.
    :param index: of the WQE.
    :param packet: bytes of the packet at hand.
    """

    __slots__ = ('kind', 'number', 'index', 'packet')

    def __init__(self, kind: int, number: int = 0, index: int = 0, packet: int = 0) -> None:
        self.kind, self.number, self.index, self.packet = kind, number, index, packet


class _Waiting:
    """A send queue that waits for a resume."""

    __slots__ = ('subtype', 'kind', 'number', 'resumed', 'queue', 'epoch', 'key', 'looks')

    def __init__(self, subtype: int, kind: int, number: int, queue: Waiting, resumed: Resumed,
                 fault: PageFault) -> None:
        self.subtype, self.kind, self.number = subtype, kind, number
        self.queue, self.resumed = queue, resumed
        self.epoch, self.key, self.looks = queue.epoch, fault.key, fault.looks


class PageFaults:
    """The outstanding faults of one function's memory."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self._waiting: dict[int, _Waiting] = {}
        self._token = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def served(self) -> bool:
        """Whether an EQ takes page faults: without one nobody would ever resume."""
        kind = prm.EVENTS['PAGE_FAULT']
        return any(eq.takes(kind) for eq in self.card.eqs)

    def report(self, fault: PageFault, place: Place, queue: Waiting,
               resumed: Resumed) -> bool:
        """Tell the driver of a fault, and remember the send queue that waits.

        :param resumed: called when the driver resumes it, unless the queue's state has changed.
        :return: False when there are too many, or the EQ is full: nobody will be woken.
        """
        if len(self._waiting) >= MAX_OUTSTANDING:
            # The driver does not resume faults of a queue that it destroyed.
            for token in [t for t, w in self._waiting.items() if w.queue.epoch != w.epoch]:
                del self._waiting[token]
            if len(self._waiting) >= MAX_OUTSTANDING:
                return False
        token = self._token
        while True:
            token = token + 1 & 0xffffff
            if token and token not in self._waiting:
                break
        self._token = token
        packet = min(place.packet, 0xffff)
        if self._memory_scheme():
            first = fault.leaf_addr & ~(GRANULE - 1)
            n = min(-(-(fault.leaf_addr + fault.leaf_n) // GRANULE) * GRANULE - first, _MOST_BYTES)
            waiting = _Waiting(MEMORY, 0, 0, queue, resumed, fault)
            data = _MEMORY_EVENT.pack(LAST, 0, 0, 0, token, n, fault.leaf, first & (1 << 64) - 1)
        elif place.kind & RDMA_ACCESS:
            waiting = _Waiting(RDMA, place.kind, token, queue, resumed, fault)
            data = _RDMA_EVENT.pack(0, fault.key, packet, fault.n, fault.addr,
                                    place.kind << 24 | token)
        else:
            waiting = _Waiting(WQE, place.kind, place.number, queue, resumed, fault)
            data = _WQE_EVENT.pack(0, place.index, packet, token, place.kind << 24 | place.number)
        # Before the event: a driver on another processor may resume at once.
        self._waiting[token] = waiting
        if not self.card.post_event(prm.EVENTS['PAGE_FAULT'], waiting.subtype, data):
            del self._waiting[token]
            return False
        return True

    def _memory_scheme(self) -> bool:
        page = self.card.caps.page('odp')
        return page.has('mem_page_fault') and bool(page['mem_page_fault'])

    def resume(self, cmd: Command) -> None:
        """Let the queue go on that waits for a token.

        :raises Status: BAD_RES when no fault has the token; BAD_PARAM when it is another queue's or
            of another type.
        """
        info = cmd.raw[8:16]
        memory = self._memory_scheme()
        token = int.from_bytes(info[4:8], 'big') if memory else int.from_bytes(info[5:8], 'big')
        waiting = self._waiting.get(token)
        if waiting is None or (memory and info[2:4] != bytes(2)):
            raise Status('BAD_RES', 'no page fault has this token')
        if not memory and (info[0] & 7 != waiting.kind or
                           int.from_bytes(info[1:4], 'big') != waiting.number):
            raise Status('BAD_PARAM', 'page fault of another queue or type')
        del self._waiting[token]
        if waiting.queue.epoch == waiting.epoch:
            waiting.resumed(bool(info[0] >> 7), waiting.key, waiting.looks)


@command('PAGE_FAULT_RESUME', kernel=True)
def page_fault_resume(card: 'Card', cmd: Command) -> None:
    """Learn that the driver brought the pages in, or could not. Refused when no fault has the
    token."""
    card.datapath.port.page_faults.resume(cmd)
