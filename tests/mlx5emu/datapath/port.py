# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""One function's port: who answers at its addresses, and the way of frames through its tables, out
and in."""
from typing import TYPE_CHECKING, Protocol

from ..firmware import flow_namespace
from ..queues.page_fault import PageFaults
from ..steering.packet import Packet
from ..steering.steering import Steering
from .ethernet import EthernetReceiver
from .fabric import Address, Fabric
from .responder import Responder
from .work import Work

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.qp import Qp
    from ..queues.tir import Tis
    from .tag_matching import TagMatching


class Sender(Protocol):
    """What sends a frame: a raw send queue, or a virtqueue."""
    number: int
    tis: 'Tis | None'


class Port:
    """What requesters of this and of other functions see of a function.

    :param fabric: what it is connected to.
    """

    #: Set by the data path, whose requester it needs.
    tag_matching: 'TagMatching'

    def __init__(self, card: 'Card', work: Work, fabric: Fabric) -> None:
        self.card, self.work = card, work
        #: QPs of each multicast group.
        self.groups: dict[bytes, list[Qp]] = {}
        #: The QP0 and QP1 of the port by their number.
        self.special: dict[int, Qp] = {}
        self.page_faults = PageFaults(card)
        self.responder = Responder(self)
        self.steering = Steering(card)
        self.ethernet = EthernetReceiver(self)
        self.fabric = fabric
        fabric.join(self)

    def connect(self, fabric: Fabric) -> None:
        """Leave the fabric that the port is on and join another."""
        self.fabric.leave(self)
        self.fabric = fabric
        fabric.join(self)

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

    def datagram_qp(self, qpn: int) -> 'Qp | None':
        """The UD QP of a number; 0 and 1 are the port's special QPs."""
        return self.special.get(qpn) if qpn < 2 else self.card.qps.find(qpn)

    def multicast_targets(self) -> list['Port']:
        """Every data path that a multicast packet reaches."""
        return list(self.fabric.members)

    def leave(self, gid: bytes, qp: 'Qp') -> None:
        """A QP is no longer in a multicast group."""
        members = self.groups.get(gid, [])
        if qp in members:
            members.remove(qp)
        if not members:
            self.groups.pop(gid, None)

    # ---- frames

    def transmit(self, queue: 'Sender', frame: bytes) -> None:
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
        outermost = self.work.begin()
        try:
            if flow_namespace.FDB in self.card.flow_roots:
                self._switch(frame, 0, None, flow_namespace.UPLINK)
            else:
                self._received(frame, 0, None)
        finally:
            self.work.done(outermost)

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
