# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What lies between ports: who answers at an address.

Every port is on a fabric; one of its own makes a lone function that can talk to itself only.
Functions that join the same fabric reach each other.
"""
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..queues.qp import Qp
    from .port import Port


#: Of a packet for whoever is at the other end of the link.
PERMISSIVE_LID = 0xffff


class Address(NamedTuple):
    """Where a packet is to go: LID on InfiniBand, GID on both, MAC on Ethernet."""
    lid: int
    gid: bytes
    has_gid: bool
    mac: bytes = b''


class Fabric:
    """Ports that reach each other."""

    def __init__(self) -> None:
        self.members: list[Port] = []

    def join(self, member: 'Port') -> None:
        """A port is connected; a card that was reset takes the place that it had."""
        self.members = [m for m in self.members if m.card is not member.card] + [member]

    def leave(self, member: 'Port') -> None:
        """A port is disconnected."""
        if member in self.members:
            self.members.remove(member)

    def route(self, source: 'Port', address: Address) -> 'Port | None':
        """The port at an address; a port's own address is itself."""
        if source.answers(address):
            return source
        for member in self.members:
            if member is not source and member.answers(address):
                return member
        return None

    def frame(self, source: 'Port', frame: bytes) -> None:
        """An Ethernet frame leaves a port: every other port sees it."""
        for member in self.members:
            if member is not source:
                member.receive_frame(frame)


def address_of(qp: 'Qp') -> Address:
    """Where a connected QP's primary path leads."""
    return Address(qp.rlid, qp.rgid, qp.grh)
