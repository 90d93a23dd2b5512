# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Software steering: tables whose entries software writes into ICM, and the ICM addresses by which
it points at firmware's objects."""
from typing import TYPE_CHECKING, Any

from .. import prm
from ..firmware import firmware_icm
from ..firmware.dispatch import Command, command
from ..firmware.flow_namespace import FDB, NIC_RX, NIC_TX, UPLINK, properties
from ..firmware.status import Status
from ..prm.ste_layouts import STE_SIZE
from .entries.walk import SteWalker

if TYPE_CHECKING:
    from ..card import Card
    from .packet import Packet

_RECEIVE, _TRANSMIT = 0, 1
#: Kinds of general objects that entries point at.
_KINDS = {firmware_icm.SAMPLER: 'flow_sampler', firmware_icm.METER: 'flow_meter'}


def _root_path(c: prm.View, which: int) -> str:
    """The field of an ICM root; headers since Linux 6.10 have it in a union."""
    name = f'sw_owner_icm_root_{which}'
    return f'sws.{name}' if c.has(f'sws.{name}') else name


def sides(table_type: int) -> dict[int, int]:
    """{side of the table: which of its two ICM roots}: a table of one direction has its root in
    field 0."""
    if table_type == NIC_RX:
        return {_RECEIVE: 0}
    return {_TRANSMIT: 0} if table_type == NIC_TX else {_RECEIVE: 0, _TRANSMIT: 1}


def roots(card: 'Card', table_type: int, c: prm.View) -> tuple[int, int]:
    """Addresses of a new software-owned table's first entries, of its receive and of its transmit
    side.

    :raises Status: BAD_PARAM when the table type has no such tables or an address is no entry of
        allocated steering ICM.
    """
    able = properties(card, table_type)
    if not (able['sw_owner'] or able['sw_owner_v2']):
        raise Status('BAD_PARAM', 'sw_owner')
    if c['log_size'] or c['table_miss_action']:
        raise Status('BAD_PARAM', 'a software-owned flow table has neither size nor miss action')
    out = [0, 0]
    for side, which in sides(table_type).items():
        address = c[_root_path(c, which)]
        icm = card.icm.find(address, STE_SIZE)
        if icm is None or icm.range_name != 'steering' or address % STE_SIZE:
            raise Status('BAD_PARAM', 'sw_owner_icm_root')
        out[side] = address
    return out[0], out[1]


def describe(card: 'Card', table: Any, c: prm.View) -> None:
    """Tell a table's ICM addresses: what software gave, or where entries of software may point at
    firmware's table."""
    able = properties(card, table.table_type)
    if not (able['sw_owner'] or able['sw_owner_v2']):
        return
    for side, which in sides(table.table_type).items():
        if table.icm_roots is not None:
            c[_root_path(c, which)] = table.icm_roots[side]
        else:
            c[_root_path(c, which)] = address_of(card, firmware_icm.TABLE, table.number)
    c['sw_owner'] = int(table.icm_roots is not None)


def address_of(card: 'Card', kind: int, number: int) -> int:
    """ICM address of an object of firmware."""
    return firmware_icm.address_of(card.caps.get('vhca_id'), kind, number)


def tell_tir(card: 'Card', out: prm.View, number: int) -> None:
    """Put a TIR's ICM address into the output of CREATE_TIR, where it is in three pieces."""
    address = address_of(card, firmware_icm.TIR, number)
    out.set(icm_address_63_40=address >> 40, icm_address_39_32=address >> 32 & 0xff,
            icm_address_31_0=address & 0xffffffff)


@command('SYNC_STEERING')
def sync_steering(card: 'Card', cmd: Command) -> None:
    """Entries are read anew for every packet: nothing is left to do."""


class Ways:
    """Where a packet gets to from software's entries."""

    def __init__(self) -> None:
        #: It goes on as it would without tables.
        self.allowed: list[Packet] = []
        self.tirs: list[tuple[Any, Packet]] = []
        self.tables: list[tuple[Any, Packet]] = []
        self.vports: list[tuple[int, Packet]] = []


class SoftwareSteering:
    """Software-owned tables of one function at work."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self.walker = SteWalker(card)

    def begin(self) -> None:
        """A new packet."""
        self.walker.begin()

    def walk(self, table: Any, packet: 'Packet') -> Ways:
        """Take a packet through a software-owned table."""
        ways = Ways()
        rx = table.table_type == NIC_RX or (table.table_type == FDB and
                                            packet.source_port == UPLINK)
        target = self.walker.walk(table.icm_roots[_RECEIVE if rx else _TRANSMIT], packet, rx)
        if target is not None:
            self._arrive(target, packet, rx, table.table_type, ways)
        return ways

    def _arrive(self, target: firmware_icm.Place, packet: 'Packet', rx: bool, table_type: int,
                ways: Ways) -> None:
        kind, number = target
        if kind == firmware_icm.ALLOW_TX and table_type == NIC_TX:
            ways.allowed.append(packet)
        elif kind == firmware_icm.VPORT and table_type == FDB and number & 1 == (_RECEIVE if rx else
                                                                                 _TRANSMIT):
            ways.vports.append((number >> 1, packet))
        elif kind == firmware_icm.TIR and rx and table_type == NIC_RX:
            tir = self.card.tirs.find(number)
            if tir is not None:
                ways.tirs.append((tir, packet))
        elif kind == firmware_icm.TABLE:
            self._to_table(self.card.flow_tables.find(number), packet, table_type, ways)
        elif kind in (firmware_icm.SAMPLER, firmware_icm.METER):
            obj = self.card.general_objects.find(number)
            if obj is None or obj.kind != _KINDS[kind] or obj.table_type != table_type:
                return
            if kind == firmware_icm.SAMPLER:
                if obj.takes():
                    self._to_table(obj.sample, packet.copy(), table_type, ways)
                self._to_table(obj.default, packet, table_type, ways)
            else:
                packet.set_register(f'metadata_reg_c_{obj.register}', obj.color(packet))
                self._to_table(obj.table, packet, table_type, ways)

    @staticmethod
    def _to_table(table: Any, packet: 'Packet', table_type: int, ways: Ways) -> None:
        if table is not None and table.table_type == table_type:
            ways.tables.append((table, packet))
