# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The data path of one function: doorbells in, work carried out, completions and events out.

Nothing that a guest writes raises out of here: a queue that cannot be served goes to its error
state and the driver is told.
"""
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import prm
from ..dma import DmaError
from ..firmware import flow_namespace
from ..firmware.eq import queue_event
from ..prm.wqe import CTRL_CQ_UPDATE, Op, Syndrome
from ..queues import dct
from ..queues.page_fault import PageFaults
from ..queues.qp import DATAGRAM, ERR, INIT, QP0, QP1, RAW, RST, SQER, UC, XRC
from ..queues.raw_queues import WQ_ERROR
from ..steering.packet import Packet
from ..steering.steering import Steering
from .ethernet import EthernetReceiver
from .fabric import Address, Fabric
from .requester import Requester
from .responder import Responder
from .tag_matching import TagMatching

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.cq import Cq

#: Bytes of a BlueFlame buffer.
BLUEFLAME = 0x100
#: A receive queue in error is looked at for newly posted WQEs after this time, then less and less
#: often.
FLUSH_POLL_NS, FLUSH_POLL_MAX_NS = 2_000_000, 256_000_000


class DataPath:
    """Queues at work.

    :param card: the function.
    :param fabric: what it is connected to; default: what the card's former data path was, else only
        itself.
    """

    def __init__(self, card: 'Card', fabric: Fabric | None = None) -> None:
        self.card = card
        #: QPs of each multicast group.
        self.groups: dict[bytes, list[Any]] = {}
        #: The QP0 and QP1 of the port by their number.
        self.special: dict[int, Any] = {}
        #: Last WQE that a BlueFlame buffer's doorbell ran, until its second piece arrives: (page,
        #: buffer) -> (QP, index).
        self._blueflame: tuple[int, int, Any, int] | None = None
        #: Doorbells for queues that are not there or have another UAR.
        self.stray_doorbells = 0
        #: Errors that CQEs told of: {syndrome: n}.
        self.errors: dict[int, int] = {}
        #: CQs with completions that wait for more to be compressed with, while work is done that
        #: may bring them.
        self.open_cqs: list[Cq] | None = None
        self.page_faults = PageFaults(card)
        self.responder = Responder(self)
        self.requester = Requester(self)
        self.tag_matching = TagMatching(self)
        self.steering = Steering(card)
        self.ethernet = EthernetReceiver(self)
        self._khz = card.caps.get('device_frequency_khz')
        # A function-level reset makes a new data path at the place of the old one.
        former = getattr(card, 'datapath', None)
        self.fabric = fabric or (former.fabric if former is not None else Fabric())
        self.fabric.join(self)

    def connect(self, fabric: Fabric) -> None:
        """Leave the fabric that the port is on and join another."""
        self.fabric.leave(self)
        self.fabric = fabric
        fabric.join(self)

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
            self.guarded(self.requester.run, queue)
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
        self.guarded(self.requester.run, queue)

    def _remember(self, uar: int, offset: int, queue: Any, before: int, data: bytes) -> None:
        """Keep what a BlueFlame copy may still add to: one NOP that ran without asking for a
        CQE."""
        ring = queue.sq
        if data[3] != Op.NOP or (ring.consumer - before) & 0xffff == 0:
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
        self.guarded(lambda queue: self.requester.complete_nop(queue, last[3]), last[2])

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

    def guarded(self, call: Callable[[Any], Any], queue: Any) -> None:
        """Run a piece of work; a defect of the emulator is counted and stops the queue, not the
        card."""
        outermost = self._begin()
        try:
            call(queue)
        except Exception as e:  # the guest must not be able to end the server
            self.card.internal_errors += 1
            self.note(queue, 0, 0, 0, f'internal error: {e!r}')
            try:
                self.to_error(queue, 'WQ_CATAS_ERROR')
            except Exception:  # the same defect once more: the state is set, which is what counts
                self.card.internal_errors += 1
        self._done(outermost)

    def _begin(self) -> bool:
        """Work begins; whether it is not part of other work."""
        if self.open_cqs is not None:
            return False
        self.open_cqs = []
        return True

    def _done(self, outermost: bool) -> None:
        """Work is done: write the completions that waited for more."""
        if outermost:
            cqs, self.open_cqs = self.open_cqs, None
            for cq in cqs or ():
                if cq.session is not None:
                    cq.session.end()

    def timestamp(self) -> int:
        """The free-running counter that CQEs show."""
        return self.card.now() * self._khz // 1_000_000

    def note(self, qp: Any, index: int, op: int, syndrome: int, why: str) -> None:
        """Count an error and log it."""
        self.errors[syndrome] = self.errors.get(syndrome, 0) + 1
        if self.card.log is not None:
            self.card.log(
                f'{qp.kind} {qp.number:#x} WQE {index:#x} opcode {op:#x}: syndrome {syndrome:#x} {why}'
            )

    # ---- states

    def started(self, qp: Any) -> None:
        """A QP left the reset state."""
        if qp.st in (QP0, QP1):
            self.special[qp.st - QP0] = qp

    def stopped(self, qp: Any) -> None:
        """A QP is reset or destroyed."""
        number = qp.st - QP0
        if self.special.get(number) is qp:
            del self.special[number]

    def resume(self, qp: Any) -> None:
        """A QP may send: take up what was posted before."""
        if qp.sq is not None:
            self.guarded(self.requester.run, qp)

    def send_error(self, qp: Any) -> None:
        """A WQE failed: the send queue stops, and with a reliable transport the QP."""
        if qp.st in (UC, *DATAGRAM):
            qp.enter(SQER)
            self.requester.flush(qp)
        else:
            self.to_error(qp)

    def to_error(self, qp: Any, why: str | None = None) -> None:
        """Stop a queue: everything outstanding is flushed, the driver is told.

        :param why: name of an asynchronous event, or None.
        """
        if qp.kind == 'dct':
            return
        if qp.st == RAW:
            if qp.wq_state != WQ_ERROR:
                qp.enter(WQ_ERROR)
                if why:
                    queue_event(self.card, qp.number, why, 2 if qp.kind == 'sq' else 1)
                self.requester.flush(qp)
                self.flush_receive(qp)
            return
        old = qp.state
        if old == ERR:
            return
        qp.enter(ERR)
        if why:
            queue_event(self.card, qp.number, why)
        if old == RST:
            return
        if old != INIT:
            self.requester.flush(qp)
        self.flush_receive(qp)
        if qp.srq is not None and qp.st != XRC:
            queue_event(self.card, qp.number, 'SRQ_LAST_WQE')
        if qp.rq is not None:
            self._watch(qp, FLUSH_POLL_NS)

    def _watch(self, qp: Any, delay: int) -> None:
        """Flush what is posted to a receive queue in error: no doorbell tells of it, so look now
        and then."""
        epoch = qp.epoch

        def look() -> None:
            if qp.epoch == epoch:
                self.guarded(self.flush_receive, qp)
                self._watch(qp, min(delay * 2, FLUSH_POLL_MAX_NS))
        self.card.call_later(delay, look)

    def flush_send(self, queue: Any) -> None:
        """Complete what is posted to a send queue with flush errors."""
        self.guarded(self.requester.flush, queue)

    def flush_receive(self, queue: Any) -> None:
        """Complete what is posted to a receive queue of its own with flush errors."""
        ring = queue.rq
        if ring is None or queue.rcq is None or (queue.st == RAW and not queue.flush_in_error):
            return
        try:
            left = ring.posted()
            while left:
                head = ring.peek()
                if head is None:
                    return
                ring.take()
                self.responder.error_cqe(queue, queue.rcq, None, head[0], Syndrome.FLUSH)
                left -= 1
        except DmaError:
            pass    # nothing can be read any more, so nothing is outstanding that a CQE could name

    def key_violation(self, target: Any) -> None:
        """A request to a DCT had the wrong key."""
        target.violations = min(target.violations + 1, 0xffffffff)
        if target.armed:
            target.armed = False
            data = prm.new('dct_event')
            data['dctn'] = target.number
            self.card.post_event(prm.EVENTS['DCT_KEY_VIOLATION'], 0, bytes(data.buf))

    # ---- addresses

    def answers(self, address: Address) -> bool:
        """Whether an address is this port's."""
        vport = self.card.vport
        if self.card.link_layer == 'ib':
            if address.lid in (vport.lid, 0xffff):
                return True
            return not address.lid and address.has_gid and address.gid == vport.gid(0)
        if any(raw[:16] == address.gid for raw in vport.roce_addresses.values()):
            return True
        return bool(address.mac) and int.from_bytes(address.mac,
                                                    'big') == vport.mac and not vport.roce_addresses

    def datagram_qp(self, qpn: int) -> Any | None:
        """The UD QP of a number; 0 and 1 are the port's special QPs."""
        return self.special.get(qpn) if qpn < 2 else self.card.qps.find(qpn)

    def multicast_targets(self) -> list['DataPath']:
        """Every data path that a multicast packet reaches."""
        return list(self.fabric.members)

    def leave(self, gid: bytes, qp: Any) -> None:
        """A QP is no longer in a multicast group."""
        members = self.groups.get(gid, [])
        if qp in members:
            members.remove(qp)
        if not members:
            self.groups.pop(gid, None)

    # ---- frames

    def transmit(self, queue: Any, frame: bytes) -> None:
        """A raw send queue's frame: through the transmit tables to the wire, and back to the
        function's own receive queues."""
        vport = self.card.vport
        tis = queue.tis
        domain = None if tis is None else tis.transport_domain
        for delivery in self.steering.walk(flow_namespace.NIC_TX, Packet(frame, queue.number)):
            data = delivery.packet.data
            multicast = bool(data and data[0] & 1)
            vport.count(f'transmitted_eth_{"multicast" if multicast else "unicast"}', len(data))
            if flow_namespace.FDB in self.card.flow_roots:
                self._switch(data, delivery.packet.sqn, domain, flow_namespace.OWN_PORT)
                continue
            if len(self.fabric.members) > 1:
                self.fabric.frame(self, data)
            if not vport.flags.get('disable_mc_local_lb' if multicast else 'disable_uc_local_lb'):
                self._received(data, delivery.packet.sqn, domain, goes_on=True)

    def _switch(self, frame: bytes, sqn: int, domain: int | None, port: int) -> None:
        """A frame through the switch, whose tables say where it goes: to the wire, to the function,
        or nowhere.

        :param port: virtual port that it comes from.
        """
        packet = Packet(frame, sqn)
        packet.source_port = port
        for delivery in self.steering.walk(flow_namespace.FDB, packet,
                                           port == flow_namespace.OWN_PORT):
            if delivery.vport == flow_namespace.OWN_PORT:
                self._received(delivery.packet.data, sqn, domain, port, True)
            elif delivery.vport == flow_namespace.UPLINK != port and len(self.fabric.members) > 1:
                self.fabric.frame(self, delivery.packet.data)

    def receive_frame(self, frame: bytes) -> None:
        """A frame arrives from another port."""
        outermost = self._begin()
        try:
            if flow_namespace.FDB in self.card.flow_roots:
                self._switch(frame, 0, None, flow_namespace.UPLINK)
            else:
                self._received(frame, 0, None)
        finally:
            self._done(outermost)

    def _received(self, frame: bytes, sqn: int, domain: int | None,
                  port: int = flow_namespace.OWN_PORT, goes_on: bool = False) -> None:
        packet = Packet(frame, sqn)
        packet.source_port = port
        for delivery in self.steering.walk(flow_namespace.NIC_RX, packet, goes_on):
            if delivery.tir is not None:
                self.card.vport.count(
                    f'received_eth_{"multicast" if frame and frame[0] & 1 else "unicast"}',
                    len(frame))
                self.ethernet.deliver(delivery.tir, delivery.packet, domain)


__all__ = ['DataPath', 'dct']
