# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Packets on their way through flow tables, from the root of a namespace to where entries send
them."""
from typing import TYPE_CHECKING, Any, NamedTuple

from ..firmware.flow_namespace import (
    FDB,
    NIC_TX,
    RDMA_RX,
    RDMA_TX,
    TRANSPORT_RX,
    TRANSPORT_TX,
    UPLINK,
)
from . import flow
from .header_rewrite import decapsulate, modify, pop_vlan, push_vlan
from .packet import Packet
from .sw_steering import SoftwareSteering

if TYPE_CHECKING:
    from ..card import Card

#: Groups that one packet may be compared with and tables that it may visit, all its copies
#: together: what a guest's rules may cost.
MAX_LOOKUPS, MAX_VISITS = 16384, 256
#: Places that the copies of one packet may get to.
MAX_COPIES = 1024
#: Namespaces in which a packet goes on that no entry took.
_ALLOWED_BY_DEFAULT = (NIC_TX, RDMA_RX, RDMA_TX, TRANSPORT_RX, TRANSPORT_TX)


class Delivery(NamedTuple):
    """Where a packet goes: to a TIR, or out of the namespace when ``tir`` is None; out of the
    switch by the virtual port."""
    tir: Any
    packet: Packet
    vport: int | None = None


class _TooMuchError(Exception):
    """The packet used up what it may cost."""


class Steering:
    """The flow tables of one function at work."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        #: Packets that were dropped because their rules are too many or lead in a circle.
        self.too_long = 0
        self._lookups = self._visits = self._copies = 0
        self.software = SoftwareSteering(card)

    def walk(self, table_type: int, packet: Packet, goes_on: bool = False) -> list[Delivery]:
        """Take a packet through a namespace.

        :param goes_on: the packet comes from another namespace, and may cost what is left of what
            it may.
        :return: every place that it (or a copy) gets to; empty when it is dropped.
        """
        if not goes_on:
            self._begin()
        root = self.card.flow_roots.get(table_type)
        if root is None:
            return [Delivery(None, packet)] if table_type in _ALLOWED_BY_DEFAULT else []
        out: list[Delivery] = []
        todo: list[tuple[Any, Packet]] = [(root, packet)]
        try:
            while todo:
                table, packet = todo.pop()
                self._table(table, packet, todo, out)
                if len(out) + len(todo) > self._copies:
                    raise _TooMuchError
            self._copies -= len(out)
        except _TooMuchError:
            self.too_long += 1
            return []
        return out

    def _begin(self) -> None:
        self._lookups, self._visits, self._copies = MAX_LOOKUPS, MAX_VISITS, MAX_COPIES
        self.software.begin()

    def _table(self, table: flow.FlowTable, packet: Packet, todo: list[tuple[Any, Packet]],
               out: list[Delivery]) -> None:
        self._visits -= 1
        if self._visits < 0:
            raise _TooMuchError
        if table.icm_roots is not None:
            arrived = self.software.walk(table, packet)
            todo += arrived.tables[::-1]
            out += [Delivery(tir, p) for tir, p in arrived.tirs]
            out += [Delivery(None, p) for p in arrived.allowed]
            out += [Delivery(None, p, vport) for vport, p in arrived.vports]
            return
        entry = self._find(table, packet)
        if entry is None:
            if table.miss is not None:
                todo.append((table.miss, packet))
            elif table.table_type in _ALLOWED_BY_DEFAULT:
                out.append(Delivery(None, packet))
            return
        self._apply(entry, packet)
        if entry.action & flow.DROP:
            return
        ways = [
            d for d in entry.destinations
            if d[0] in (flow.TO_TABLE, flow.TO_TIR, flow.TO_UPLINK, flow.TO_PORT, flow.TO_VPORT)]
        if entry.action & flow.FORWARD and ways:
            # A copy for each; the first is taken up first, which a stack does last.
            for kind, number in reversed(ways):
                mine = packet if (kind, number) == ways[0] else packet.copy()
                if kind == flow.TO_TABLE:
                    target = self.card.flow_tables.find(number)
                    if target is not None:
                        todo.append((target, mine))
                elif kind == flow.TO_TIR:
                    tir = self.card.tirs.find(number)
                    if tir is not None:
                        out.append(Delivery(tir, mine))
                elif kind == flow.TO_VPORT:
                    out.append(Delivery(None, mine, number))
                else:
                    out.append(Delivery(None, mine, UPLINK if table.table_type == FDB else None))
        elif entry.action & flow.ALLOW or table.table_type in _ALLOWED_BY_DEFAULT:
            out.append(Delivery(None, packet))

    def _find(self, table: flow.FlowTable, packet: Packet) -> flow.FlowEntry | None:
        """The entry of the lowest index that matches."""
        best = None
        self._lookups -= len(table.groups)
        if self._lookups < 0:
            raise _TooMuchError
        key = packet.key if table.groups else 0
        for group in table.groups.values():
            indexes = group.by_key.get(key & group.mask)
            if indexes is not None and (best is None or indexes[0] < best):
                best = indexes[0]
        return None if best is None else table.entries[best]

    def _apply(self, entry: flow.FlowEntry, packet: Packet) -> None:
        """Count, then change the packet in the order of the pipeline: tunnel off, tags off,
        headers, tags on, tunnel on."""
        if entry.tag:
            packet.tag = entry.tag
        action = entry.action
        if action & flow.COUNT:
            for number in entry.counters:
                counters = self.card.flow_counters.space.lookup(number)
                if counters is not None:
                    counters.count(number, len(packet.data))
        if action & flow.DECAP:
            decapsulate(packet)
        for bit in (flow.VLAN_POP, flow.VLAN_POP_2):
            if action & bit:
                pop_vlan(packet)
        if entry.modify_header is not None:
            modify(packet, entry.modify_header.actions)
        for ethertype, tci in entry.vlans:
            push_vlan(packet, ethertype, tci)
        if entry.reformat is not None:
            entry.reformat.apply(packet)
