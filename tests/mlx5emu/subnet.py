# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""InfiniBand's subnet manager: what it gives a port, and which partitions let packets pass.

Each port finds its LID and its P_Key table set when it comes up; what is assigned later (:func:`assign`) is told to the driver as a
manager's sweep is.  A port keeps its assignment when its function is reset.  On Ethernet there is the default partition alone.
"""
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import prm

if TYPE_CHECKING:
    from .card import Card
    from .datapath import DataPath

#: Membership bit: full members reach each other and limited ones, limited ones reach full ones only.
FULL = 0x8000
DEFAULT = 0xffff
#: Unicast LIDs.
FIRST_LID, LAST_LID = 1, 0xbfff
#: Subtypes of a port change event: another LID, another P_Key table.
_LID_CHANGE, _PKEY_CHANGE = 6, 7
_PORT_1 = bytes(8) + b'\x10'


class Assignment:
    """What a subnet manager gave a port: LID, its own LID, and the P_Keys from index 0 on.

    Every port is a full member of the default partition and of 1; of partition 2 the first port is a full member, the others are
    limited ones.
    """

    def __init__(self, index: int) -> None:
        self.lid, self.sm_lid = FIRST_LID + index, FIRST_LID
        self.pkeys = [DEFAULT, FULL | 1, 2 if index else FULL | 2]


def assign(card: 'Card', lid: int | None = None, pkeys: Sequence[int] | None = None) -> None:
    """Give a port another LID or P_Key table, and tell the driver.

    :param lid: unicast LID, or None.
    :param pkeys: P_Keys from index 0 on, or None; 0 is no P_Key.
    :raises ValueError: a value or a table that cannot be, or the port is not InfiniBand's; nothing is changed.
    """
    if card.link_layer != 'ib':
        raise ValueError('an Ethernet port has no subnet manager')
    if lid is not None and not FIRST_LID <= lid <= LAST_LID:
        raise ValueError(f'LID {lid:#x} is no unicast LID')
    vport = card.vport
    if pkeys is not None and (len(pkeys) > len(vport.pkeys) or any(not 0 <= key <= 0xffff for key in pkeys)):
        raise ValueError(f'a P_Key table has {len(vport.pkeys)} entries of 16 bits')
    if lid is not None:
        card.subnet.lid = vport.lid = lid
        card.post_event(prm.EVENTS['PORT_CHANGE'], _LID_CHANGE, _PORT_1)
    if pkeys is not None:
        card.subnet.pkeys = list(pkeys)
        vport.pkeys = [*pkeys, *[0] * (len(vport.pkeys) - len(pkeys))]
        card.post_event(prm.EVENTS['PORT_CHANGE'], _PKEY_CHANGE, _PORT_1)


def pkey(card: 'Card', index: int) -> int:
    """The P_Key at an index of a port's table; 0 where none is."""
    if card.link_layer != 'ib':
        return DEFAULT
    keys = card.vport.pkeys
    return keys[index] if index < len(keys) else 0


def together(a: int, b: int) -> bool:
    """Whether two P_Keys are of one partition, and one of them a full member's."""
    return bool(a & ~FULL) and not (a ^ b) & ~FULL and bool((a | b) & FULL)


def admits(target: 'DataPath', key: int, index: int) -> bool:
    """Whether a port takes a packet; one that it does not is counted.

    :param key: P_Key in the packet.
    :param index: of the receiving queue's P_Key in the port's table.
    """
    card = target.card
    if card.link_layer != 'ib' or together(key, pkey(card, index)):
        return True
    card.vport.pkey_violations = min(card.vport.pkey_violations + 1, 0xffff)
    return False


def admits_management(target: 'DataPath', key: int) -> bool:
    """Whether a port's QP1 takes a packet: with a P_Key that goes with any of the table."""
    card = target.card
    if card.link_layer != 'ib' or any(together(key, own) for own in card.vport.pkeys):
        return True
    card.vport.pkey_violations = min(card.vport.pkey_violations + 1, 0xffff)
    return False
