# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Packets through the steering table entries that software wrote into ICM.

Nothing in that memory is trusted: a wild address, an entry that makes no sense or leads in a
circle, and too much work drop the packet.
"""
from typing import TYPE_CHECKING

from ...firmware.firmware_icm import ADDRESS_BITS, GVMI_SHIFT, Place, place
from ...prm.ste_layouts import STE_SIZE
from ..packet import Packet
from . import v0, v1
from .fields import PacketFields
from .format import Format, SteError, Visit

if TYPE_CHECKING:
    from ...card import Card

#: steering_format_version: format.
FORMATS: dict[int, Format] = {0: v0.FORMAT, 1: v1.FORMAT, 2: v1.FORMAT_V2}
#: What one packet may cost, its copies together: bytes touched.  An entry costs as much as a
#: kilobyte.
MAX_WORK, ENTRY_WORK = 4 << 20, 1 << 10
_ADDRESS = (1 << ADDRESS_BITS) - 1


class SteWalker:
    """Walks for one function."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self.format = FORMATS[card.caps.get('steering_format_version')]
        self.vhca_id = card.caps.get('vhca_id')
        #: Packets that were dropped for what was written in entries, and why the last one was.
        self.bad, self.why = 0, ''
        self.work = 0

    def begin(self) -> None:
        """A new packet: it may cost what every packet may."""
        self.work = MAX_WORK

    def walk(self, root: int, packet: Packet, rx: bool) -> Place | None:
        """Take a packet from an entry to what firmware owns.

        :param root: ICM address of the first entry.
        :param rx: whether it is a receive domain.
        :return: where it gets to; None when it is dropped because an entry is no good.
        """
        visit = Visit(self.card, packet, PacketFields(self.card, packet, rx), rx)
        visit.work = self.work
        address = self.vhca_id << GVMI_SHIFT | root & _ADDRESS
        try:
            while True:
                if address >> ADDRESS_BITS != self.vhca_id << GVMI_SHIFT - ADDRESS_BITS:
                    raise SteError(f"address {address:#x} is not this function's")
                target = place(address & _ADDRESS)
                if target is not None:
                    return target
                visit.spend(ENTRY_WORK)
                address = self._entry(visit.icm(address & _ADDRESS, STE_SIZE), visit)
        except SteError as e:
            self.bad, self.why = self.bad + 1, str(e)
            return None
        finally:
            self.work = max(0, visit.work)

    def _entry(self, raw: bytes, visit: Visit) -> int:
        """One entry; the address where the packet goes on."""
        if not self.format.matches(raw, visit):
            return self.format.miss(raw)
        # A table is hashed by the packet as it came, before the entry's actions.
        address = self.format.next_table(raw, visit)
        number = self.format.counter(raw)
        if number:
            counters = self.card.flow_counters.space.lookup(number)
            if counters is not None:
                counters.count(number, len(visit.packet.data))
        self.format.act(raw, visit)
        return address
